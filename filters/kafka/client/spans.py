"""Names and attributes of messaging spans (OpenTelemetry conventions, "Kafka")."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from enum import Enum
from types import TracebackType
from typing import Any, Final

from aiokafka.errors import BrokerResponseError
from aiokafka.structs import ConsumerRecord, TopicPartition

from filters.kafka.client.headers import extract
from meshproxy.inprocess.tracer import Failure, Tracer
from meshproxy.trace.context import SpanContext
from meshproxy.trace.span import AttributeValue, Kind, Link, SpanShape

log = logging.getLogger(__name__)

Pairs = list[tuple[str, AttributeValue]]

MOST_SHAPES: Final = 1000
"""Remembered of a client, by topic and operation."""

MOST_LINKS: Final = 128
"""On one span; so many OpenTelemetry allows by default."""

LONGEST_KEY: Final = 256
"""Characters of a message key that become an attribute."""


class Operation(Enum):
    """What a span is about: ``messaging.operation.name`` and ``.type``."""

    SEND = ("send", "send")
    POLL = ("poll", "receive")
    PROCESS = ("process", "process")


class Harmless:
    """A ``with`` block whose errors are logged, and never become the application's.

    ``loss`` says what is missing then. May be entered again and again, by all threads.
    """

    __slots__ = ("_loss",)

    def __init__(self, loss: str) -> None:
        self._loss = loss

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        if not isinstance(error, Exception):
            return False
        log.error(self._loss, exc_info=error)
        return True


class Messaging:
    """What the spans of one client have in common.

    ``client`` is its AIOKafkaClient, None for messages that came out of nowhere.
    """

    def __init__(self, tracer: Tracer, client: Any = None, group: str | None = None) -> None:
        self.tracer = tracer
        self._client = client
        self._common: Pairs = [("messaging.system", "kafka")]
        client_id = getattr(client, "_client_id", None)
        if client_id:
            self._common.append(("messaging.client.id", str(client_id)))
        self._of_group: Pairs = [("messaging.consumer.group.name", group)] if group else []
        self._shapes: dict[tuple[Operation, str, Kind], SpanShape] = {}

    def shape(self, operation: Operation, topic: str, kind: Kind) -> SpanShape:
        """Name, kind and common attributes; ``topic`` is empty for several of them."""
        key = (operation, topic, kind)
        shape = self._shapes.get(key)
        if shape is None:
            name, operation_type = operation.value
            pairs: Pairs = [
                *self._common,
                ("messaging.operation.name", name),
                ("messaging.operation.type", operation_type),
                *(self._of_group if operation is not Operation.SEND else ()),
            ]
            if topic:
                pairs.append(("messaging.destination.name", topic))
            if len(self._shapes) >= MOST_SHAPES:
                self._shapes.clear()
            shape = self._shapes[key] = SpanShape(f"{name} {topic}".rstrip(), kind, pairs)
        return shape

    def partition(self, topic: str, partition: int) -> Pairs:
        """The partition, and the broker that leads it as far as the client knows."""
        pairs: Pairs = [("messaging.destination.partition.id", str(partition))]
        cluster = getattr(self._client, "cluster", None)
        if cluster is not None:
            leader = cluster.leader_for_partition(TopicPartition(topic, partition))
            broker = cluster.broker_metadata(leader) if leader is not None else None
            if broker is not None:
                pairs += [("server.address", broker.host), ("server.port", broker.port)]
        return pairs

    def record(self, record: ConsumerRecord) -> Pairs:
        """What can be said of one record that was received."""
        pairs = self.partition(record.topic, record.partition)
        pairs.append(("messaging.kafka.offset", record.offset))
        # Deserialisers may make something of nothing; the size tells what it was.
        return pairs + content(record.key, record.serialized_value_size < 0)


def content(key: object, tombstone: bool) -> Pairs:
    """Key and tombstone; a key without a canonical text is left out, as the conventions ask."""
    pairs: Pairs = []
    text = _text(key)
    if text is not None:
        pairs.append(("messaging.kafka.message.key", text[:LONGEST_KEY]))
    if tombstone:
        pairs.append(("messaging.kafka.message.tombstone", True))
    return pairs


def of_many(messaging: Messaging, records: Sequence[ConsumerRecord]) -> tuple[str, Pairs]:
    """The topic of some records if they have only one, and their attributes as a batch."""
    partitions = {(record.topic, record.partition) for record in records}
    topics = {topic for topic, _ in partitions}
    pairs: Pairs = [("messaging.batch.message_count", len(records))]
    if len(partitions) == 1:
        pairs += messaging.partition(*partitions.pop())
    return (topics.pop() if len(topics) == 1 else "", pairs)


def links_to_producers(records: Iterable[ConsumerRecord]) -> list[Link]:
    """A link to each context that the records carry."""
    found: dict[SpanContext, None] = {}
    for record in records:
        context = extract(record.headers).context
        if context is not None:
            found[context] = None
            if len(found) == MOST_LINKS:
                break
    return [Link(context) for context in found]


def failure(error: BaseException) -> Failure:
    """Describe an error: brokers' errors by the protocol's names, others by their class."""
    if isinstance(error, BrokerResponseError):
        return Failure(str(error.message), str(error))
    kind = type(error)
    module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    return Failure(f"{module}{kind.__qualname__}", str(error))


def _text(key: object) -> str | None:
    if isinstance(key, str):
        return key
    if isinstance(key, bytes | bytearray):
        try:
            return key.decode()
        except UnicodeDecodeError:
            return None
    return str(key) if type(key) is int else None
