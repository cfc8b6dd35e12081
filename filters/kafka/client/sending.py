"""From a message to be sent to its span: what is injected, and what the broker's answer adds."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import Any, Final

from aiokafka.errors import MessageSizeTooLargeError
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.structs import RecordMetadata

from filters.kafka.client.headers import Header, carries_context, extract, with_context
from filters.kafka.client.interceptors import ProducerRecord
from filters.kafka.client.spans import MOST_LINKS, Messaging, Operation, Pairs, content, failure
from meshproxy.inprocess.context import Current, parent
from meshproxy.inprocess.settings import behind_sidecar
from meshproxy.inprocess.tracer import Started
from meshproxy.trace.context import SpanContext
from meshproxy.trace.span import Kind, Link

MOST_TOPICS: Final = 1000
"""With limits that are remembered."""

log = logging.getLogger(__name__)


class Limits:
    """How large messages of a topic may become by what is added to them, in bytes.

    Learnt from refusals of the brokers, to save the attempt. What was refused would have been as
    large as the limit without the addition: either that fits, then so does everything up to the
    limit, or the message was too large anyway.
    """

    def __init__(self) -> None:
        self._known: dict[str, int] = {}

    def of(self, topic: str, configured: int) -> int:
        """The limit of a topic, where ``configured`` is that of the producer."""
        return min(configured, self._known.get(topic, configured))

    def refused(self, topic: str, size: int) -> None:
        """A message was too large for the broker that has this size without the addition."""
        known = self._known
        if topic not in known:
            if len(known) >= MOST_TOPICS:
                del known[next(iter(known))]
            log.warning(
                "a message to %r was too large with its trace context: "
                "from %d bytes on they are sent without",
                topic,
                size,
            )
        known[topic] = min(size, known.get(topic, size))

    def taken(self, topic: str, size: int) -> None:
        """A message of this size went through: one that large may be made."""
        if self._known.get(topic, size) < size:
            self._known[topic] = size


class Delivery:
    """The span of a message or batch on its way to the broker.

    ``added`` is how many headers at the end are not the application's.
    """

    __slots__ = (
        "_attributes", "_limits", "_links", "_messaging", "_own_size", "_shape_kind", "_size",
        "_started", "_topic", "added",
    )  # fmt: skip

    def __init__(
        self,
        outbox: Outbox,
        started: Started,
        topic: str,
        kind: Kind,
        attributes: Pairs,
        links: Sequence[Link] = (),
        added: int = 0,
    ) -> None:
        self._messaging = outbox.messaging
        self._limits = outbox.limits
        self._started = started
        self._topic = topic
        self._shape_kind = kind
        self._attributes = attributes
        self._links = links
        self.added = added
        self._own_size = self._size = 0

    def serialised(
        self, key: bytes | None, value: bytes | None, headers: list[Header], most: int
    ) -> None:
        """The message as it will be sent: takes out of ``headers`` what it has no room for.

        ``most`` is how many bytes the producer sends. Never raises.
        """
        try:
            if value is None:
                self._attributes += content(None, True)
            if not self.added:
                return
            size_of = DefaultRecordBatchBuilder.estimate_size_in_bytes
            own = headers[: -self.added]
            self._own_size = size_of(key, value, own)
            self._size = size_of(key, value, headers)
            if self._size > self._limits.of(self._topic, most):
                headers[:] = own
                self._size = self._own_size
        except Exception:
            log.exception("the size of a message is not known")

    @property
    def span_id(self) -> bytes:
        """What the message names if it carries the span's context."""
        return self._started.context.span_id

    def shed(self, alone: bool) -> None:
        """What was added is not there any more, as the broker found the message too large.

        ``alone``: there was no other in the batch, so that this is learnt from.
        """
        if alone and self._size > self._own_size:
            self._limits.refused(self._topic, self._own_size)
        self._size = self._own_size

    def ended(self, metadata: RecordMetadata | None, error: BaseException | None) -> None:
        """The broker has answered, or will not be asked any more. Never raises."""
        try:
            if error is None:
                self._limits.taken(self._topic, self._size)
            elif isinstance(error, MessageSizeTooLargeError):
                self.shed(alone=True)
            messaging = self._messaging
            pairs = self._attributes
            if metadata is not None:
                pairs += messaging.partition(metadata.topic, metadata.partition)
                pairs.append(("messaging.kafka.offset", metadata.offset))
            messaging.tracer.finish(
                self._started,
                messaging.shape(Operation.SEND, self._topic, self._shape_kind),
                pairs,
                links=self._links,
                error=failure(error) if error is not None else None,
            )
        except Exception:
            log.exception("a send span was lost; the message was not affected")


class Contents:
    """What is known of a batch while it is filled.

    ``started`` is its span, from the first message that gets its context. ``links`` lead to the
    contexts that messages carry already, and to what was current for messages other than the first.
    ``left``: the sidecar makes the span, as the first message without a context had no cause.
    """

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._origin: Current | None = None
        self._links: dict[SpanContext, None] = {}
        self._sent = False
        self.started: Started | None = None
        self.left = False

    @property
    def links(self) -> list[Link]:
        """Links for the batch's span."""
        return [Link(context) for context in self._links]

    def span(self) -> Started | None:
        """The batch's span, for the first time that it is sent: an id names one span only."""
        if self._sent or self.started is None:
            return None
        self._sent = True
        return self.started

    def headers(self, own: list[Header]) -> tuple[list[Header], SpanContext | None]:
        """Headers for a message, and what the batch's span is to be linked to if it is added.

        ``own`` are those that it has. Never raises.
        """
        try:
            return self._headers(own)
        except Exception:
            log.exception("a message of a batch is sent without trace context")
            return own, None

    def _headers(self, own: list[Header]) -> tuple[list[Header], SpanContext | None]:
        if carries_context(own):
            return own, extract(own).context
        current = parent()
        if self.started is None:
            if self.left or self._outbox.leaves(current):
                self.left = True
                return own, None
            self.started = self._outbox.messaging.tracer.below(current)
            self._origin = current
        link = current.context if current is not None else None
        if self._origin is not None and link == self._origin.context:
            link = None
        baggage = current.baggage if current is not None else b""
        return with_context(own, self.started.context, baggage), link

    def added(self, link: SpanContext | None) -> None:
        """A message was added."""
        if link is not None and len(self._links) < MOST_LINKS:
            self._links[link] = None


class Outbox:
    """Starts the spans of one producer's messages; ``under_way`` are those sent, by span id."""

    def __init__(self, messaging: Messaging) -> None:
        self.messaging = messaging
        self.limits = Limits()
        self.under_way: dict[bytes, Delivery] = {}
        self._behind_sidecar = behind_sidecar(os.environ)

    def leaves(self, current: Current | None) -> bool:
        """Whether a message without a cause is left to the sidecar, which may know one."""
        return current is None and self._behind_sidecar

    def message(self, record: ProducerRecord) -> tuple[Delivery | None, list[Header]]:
        """Start the span of a message; gives it and the headers to send. Never raises."""
        headers = list(record.headers or ())
        try:
            return self._message(record, headers)
        except Exception:
            log.exception("a message is sent without trace context")
            return None, headers

    def _message(
        self, record: ProducerRecord, headers: list[Header]
    ) -> tuple[Delivery | None, list[Header]]:
        current = parent()
        if self.leaves(current):
            return None, headers
        started = self.messaging.tracer.below(current)
        pairs = content(record.key, tombstone=False)  # known once the value is serialised
        if not carries_context(headers):
            baggage = current.baggage if current is not None else b""
            outgoing = with_context(headers, started.context, baggage)
            added = len(outgoing) - len(headers)
            return (
                Delivery(self, started, record.topic, Kind.PRODUCER, pairs, added=added),
                outgoing,
            )
        # What a message is named by does not change any more: the span is linked to it instead.
        carried = extract(headers).context
        links = [Link(carried)] if carried is not None else []
        return Delivery(self, started, record.topic, Kind.CLIENT, pairs, links), headers

    def batch(self) -> Contents:
        """A batch is begun."""
        return Contents(self)

    def batch_sent(self, contents: Contents | None, batch: Any, topic: str) -> Delivery | None:
        """A batch is sent: its span begins. Never raises.

        None for a batch that is empty, or left to the sidecar.
        """
        try:
            return self._batch_sent(contents or Contents(self), batch.record_count(), topic)
        except Exception:
            log.exception("a batch is sent without a span")
            return None

    def _batch_sent(self, contents: Contents, count: int, topic: str) -> Delivery | None:
        if not count or contents.left:
            return None
        pairs: Pairs = [("messaging.batch.message_count", count)]
        links = contents.links
        tracer = self.messaging.tracer
        started = contents.span()
        if started is not None:
            started.start_ns = tracer.now_ns()
            return Delivery(self, started, topic, Kind.PRODUCER, pairs, links)
        current = parent()
        if contents.started is not None:  # sent again: what its messages name is another span
            links.insert(0, Link(contents.started.context))
        elif self.leaves(current):
            return None
        return Delivery(self, tracer.below(current), topic, Kind.CLIENT, pairs, links)
