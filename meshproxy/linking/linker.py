"""From a call to its parent: what to make of the context that it carries, if it carries any."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from meshproxy.linking.call import Call, Candidate, Decision, Finding
from meshproxy.linking.content import Content
from meshproxy.linking.gaps import Gap
from meshproxy.linking.habits import Origin
from meshproxy.linking.inflight import Cause, InFlight
from meshproxy.linking.judge import MAX_CANDIDATES, MOST_WEIGHED, Judge, Knowledge
from meshproxy.linking.owners import OwnerEvidence
from meshproxy.trace.context import SAMPLED, SpanContext

INFERRED: Final = frozenset({"only_in_flight", "call_graph", "timing"})
"""Evidence that is a conclusion from what is usual, and no trace of the request itself."""

MADE_BY_THE_ONLY_ONE: Final = 0.99
"""How sure it is that the only request in flight made what was made then."""

MOST_ASKED: Final = 32
"""Requests in flight, the newest, whose habits are looked at."""


class Linker:
    """Decides for each call, and is told of each request (or consumed message).

    Evidence below ``threshold`` is not acted upon. What was learnt is in ``knowledge``, which may
    outlive the linker.
    """

    def __init__(
        self,
        inflight: InFlight,
        knowledge: Knowledge,
        owners: OwnerEvidence,
        threshold: float,
    ) -> None:
        self._inflight = inflight
        self._knowledge = knowledge
        self._threshold = threshold
        self._judge = Judge(inflight, knowledge, owners, threshold)

    @property
    def content(self) -> Content:
        """What is known of the content of requests in flight."""
        return self._knowledge.content

    # What the service is working on

    def begin(self, cause: Cause, now_ns: int) -> None:
        """The service is given a request or a message. Times are Unix nanoseconds."""
        if self._inflight.idle:
            self._knowledge.habits.busy(now_ns)
        if self._inflight.add(cause):
            self._judge.begun(cause, now_ns)
            content = self._knowledge.content
            if content.wants(now_ns):
                content.begin(cause, ())

    def end(self, cause: Cause, now_ns: int) -> None:
        """It is answered, or done with."""
        self._inflight.remove(cause)
        if self._inflight.idle:
            self._knowledge.habits.idle(now_ns)
        self._knowledge.content.release(cause)
        self._judge.ended(cause, now_ns)
        self._knowledge.lately.ended(cause, now_ns)
        cause.carrier = None

    def abandon(self, cause: Cause, now_ns: int) -> None:
        """Nobody waits for the answer any more, but the service may go on."""
        self._inflight.abandon(cause, now_ns)
        self._knowledge.lately.ended(cause, now_ns)
        if self._inflight.idle:
            self._knowledge.habits.idle(now_ns)
        self._knowledge.content.release(cause)

    def answered(self, decision: Decision, now_ns: int) -> None:
        """A call that was decided upon is answered, or has failed."""
        if decision.made is not None:
            self._judge.answered(decision.made, now_ns)

    def remember(self, now_ns: int) -> None:
        """Calls may come that were made some time before they are sent (`Call.made_to_ns`)."""
        self._knowledge.lately.want(now_ns)

    # Calls

    def link(self, call: Call) -> Decision:
        """Decide which request in flight caused ``call``."""
        context = call.context
        if context is None:
            return self._without_context(call)
        same_trace = self._inflight.of_trace(context.trace_id)
        if same_trace:
            return self._with_right_context(call, context, same_trace)
        return self._with_other_context(call, context)

    def _with_right_context(
        self, call: Call, context: SpanContext, same_trace: Sequence[Cause]
    ) -> Decision:
        cause = _by_parent(context, same_trace)
        if cause is None:
            return Decision("ok", context, None, "traceparent", 1.0)
        finding = self._judge.certain(call, cause)
        if finding.contradiction:
            return _abstained(finding, None)
        self._knowledge.habits.passed_on(cause.route)
        gap = None
        if cause.context.flags & SAMPLED and not context.flags & SAMPLED:
            gap = Gap.UNSAMPLED
        elif call.w3c and cause.context.tracestate and not context.tracestate:
            gap = Gap.TRACESTATE_LOST
        elif cause.baggage and not call.baggage:
            gap = Gap.BAGGAGE_LOST
        decision = Decision("repaired" if gap else "ok", context, cause, "traceparent", 1.0, gap)
        decision.made = finding.made
        return decision

    def _with_other_context(self, call: Call, context: SpanContext) -> Decision:
        """The call carries a valid context, but no request of its trace is in flight."""
        inflight = self._inflight
        over = inflight.is_over(context.trace_id)
        origin = Origin.TRACE_THAT_IS_OVER if over else Origin.UNKNOWN_TRACE
        if inflight.idle:
            self._knowledge.habits.alone(call.destination, call.operation, origin)
        if inflight.idle or inflight.is_outlived(context) or inflight.is_of_many(context.trace_id):
            # Work that outlived its request, has none, or is for one message out of many: its own
            # context is the best there is.
            return Decision("ok", context, None, "traceparent", 1.0)
        finding = self._judge.judge(call)
        if self._is_unasked(call, finding, origin) or _is_for_one_of_many(finding):
            decision = Decision("ok", context, None, "traceparent", 1.0)
            decision.made = finding.made
            return decision
        decision = _decided(finding, Gap.STALE if over else Gap.RESTARTED)
        if decision.cause is None and not over and not finding.contradiction:
            decision.parent = context  # a trace of its own that nothing here contradicts
        return decision

    def _is_unasked(self, call: Call, finding: Finding, origin: Origin) -> bool:
        """Whether no request caused the call, as far as is known; certain evidence counts more."""
        if finding.contradiction or (finding.cause and finding.evidence not in INFERRED):
            return False
        if finding.cause is not None and finding.cause.probe:
            return False  # whose calls are no gaps anyway
        in_flight = self._inflight.newest(MOST_ASKED)
        explained = self._knowledge.habits.explain(
            call.destination,
            call.operation,
            origin,
            in_flight,
            finding.cause is not None,
            call.now_ns,
        )
        return explained or finding.background

    def _without_context(self, call: Call) -> Decision:
        made_before = bool(call.made_to_ns) or call.several
        if made_before and len(self._inflight) <= MOST_WEIGHED:
            causes = self._makers(call)
            several = call.several and causes is not None and len(causes) > 1
            if causes is None or several or not self._are_in_flight(causes):
                return self._made_by(call, causes)
        if self._inflight.idle and call.gap is None:
            habits = self._knowledge.habits
            habits.alone(call.destination, call.operation, Origin.NO_CONTEXT)
        finding = self._judge.judge(call)
        if call.gap is not None:
            return _decided(finding, call.gap)
        if self._inflight.idle or self._is_unasked(call, finding, Origin.NO_CONTEXT):
            decision = Decision("root", candidates=finding.candidates)
            if finding.candidates:
                decision.propagation = "ambiguous"
            decision.made = finding.made
            return decision
        if finding.doubtful and finding.cause is None:
            return _abstained(finding, None)
        return _decided(finding, Gap.DROPPED)

    def _are_in_flight(self, causes: Sequence[Cause]) -> bool:
        """Whether these are all that are in flight now, and no others."""
        count = len(self._inflight)
        return len(causes) == count and causes == self._inflight.newest(count)[::-1]

    def _makers(self, call: Call) -> list[Cause] | None:
        """Who was in flight when it was made; None if that is not known."""
        inflight = self._inflight
        if not call.made_to_ns:
            return inflight.newest(len(inflight))[::-1]
        lately = self._knowledge.lately
        return lately.in_flight(inflight, call.made_from_ns, call.made_to_ns)

    def _made_by(self, call: Call, causes: list[Cause] | None) -> Decision:
        """What is sent was made by others than those in flight now, or by several of them.

        Neither what is usual nor processes tell of that. ``causes`` None: unknown who.
        """
        named = self._judge.named(call)
        if named is not None and (causes is None or named.cause is None or named.cause in causes):
            return _decided(named, call.gap or Gap.DROPPED)
        if causes is None:
            if self._inflight.idle and self._knowledge.lately.is_before(call.made_from_ns):
                return Decision("root", gap=call.gap)  # nobody has been seen who could have made it
            return Decision("unlinked", gap=call.gap or Gap.DROPPED)
        if not causes:
            habits = self._knowledge.habits
            habits.alone(call.destination, call.operation, Origin.NO_CONTEXT)
            return Decision("root", gap=call.gap)
        sure = self._inflight.complete and self._threshold <= MADE_BY_THE_ONLY_ONE
        if len(causes) == 1 and sure:
            finding = Finding(causes[0], "only_in_flight", MADE_BY_THE_ONLY_ONE)
            if self._is_unasked(call, finding, Origin.NO_CONTEXT):
                return Decision("root", gap=call.gap)
            return _decided(finding, call.gap or Gap.DROPPED)
        newest = causes[: -MAX_CANDIDATES - 1 : -1]
        candidates = [Candidate(cause, "only_in_flight", 1.0 / len(causes)) for cause in newest]
        return _abstained(Finding(candidates=candidates), call.gap or Gap.DROPPED)


def _decided(finding: Finding, gap: Gap) -> Decision:
    cause = finding.cause
    if cause is None:
        return _abstained(finding, gap)
    decision = Decision("repaired", cause.context, cause, finding.evidence, finding.confidence)
    decision.gap = None if cause.probe else gap
    decision.made = finding.made
    return decision


def _abstained(finding: Finding, gap: Gap | None) -> Decision:
    decision = Decision(
        "ambiguous" if finding.candidates else "unlinked", gap=gap, candidates=finding.candidates
    )
    decision.contradiction = finding.contradiction
    decision.made = finding.made
    return decision


def _is_for_one_of_many(finding: Finding) -> bool:
    """Whether all that is known of a call with a context is that many messages are worked on.

    It then may well be that of a message whose trace is not known here.
    """
    return finding.cause is not None and finding.cause.many and finding.evidence in INFERRED


def _by_parent(context: SpanContext, same_trace: Sequence[Cause]) -> Cause | None:
    """The request that the context continues: the one, or the one whose span it names."""
    if len(same_trace) == 1:
        return same_trace[0]
    for cause in same_trace:
        if cause.context.span_id == context.span_id:
            return cause
    return None
