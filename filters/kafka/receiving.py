"""Fetch: what consumers are given, receive and CONSUMER spans, and what counts as in flight."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

from filters.kafka.cluster import Handled
from filters.kafka.messages import FEW, Message, Messages
from filters.kafka.messaging import (
    MESSAGE_COUNT,
    Line,
    Messaging,
    message_attributes,
    request_ids,
    text_of,
)
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

    def read(self, line: Line, unread: Unread, now_ns: int, budget: int) -> int:
        """Read on in a response, batch by batch, until about ``budget`` bytes were read.

        Returns how many were, uncompressed. Raises `Malformed`.
        """
        frame = unread.frame
        if not unread.begun:
            unread.begin()
        read = 0
        while read < budget and unread.partitions:
            fetched = unread.partitions[0]
            messages = unread.messages
            if messages is None:
                messages = Messages(self._messaging, line.settings.consumer_spans)
                unread.messages = messages
                unread.at = fetched.start
            before = messages.size
            unread.at = messages.read(frame, unread.at, fetched.end)
            read += messages.size - before
            if unread.at >= fetched.end:
                unread.messages = None
                unread.partitions.popleft()
                self._partition(line, fetched, messages, unread.asked_ns, now_ns)
        return read

    def _partition(
        self, line: Line, fetched: fetch.Fetched, messages: Messages, asked_ns: int, now_ns: int
    ) -> None:
        topic = line.cluster.topic(fetched.topic, fetched.topic_id)
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
                given = self._consumer_span(batch, message)
            if followed:
                # What a message without context causes belongs to the fetch at least.
                self._follow(batch, message, given if given is not None else context)
        if not followed:
            self._follow_all(batch, context)

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
            (MESSAGE_COUNT, messages.count),
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
            self._gaps.received(group, batch.topic, None, right)
        if messages.without:
            self._stats.message(RECEIVE, batch.topic, "without_context", messages.without)
            lost = Occurrence(Gap.CONSUMER_LOST, "none", context.trace_id, batch.now_ns)
            self._gaps.received(group, batch.topic, lost, messages.without)

    def _follow(self, batch: Received, message: Message, context: SpanContext) -> None:
        """One message that may be what the service works on."""
        cause = _cause(batch, context, message.extracted.baggage)
        cause.correlation_ids = request_ids(message.headers)
        self._begin(batch, message.offset, cause)
        content = self._linker.content
        if content.wants(batch.now_ns):
            content.hold(
                cause, content.tokens.read(text_of(message.payload, message.record), batch.now_ns)
            )

    def _consumer_span(self, batch: Received, message: Message) -> SpanContext:
        """The span of a single message, below its producer's."""
        messaging = self._messaging
        parent = message.extracted.context
        request = messaging.sampling_request(RECEIVE, batch.topic)
        context, action = messaging.contexts.received(message.extracted, request)
        if action is Action.DROP:
            return context
        extra = (*batch.group_attributes(), ("meshproxy.propagation", "ok" if parent else "root"))
        if parent is None:
            extra += (("meshproxy.gap", Gap.CONSUMER_LOST.value),)
        shape = messaging.shape(
            batch.line.origin, RECEIVE, Kind.CONSUMER, batch.topic, batch.partition, extra, ""
        )
        shape.series.observe(0.0)  # a moment, as the span is
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

    def _follow_all(self, batch: Received, context: SpanContext) -> None:
        """Many messages, together what the service works on."""
        cause = _cause(batch, context, b"")
        cause.many = True
        known = {each.context.trace_id: None for each in batch.messages.contexts if each.context}
        cause.traces = tuple(known)
        self._begin(batch, batch.messages.last_offset, cause)

    def _begin(self, batch: Received, offset: int, cause: Cause) -> None:
        """From now on the service may be working on it."""
        self._linker.begin(cause, batch.now_ns)
        self._stats.messages_in_flight += 1
        partition = (batch.topic, batch.partition)
        batch.line.cluster.handle(partition, Handled(batch.group, offset, cause, batch.now_ns))


def _cause(batch: Received, context: SpanContext, baggage: bytes) -> Cause:
    cause = Cause(context, f"{RECEIVE} {batch.topic}", batch.now_ns, b"", baggage)
    cause.carrier = batch.line.passage
    return cause


class Unread:
    """A response to Fetch that has passed and is to be read, or the rest of it.

    It was asked for at ``asked_ns``, Unix nanoseconds. ``partitions`` are those that are left, once
    it has ``begun``; of the first, what was read so far is in ``messages``, up to ``at``.
    """

    __slots__ = ("asked_ns", "at", "begun", "frame", "messages", "partitions", "version")

    def __init__(self, frame: bytes, version: int, asked_ns: int) -> None:
        self.frame = frame
        self.version = version
        self.asked_ns = asked_ns
        self.begun = False
        self.partitions: deque[fetch.Fetched] = deque()
        self.messages: Messages | None = None
        self.at = 0

    def begin(self) -> None:
        """Find the partitions. Raises `Malformed`."""
        self.begun = True
        for fetched in fetch.read_response(self.frame, self.version):
            if fetched.end > fetched.start:
                self.partitions.append(fetched)


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
