"""From a message to be sent to its span: what is injected, and what the broker's answer adds."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import Any, Final

from aiokafka.structs import RecordMetadata

from filters.kafka.client.headers import Header, carries_context, extract, with_context
from filters.kafka.client.interceptors import ProducerRecord
from filters.kafka.client.spans import MOST_LINKS, Messaging, Operation, Pairs, content, failure
from meshproxy.inprocess.context import Current, parent
from meshproxy.inprocess.tracer import Started
from meshproxy.trace.context import SpanContext
from meshproxy.trace.span import Kind, Link

BEHIND_SIDECAR: Final = "MESHPROXY_KAFKA_SIDECAR"
"""Set to 1 where the wire filter stands in between: it does what only it can know."""

log = logging.getLogger(__name__)


class Delivery:
    """The span of a message or batch on its way to the broker."""

    __slots__ = ("_attributes", "_links", "_messaging", "_shape_kind", "_started", "_topic")

    def __init__(
        self,
        messaging: Messaging,
        started: Started,
        topic: str,
        kind: Kind,
        attributes: Pairs,
        links: Sequence[Link] = (),
    ) -> None:
        self._messaging = messaging
        self._started = started
        self._topic = topic
        self._shape_kind = kind
        self._attributes = attributes
        self._links = links

    def ended(self, metadata: RecordMetadata | None, error: BaseException | None) -> None:
        """The broker has answered, or will not be asked any more. Never raises."""
        try:
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
    """

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._origin: Current | None = None
        self._links: dict[SpanContext, None] = {}
        self.started: Started | None = None

    @property
    def links(self) -> list[Link]:
        """Links for the batch's span."""
        return [Link(context) for context in self._links]

    def headers(self, headers: Sequence[Header]) -> tuple[list[Header], SpanContext | None]:
        """Headers for a message, and what the batch's span is to be linked to if it is added."""
        own = list(headers)
        if carries_context(own):
            return own, extract(own).context
        current = parent()
        if self.started is None:
            if self._outbox.leaves(current):
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
    """Starts the spans of one producer's messages."""

    def __init__(self, messaging: Messaging) -> None:
        self.messaging = messaging
        self._behind_sidecar = os.environ.get(BEHIND_SIDECAR) == "1"

    def leaves(self, current: Current | None) -> bool:
        """Whether a message without a cause is left to the sidecar, which may know one."""
        return current is None and self._behind_sidecar

    def message(self, record: ProducerRecord) -> tuple[Delivery | None, list[Header]]:
        """Start the span of a message; gives it and the headers to send. Never raises."""
        headers = list(record.headers)
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
        pairs = content(record.key, record.value is None)
        if not carries_context(headers):
            baggage = current.baggage if current is not None else b""
            headers = with_context(headers, started.context, baggage)
            return Delivery(self.messaging, started, record.topic, Kind.PRODUCER, pairs), headers
        # What a message is named by does not change any more: the span is linked to it instead.
        carried = extract(headers).context
        links = [Link(carried)] if carried is not None else []
        return Delivery(self.messaging, started, record.topic, Kind.CLIENT, pairs, links), headers

    def batch(self) -> Contents:
        """A batch is begun."""
        return Contents(self)

    def batch_sent(self, contents: Contents | None, batch: Any, topic: str) -> Delivery | None:
        """A batch is sent: its span begins. Never raises.

        None for a batch that is empty, or left to the sidecar.
        """
        try:
            tracer = self.messaging.tracer
            count = batch.record_count()
            if not count:
                return None
            injected = contents.started if contents is not None else None
            if injected is None and self.leaves(parent()):
                return None
            started = injected or tracer.below(parent())
            started.start_ns = tracer.now_ns()
            kind = Kind.PRODUCER if injected is not None else Kind.CLIENT
            pairs: Pairs = [("messaging.batch.message_count", count)]
            links = contents.links if contents is not None else ()
            return Delivery(self.messaging, started, topic, kind, pairs, links)
        except Exception:
            log.exception("a batch is sent without a span")
            return None
