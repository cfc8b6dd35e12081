"""Record batches on their way to a broker, and the spans that wait for its answer."""

from __future__ import annotations

from filters.shared import Pairs
from meshproxy.linking.call import Decision
from meshproxy.trace.context import SpanContext
from meshproxy.trace.sampling import Action
from meshproxy.wire.kafka.batches import BatchHead
from meshproxy.wire.kafka.splice import Addition

Identity = tuple[str, int, int, int, int, int]
"""Topic and partition, and what a client repeats when it sends the same batch again."""


def identity_of(topic: str, partition: int, head: BatchHead) -> Identity:
    """What tells a batch from all others: its sequence number, or else its content and time."""
    if head.producer_id >= 0 and head.base_sequence >= 0:
        # With the content: a client may split a batch that was too large.
        return (topic, partition, head.producer_id, head.producer_epoch, head.base_sequence,
                head.crc)  # fmt: skip
    return (topic, partition, -1, head.crc, head.count, head.base_timestamp)


class Origin:
    """Which client talks to which broker. ``peer`` is the broker's configured name, or empty."""

    __slots__ = ("client_id", "destination", "peer")

    def __init__(self, client_id: str, destination: tuple[str, int], peer: str) -> None:
        self.client_id = client_id
        self.destination = destination
        self.peer = peer


class Sending:
    """One span: for a batch, or for a record of it. ``offset`` is the record's in the batch.

    ``pairs`` are attributes of the one message that it is about.
    """

    __slots__ = ("action", "carried", "context", "decision", "offset", "pairs")

    def __init__(
        self, decision: Decision, context: SpanContext, action: Action, offset: int, pairs: Pairs
    ) -> None:
        self.decision = decision
        self.context = context
        self.action = action
        self.offset = offset
        self.pairs = pairs
        self.carried: SpanContext | None = None


class Batch:
    """A record batch on its way.

    ``spans`` is empty when all records carried a context of their own, and once the spans are
    finished. ``additions`` are the headers with the contexts of the spans, one for all records or
    one for each, empty if nothing is to be added; ``injected`` tells whether they went out.
    ``settled``: no client sends it again, as far as that can be known.
    ``size`` is how large the batch was when it went out, in bytes.
    ``failure`` is the last error, by name, and ``failed_ns`` when that was.
    """

    __slots__ = ("additions", "attempts", "count", "failed_ns", "failure",
                 "identity", "injected", "origin", "partition", "settled", "size", "spans",
                 "start_ns", "topic")  # fmt: skip

    def __init__(
        self,
        origin: Origin,
        topic: str,
        partition: int,
        identity: Identity,
        count: int,
        start_ns: int,
    ) -> None:
        self.origin = origin
        self.size = 0
        self.topic = topic
        self.partition = partition
        self.identity = identity
        self.count = count
        self.start_ns = start_ns
        self.spans: list[Sending] = []
        self.additions: list[Addition] = []
        self.injected = False
        self.settled = False
        self.attempts = 0
        self.failure = ""
        self.failed_ns = 0

    @property
    def is_idempotent(self) -> bool:
        """Whether the broker knows it by a sequence number."""
        return self.identity[2] >= 0
