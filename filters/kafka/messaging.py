"""What both directions work with: contexts in record headers, span shapes, counters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from filters.kafka.batches import Origin
from filters.kafka.cluster import Cluster
from filters.shared import Contexts, Pairs
from meshproxy.config.model import Kafka
from meshproxy.filter import Environment, Passage
from meshproxy.stats import Series
from meshproxy.trace.context import SpanContext
from meshproxy.trace.propagator import Extracted, Propagator
from meshproxy.trace.sampling import Action, SamplingRequest
from meshproxy.trace.span import AttributeValue, Kind, Span, SpanShape
from meshproxy.wire.kafka.batches import Record, headers
from meshproxy.wire.kafka.splice import Addition

CARRIED: Final = Propagator.fields - {b"tracestate", b"baggage"}
"""Lower-case names of headers in which a record carries a context."""

REQUEST_IDS: Final = frozenset({b"x-request-id", b"x-correlation-id", b"kafka_correlationid"})
"""Lower-case names of headers by which an application may know a message."""

READ_BYTES: Final = 1024
"""Bytes of a message's key, and of its value, that are looked at for rare words."""

LONGEST_KEY: Final = 256
"""Bytes of a message key that become an attribute."""

REMEMBERED_SHAPES: Final = 2000

Key = tuple[object, ...]


class Line:
    """What is the same for all that passes one connection."""

    __slots__ = ("cluster", "origin", "passage", "settings")

    def __init__(self, passage: Passage, cluster: Cluster, settings: Kafka) -> None:
        self.passage = passage
        self.cluster = cluster
        self.settings = settings
        self.origin = Origin("", passage.destination, passage.peer)

    def named(self, client_id: str) -> None:
        """The client calls itself so."""
        if client_id != self.origin.client_id:
            self.origin = Origin(client_id, self.passage.destination, self.passage.peer)


class Shape:
    """A span shape, and the statistics that go with it."""

    __slots__ = ("series", "span")

    def __init__(self, span: SpanShape, series: Series) -> None:
        self.span = span
        self.series = series


class Messaging:
    """The parts that the filter works with, made of one configuration."""

    def __init__(self, environment: Environment) -> None:
        propagation = environment.config.propagation
        self.environment = environment
        self.contexts = Contexts(environment)
        self.stats = environment.stats
        self.linker = environment.linker
        self._propagator = Propagator(propagation.extract, propagation.inject)
        self._shapes: dict[Key, Shape] = {}

    # Contexts in records

    def addition(self, context: SpanContext, baggage: bytes) -> Addition:
        """The headers that name ``context`` as the parent of what a message causes."""
        pairs = self._propagator.inject(context, None)
        if baggage:
            pairs.append((b"baggage", baggage))
        return Addition(pairs)

    def extract(self, pairs: Sequence[tuple[bytes, bytes]]) -> Extracted:
        """What the headers of a record say of its trace."""
        fields: dict[bytes, list[bytes]] = {}
        for name, value in pairs:
            fields.setdefault(name.lower(), []).append(value)
        return self._propagator.extract(fields)

    def sampling_request(self, operation: str, topic: str) -> SamplingRequest | None:
        """What sampling rules look at: a route such as ``send orders``; None without rules."""
        if not self.contexts.sampler.reads_requests:
            return None
        return SamplingRequest(operation, "", topic, {})

    # Spans

    def shape(
        self,
        origin: Origin,
        operation: str,
        kind: Kind,
        topic: str,
        partition: int,
        extra: tuple[tuple[str, AttributeValue], ...],
        error: str,
    ) -> Shape:
        """What spans of an operation on a partition have in common."""
        key = (operation, kind, topic, partition, extra, error, origin.client_id,
               origin.destination)  # fmt: skip
        found = self._shapes.get(key)
        if found is None:
            if len(self._shapes) >= REMEMBERED_SHAPES:
                self._shapes.clear()
            pairs = _attributes(origin, operation, topic, partition)
            pairs += extra
            if error:
                pairs.append(("error.type", error))
            series = self.stats.requests("outbound", operation, topic, error or "ok")
            shape = SpanShape(f"{operation} {topic}", kind, pairs)
            found = self._shapes[key] = Shape(shape, series)
        return found

    def emit(self, span: Span, action: Action, failed: bool = False) -> None:
        """Give a finished span to the exporters, if it is to be kept."""
        if self.contexts.keeps(action, failed):
            self.environment.emit(span)


MESSAGE_COUNT: Final = "messaging.batch.message_count"
OPERATION_TYPES: Final = {"send": "send", "poll": "receive", "receive": "receive"}


def _attributes(origin: Origin, operation: str, topic: str, partition: int) -> Pairs:
    host, port = origin.destination
    pairs: Pairs = [
        ("messaging.system", "kafka"),
        ("messaging.operation.name", operation),
        ("messaging.operation.type", OPERATION_TYPES[operation]),
        ("messaging.destination.name", topic),
        ("messaging.destination.partition.id", str(partition)),
        ("server.address", host),
        ("server.port", port),
    ]
    if origin.client_id:
        pairs.append(("messaging.client.id", origin.client_id))
    if origin.peer:
        pairs.append(("peer.service", origin.peer))
    return pairs


def message_attributes(payload: bytes, record: Record) -> Pairs:
    """The attributes of a single message, without its offset."""
    pairs: Pairs = []
    if record.key_end >= 0 and record.key_end - record.key_at <= LONGEST_KEY:
        key = payload[record.key_at : record.key_end]
        try:
            pairs.append(("messaging.kafka.message.key", key.decode()))
        except UnicodeDecodeError:
            pairs.append(("messaging.kafka.message.key", key.hex()))
    if record.value_end < 0:
        pairs.append(("messaging.kafka.message.tombstone", True))
    return pairs


def request_ids(pairs: Sequence[tuple[bytes, bytes]]) -> tuple[bytes, ...]:
    """By what an application may know a message, of its headers."""
    found: list[bytes] = []
    for name, value in pairs:
        if value and name.lower() in REQUEST_IDS and value not in found:
            found.append(value)
    return tuple(found)


def has_context(payload: bytes, record: Record) -> bool:
    """Whether a record carries a context, good or bad."""
    if record.header_count == 0:
        return False
    return any(name.lower() in CARRIED for name, _ in headers(payload, record))


def text_of(payload: bytes, record: Record) -> bytes:
    """What of a message is worth reading for rare words: the beginnings of its key and value."""
    key = payload[record.key_at : record.key_end] if record.key_end >= 0 else b""
    end = min(record.value_end, record.value_at + READ_BYTES)
    return key[:READ_BYTES] + b" " + payload[record.value_at : max(end, record.value_at)]
