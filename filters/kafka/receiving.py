"""Fetch: what consumers are given, receive and CONSUMER spans, and what counts as in flight."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from filters.kafka.cluster import Handled
from filters.kafka.messages import FEW, Message, Messages
from filters.kafka.messaging import Line, Messaging, message_attributes, request_ids, text_of
from filters.shared import Pairs, new_flags
from meshproxy.linking.gaps import Gap, Occurrence
from meshproxy.linking.inflight import Cause
from meshproxy.trace.context import SpanContext
from meshproxy.trace.sampling import Action
from meshproxy.trace.span import Kind, Link, Span
from meshproxy.wire.kafka import fetch

POLL: Final = "poll"
RECEIVE: Final = "receive"

UNKNOWN_GROUP: Final = "(unknown group)"


class Receiving:
    """Reads what consumers are given, after they have it."""

    def __init__(self, messaging: Messaging) -> None:
        self._messaging = messaging
        self._stats = messaging.stats
        self._linker = messaging.linker
        self._gaps = messaging.environment.gaps

    def read(self, line: Line, frame: bytes, version: int, asked_ns: int, now_ns: int) -> None:
        """A response to Fetch has passed; it was asked for at ``asked_ns``. Raises `Malformed`."""
        for fetched in fetch.read_response(frame, version):
            if fetched.end > fetched.start:
                self._partition(line, frame, fetched, asked_ns, now_ns)

    def _partition(
        self, line: Line, frame: bytes, fetched: fetch.Fetched, asked_ns: int, now_ns: int
    ) -> None:
        topic = line.cluster.topic(fetched.topic, fetched.topic_id)
        messages = Messages(self._messaging, line.settings.consumer_spans)
        messages.read(frame, fetched.start, fetched.end)
        if messages.unread:
            self._stats.message(RECEIVE, topic, "unread_batch", messages.unread)
        if messages.old:
            self._stats.message(RECEIVE, topic, "old_format_batch", messages.old)
        if messages.count:
            batch = Received(line, topic, fetched.partition, messages, asked_ns, now_ns)
            self._receive(batch)

    def _receive(self, batch: Received) -> None:
        messages = batch.messages
        context, action = self._context(batch)
        if action is not Action.DROP:
            self._emit_poll(batch, context, action)
        self._count(batch, context)
        followed = messages.count <= FEW
        for message in messages.single:
            given = message.extracted.context
            if batch.line.settings.consumer_spans:
                given = self._consumer_span(batch, message, given)
            if followed:
                # What a message without context causes belongs to the fetch at least.
                self._follow(batch, message, given if given is not None else context)
        if not followed:
            self._begin(batch, messages.last_offset, context, b"", ())

    def _context(self, batch: Received) -> tuple[SpanContext, Action]:
        """A receive span begins a trace of its own, kept if one that it links to is."""
        contexts = self._messaging.contexts
        request = self._messaging.sampling_request(POLL, batch.topic)
        context, action = contexts.root(request)
        linked = batch.messages.contexts
        if linked and action is not Action.DROP:
            sampled = any(each.context is not None and each.context.sampled for each in linked)
            flags = new_flags(None, sampled)
            context = SpanContext(context.trace_id, context.span_id, flags)
            action = Action.SAMPLE if sampled else Action.RECORD_ONLY
        return context, action

    def _emit_poll(self, batch: Received, context: SpanContext, action: Action) -> None:
        messages = batch.messages
        extra = batch.group_attributes()
        if messages.without:
            extra += (("meshproxy.gap", Gap.CONSUMER_LOST.value),)
        shape = self._messaging.shape(
            batch.line.origin, POLL, Kind.CLIENT, batch.topic, batch.partition, extra, ""
        )
        shape.series.observe((batch.now_ns - batch.asked_ns) / 1e9)
        pairs: Pairs = [
            ("messaging.batch.message_count", messages.count),
            ("messaging.kafka.offset", messages.first_offset),
        ]
        links = [Link(each.context) for each in messages.contexts if each.context is not None]
        span = Span(
            shape.span, context, b"", batch.asked_ns, batch.now_ns, pairs,
            parent_remote=False, links=links,
        )  # fmt: skip
        self._messaging.emit(span, action)

    def _count(self, batch: Received, context: SpanContext) -> None:
        messages = batch.messages
        right = messages.count - messages.without
        group = batch.group or UNKNOWN_GROUP
        if right:
            self._stats.message(RECEIVE, batch.topic, "with_context", right)
            self._gaps.call(group, batch.topic, None, right)
        if messages.without:
            self._stats.message(RECEIVE, batch.topic, "without_context", messages.without)
            lost = Occurrence(Gap.CONSUMER_LOST, "none", context.trace_id, batch.now_ns)
            self._gaps.call(group, batch.topic, lost, messages.without)

    def _follow(self, batch: Received, message: Message, context: SpanContext) -> None:
        """One message that may be what the service works on."""
        ids = request_ids(message.headers)
        cause = self._begin(batch, message.offset, context, message.extracted.baggage, ids)
        content = self._linker.content
        if content.wants(batch.now_ns):
            content.hold(
                cause, content.tokens.read(text_of(message.payload, message.record), batch.now_ns)
            )

    def _consumer_span(
        self, batch: Received, message: Message, parent: SpanContext | None
    ) -> SpanContext:
        """The span of a single message, below its producer's."""
        messaging = self._messaging
        if parent is None:
            request = messaging.sampling_request(RECEIVE, batch.topic)
            context, action = messaging.contexts.root(request)
        else:
            context, action = messaging.contexts.child(parent)
        if action is Action.DROP:
            return context
        extra = (*batch.group_attributes(), ("meshproxy.propagation", "ok" if parent else "root"))
        if parent is None:
            extra += (("meshproxy.gap", Gap.CONSUMER_LOST.value),)
        shape = messaging.shape(
            batch.line.origin, RECEIVE, Kind.CONSUMER, batch.topic, batch.partition, extra, ""
        )
        pairs = message_attributes(message.payload, message.record)
        pairs.append(("messaging.kafka.offset", message.offset))
        pairs += message.extracted.attributes
        span = Span(
            shape.span, context, parent.span_id if parent is not None else b"",
            batch.now_ns, batch.now_ns, pairs,
        )  # fmt: skip
        messaging.emit(span, action)
        return context

    def done(self, causes: Sequence[Cause], now_ns: int) -> None:
        """The service has done with these."""
        for cause in causes:
            self._linker.end(cause, now_ns)
        self._stats.messages_in_flight -= len(causes)

    def _begin(
        self,
        batch: Received,
        offset: int,
        context: SpanContext,
        baggage: bytes,
        ids: tuple[bytes, ...],
    ) -> Cause:
        """From now on the service may be working on it."""
        cause = Cause(context, f"{RECEIVE} {batch.topic}", batch.now_ns, b"", baggage)
        cause.correlation_ids = ids
        cause.carrier = batch.line.passage
        self._linker.begin(cause, batch.now_ns)
        self._stats.messages_in_flight += 1
        partition = (batch.topic, batch.partition)
        batch.line.cluster.handle(partition, Handled(batch.group, offset, cause, batch.now_ns))
        return cause


class Received:
    """What one fetch brought of one partition. Times are Unix nanoseconds."""

    __slots__ = ("asked_ns", "group", "line", "messages", "now_ns", "partition", "topic")

    def __init__(
        self,
        line: Line,
        topic: str,
        partition: int,
        messages: Messages,
        asked_ns: int,
        now_ns: int,
    ) -> None:
        self.line = line
        self.topic = topic
        self.partition = partition
        self.messages = messages
        self.asked_ns = asked_ns
        self.now_ns = now_ns
        self.group = line.cluster.group(line.origin.client_id)

    def group_attributes(self) -> tuple[tuple[str, str], ...]:
        """The consumer group, if it is known."""
        return (("messaging.consumer.group.name", self.group),) if self.group else ()
