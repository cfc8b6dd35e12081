"""Produce: contexts into records on their way to a broker, and PRODUCER spans by its answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from filters.kafka.batches import Batch, Sending, identity_of
from filters.kafka.messaging import (
    MESSAGE_COUNT,
    Line,
    Messaging,
    has_context,
    message_attributes,
    text_of,
)
from filters.kafka.outgoing import Outgoing, Splicing
from filters.shared import (
    Pairs,
    candidate_links,
    carried_link,
    linked,
    linked_to,
    occurrence,
    tell_failure,
)
from filters.third_parties import ThirdParties
from meshproxy.filter import Failure
from meshproxy.linking.call import Call, Decision
from meshproxy.linking.gaps import Gap
from meshproxy.linking.inflight import Cause
from meshproxy.trace.context import SpanContext
from meshproxy.trace.sampling import Action
from meshproxy.trace.span import Kind, Link, Span
from meshproxy.wire.kafka import errors, produce
from meshproxy.wire.kafka.batches import MAGIC, Record, headers, read_head, read_record, records
from meshproxy.wire.kafka.primitives import Malformed
from meshproxy.wire.kafka.requests import RequestHead
from meshproxy.wire.kafka.splice import Addition

SEND: Final = "send"
CONNECTION_LOST: Final = "connection_lost"
INJECTED: Final = "injected"
CARRYING: Final = "carried"

MOST_READ: Final = 16
"""Records of a batch, at most, for their words to be read: it takes time, and each has its say."""

NEAR_NS: Final = 1_000_000_000
"""A record's time that is farther from now than this is not when it was made, but what it is
about: nanoseconds."""

MILLISECOND: Final = 1_000_000


class Producing:
    """Reads Produce requests, decides who caused their records, and finishes their spans."""

    def __init__(self, messaging: Messaging) -> None:
        self._messaging = messaging
        self._stats = messaging.stats
        self._linker = messaging.linker
        environment = messaging.environment
        self._environment = environment
        self._third_parties = ThirdParties(environment.config.propagation.strip)

    # On the way to the broker

    def begin(self, line: Line, frame: bytes, head: RequestHead, now_ns: int) -> Outgoing:
        """Read a request. Raises `Malformed`."""
        request = produce.read_request(frame, head)
        outgoing = Outgoing(frame, request, now_ns)
        for index, each in enumerate(request.batches):
            if each.end <= each.start:
                continue
            topic = line.cluster.topic(each.topic, each.topic_id)
            try:
                found = read_head(frame, each.start, each.end)
            except Malformed:
                found = None
            if found is None or found.magic != MAGIC or found.end != each.end:
                old = found is not None and found.magic < MAGIC
                self._stats.message(SEND, topic, "old_format" if old else "unparsed")
                continue
            identity = identity_of(topic, each.partition, found)
            batch = line.cluster.sent_before(identity)
            if batch is None:
                batch = Batch(line.origin, topic, each.partition, identity, found.count, now_ns)
            batch.attempts += 1
            outgoing.add(Splicing(index, frame, found, batch))
        return outgoing

    def decide(self, line: Line, outgoing: Outgoing) -> None:
        """Say of each batch what its records are given. Their payloads have been read."""
        for splicing in outgoing.splicings:
            if splicing.batch.attempts == 1 and not splicing.failed and splicing.head.count:
                try:
                    self._decide(line, splicing, outgoing.now_ns)
                except Malformed:
                    splicing.failed = True

    def _decide(self, line: Line, splicing: Splicing, now_ns: int) -> None:
        payload = splicing.payload
        if not line.settings.per_record:
            inflight = self._environment.inflight
            record = read_record(payload, 0, len(payload))
            if inflight.idle or inflight.is_crowd(1):
                # What the context of one record says is not so of those that carry none.
                record = _without_context(payload, splicing.head.count, record)
            self._add(line, splicing, record, now_ns)
            return
        for record in records(payload, splicing.head.count):
            self._add(line, splicing, record, now_ns)

    def _add(self, line: Line, splicing: Splicing, record: Record, now_ns: int) -> None:
        """One more span for a batch, and what its records are given."""
        batch = splicing.batch
        messaging = self._messaging
        payload = splicing.payload
        call = self._call(line, splicing, record, now_ns)
        if has_context(payload, record):
            extracted = messaging.extract(headers(payload, record))
            call.context = extracted.context
            call.w3c = extracted.w3c
            call.baggage = extracted.baggage
            if extracted.context is None:
                call.gap = Gap.DUPLICATED if extracted.duplicated else Gap.MALFORMED
        decision = self._linker.link(call)
        leaves = self._leaves(line)
        if leaves:
            decision.gap = None  # so the service broke nothing by not passing a context on
        request = messaging.sampling_request(SEND, batch.topic)
        context, action = messaging.contexts.of_call(decision, request)
        batch.additions.append(self._addition(decision, context, leaves or action is Action.DROP))
        self._count(batch.topic, decision, context, call)
        pairs: Pairs
        if call.several:
            pairs = [(MESSAGE_COUNT, splicing.head.count)]
        else:
            pairs = message_attributes(payload, record)
        sending = Sending(decision, context, action, record.offset_delta, pairs)
        sending.carried = call.context
        batch.spans.append(sending)

    def _addition(self, decision: Decision, context: SpanContext, without: bool) -> Addition:
        if without:
            return Addition(())
        cause = decision.cause
        return self._messaging.addition(context, cause.baggage if cause is not None else b"")

    def _count(self, topic: str, decision: Decision, context: SpanContext, call: Call) -> None:
        found = occurrence(decision, context, call.context, call.now_ns)
        if found is not None:
            found.message = True
        route = decision.cause.route if decision.cause is not None else ""
        self._environment.gaps.call(route, topic, found)
        result = decision.evidence or decision.propagation
        self._stats.links["contradiction" if decision.contradiction else result] += 1
        self._stats.propagation["outbound", decision.propagation] += 1

    def _call(self, line: Line, splicing: Splicing, record: Record, now_ns: int) -> Call:
        """What the linker is told of a record, or of the batch of which it is the first."""
        head = splicing.head
        call = Call(
            now_ns=now_ns,
            destination=splicing.batch.topic,
            operation=SEND,
            socket=line.passage.socket,
        )
        made = head.base_timestamp * MILLISECOND
        until = head.max_timestamp * MILLISECOND
        if line.settings.per_record:
            made = until = made + record.timestamp_delta * MILLISECOND
        if now_ns - NEAR_NS < made <= until <= now_ns:
            call.made_from_ns = made
            call.made_to_ns = until + MILLISECOND
        content = self._linker.content
        if self._environment.inflight.is_crowd(1):
            content.need(now_ns)
        call.several = head.count > 1 and not line.settings.per_record
        if not call.several:
            if content.wants(now_ns):
                text = text_of(splicing.payload, record)
                call.tokens = lambda: content.tokens.read(text, now_ns)
        elif content.wants(now_ns) and head.count <= MOST_READ:
            tokens = self._common(splicing, now_ns)
            if tokens is not None:
                call.tokens = lambda: tokens
        return call

    def _common(self, splicing: Splicing, now_ns: int) -> Sequence[int] | None:
        """The words of that record which says least, if all say the same: who made them.

        One record that says nothing may be anybody's, and the batch has one context.
        """
        content = self._linker.content
        weakest: Sequence[int] | None = None
        least = 2.0
        cause: Cause | None = None
        for record in records(splicing.payload, splicing.head.count):
            if has_context(splicing.payload, record):
                continue  # goes its own way
            tokens = content.tokens.read(text_of(splicing.payload, record), now_ns)
            found = content.judge(tokens, self._environment.inflight)
            if found is None or len(found.causes) != 1:
                return None
            if cause is not None and found.causes[0] is not cause:
                return None
            cause = found.causes[0]
            if found.confidence < least:
                least = found.confidence
                weakest = tokens
        return weakest

    def _leaves(self, line: Line) -> bool:
        """Whether the brokers are a third party's."""
        passage = line.passage
        return passage.scope.trust == "edge" or self._third_parties.has(b"", passage.destination)

    def complete(self, line: Line, outgoing: Outgoing) -> list[bytes]:
        """The request as it goes out, in pieces. The records have been given their headers."""
        replacements: dict[int, tuple[bytes, ...]] = {}
        for splicing in outgoing.splicings:
            batch = splicing.batch
            batch.size = splicing.head.end - splicing.head.at
            result = self._result(line, splicing)
            if result == INJECTED:
                batch.injected = True
                batch.size = splicing.size
                replacements[splicing.index] = splicing.pieces
                self._stats.message(SEND, batch.topic, INJECTED, splicing.added)
                if splicing.kept:
                    self._stats.message(SEND, batch.topic, CARRYING, splicing.kept)
                    if batch.spans and not line.settings.per_record:
                        batch.spans[0].pairs = [(MESSAGE_COUNT, splicing.added)]
            else:
                self._stats.message(SEND, batch.topic, result, splicing.head.count)
            if result == CARRYING:  # whoever put the contexts there has made the spans
                for sending in batch.spans:
                    self._linker.answered(sending.decision, outgoing.now_ns)
                batch.spans.clear()
            line.cluster.sent(batch)
        pieces = produce.replaced(outgoing.frame, outgoing.request, replacements)
        outgoing.release()
        return pieces

    def _result(self, line: Line, splicing: Splicing) -> str:
        """What became of a batch."""
        batch = splicing.batch
        if splicing.failed:
            return "unparsed"
        if splicing.added:
            limit = line.cluster.limit(batch.topic, line.settings.message_bytes)
            return "too_large" if splicing.size > limit else INJECTED
        # It is for their own contexts that the records were given none, or for another reason.
        return CARRYING if any(each.count for each in batch.additions) else "not_injected"

    # The broker's answer

    def unknown(self, outgoing: Outgoing | None, now_ns: int) -> None:
        """No answer will come (acks=0), or it cannot be read; None: there was nothing to answer."""
        if outgoing is not None:
            for splicing in outgoing.splicings:
                self._finish(splicing.batch, now_ns, -1, "")

    def answered(
        self,
        line: Line,
        outgoing: Outgoing,
        partitions: Sequence[produce.Acknowledged],
        now_ns: int,
    ) -> None:
        """The broker says what became of each batch."""
        batches = {}
        for splicing in outgoing.splicings:
            asked = outgoing.request.batches[splicing.index]
            batches[asked.topic, asked.topic_id, asked.partition] = splicing.batch
        for each in partitions:
            batch = batches.get((each.topic, each.topic_id, each.partition))
            if batch is None:
                continue
            if each.error in (errors.NONE, errors.DUPLICATE_SEQUENCE_NUMBER):
                self._finish(batch, now_ns, each.base_offset, "")
            elif each.error in errors.RETRIABLE or (
                batch.is_idempotent and each.error in errors.RETRIED_IN_ORDER
            ):
                self._fail(line, batch, errors.name_of(each.error), now_ns)
            else:
                if each.error == errors.MESSAGE_TOO_LARGE and batch.injected:
                    line.cluster.refused(batch)
                self._finish(batch, now_ns, -1, errors.name_of(each.error))

    def lost(self, line: Line, outgoing: Outgoing, now_ns: int) -> None:
        """The connection ended before the answer came."""
        for splicing in outgoing.splicings:
            self._fail(line, splicing.batch, CONNECTION_LOST, now_ns)

    def give_up(self, batch: Batch) -> None:
        """The client did not try again."""
        self._finish(batch, batch.failed_ns, -1, batch.failure)

    def _fail(self, line: Line, batch: Batch, failure: str, now_ns: int) -> None:
        """The client will probably send it again, and then it is the same span."""
        if not batch.spans:
            return
        for sending in batch.spans:
            self._linker.answered(sending.decision, now_ns)
        batch.failure = failure
        batch.failed_ns = now_ns
        line.cluster.failed(batch, now_ns)

    def _finish(self, batch: Batch, now_ns: int, offset: int, error: str) -> None:
        batch.settled = True
        spans, batch.spans = batch.spans, []
        for sending in spans:
            self._linker.answered(sending.decision, now_ns)
            if sending.action is not Action.DROP:
                self._emit(batch, sending, now_ns, offset, error)

    def _emit(self, batch: Batch, sending: Sending, now_ns: int, offset: int, error: str) -> None:
        decision = sending.decision
        kind = Kind.PRODUCER if batch.injected else Kind.CLIENT
        shape = self._messaging.shape(
            batch.origin, SEND, kind, batch.topic, batch.partition, tuple(linked(decision)), error
        )
        shape.series.observe((now_ns - batch.start_ns) / 1e9)
        pairs: Pairs = linked_to(decision)
        pairs += sending.pairs
        if offset >= 0:
            pairs.append(("messaging.kafka.offset", offset + sending.offset))
        if batch.attempts > 1:
            pairs.append(("meshproxy.kafka.resend_count", batch.attempts - 1))
        parent = decision.parent
        links: list[Link] = candidate_links(decision)
        links += carried_link(decision, sending.carried)
        span = Span(
            shape.span,
            sending.context,
            parent.span_id if parent is not None else b"",
            batch.start_ns,
            now_ns,
            pairs,
            parent_remote=decision.cause is None or parent is not decision.cause.context,
            links=links,
        )
        if error:
            lost = error == CONNECTION_LOST
            text = "The connection ended before the broker answered."
            tell_failure(span, Failure(error, text if lost else f"The broker answered {error}."))
        self._messaging.emit(span, sending.action, bool(error))


def _without_context(payload: bytes, count: int, first: Record) -> Record:
    """The first record of a batch that carries no context; if all do, the first of all."""
    if count > 1 and has_context(payload, first):
        for record in records(payload, count):
            if not has_context(payload, record):
                return record
    return first
