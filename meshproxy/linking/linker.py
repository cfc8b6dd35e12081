"""From a call's evidence to its cause: a ladder, strongest evidence first.

Each rung is a function from a call and the requests in flight to the causes it points at. The first
rung that points at exactly one decides; when none does, nothing is guessed: the candidates are
named and the call starts a trace of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from meshproxy.linking.gaps import Gap
from meshproxy.linking.inflight import Cause, InFlight
from meshproxy.trace.context import SAMPLED, SpanContext

MAX_CANDIDATES: Final = 8
"""Links on a call that could not be linked; more would say nothing."""


class Call:
    """What is known of a call when it leaves the service.

    ``context`` is the valid context that the call carries, if any; ``gap`` tells what is wrong with
    what was found in its place. ``w3c``: it came as a traceparent, beside which tracestate belongs;
    other formats have no place for that.
    """

    __slots__ = ("baggage", "context", "gap", "request_ids", "w3c")

    def __init__(
        self,
        context: SpanContext | None = None,
        *,
        gap: Gap | None = None,
        w3c: bool = True,
        request_ids: Sequence[bytes] = (),
        baggage: bytes = b"",
    ) -> None:
        self.context = context
        self.gap = gap
        self.w3c = w3c
        self.request_ids = request_ids
        self.baggage = baggage


class Decision:
    """What the linker says of a call.

    ``parent`` is the context that the call's span continues, None when it starts a trace.
    ``cause`` is the request that it belongs to, None when that is not known. ``candidates`` are
    those between which it could not decide. ``propagation`` and ``gap`` are as in the span
    attributes; ``evidence`` is empty when nothing was linked.
    """

    __slots__ = ("candidates", "cause", "confidence", "evidence", "gap", "parent", "propagation")

    def __init__(
        self,
        propagation: str,
        parent: SpanContext | None = None,
        cause: Cause | None = None,
        evidence: str = "",
        confidence: float = 0.0,
        gap: Gap | None = None,
        candidates: Sequence[Cause] = (),
    ) -> None:
        self.propagation = propagation
        self.parent = parent
        self.cause = cause
        self.evidence = evidence
        self.confidence = confidence
        self.gap = gap
        self.candidates = candidates


Rung = Callable[[Call, InFlight], Sequence[Cause]]


def request_id(call: Call, inflight: InFlight) -> Sequence[Cause]:
    """The call repeats the id of a request in flight."""
    found: dict[Cause, None] = {}
    for value in call.request_ids:
        found.update(dict.fromkeys(inflight.of_request_id(value)))
    return tuple(found)


def only_in_flight(call: Call, inflight: InFlight) -> Sequence[Cause]:
    """There is one request in flight, and no more."""
    cause = inflight.only()
    return (cause,) if cause is not None else ()


LADDER: tuple[tuple[str, float, Rung], ...] = (
    ("request_id", 0.999, request_id),
    ("only_in_flight", 0.99, only_in_flight),
)
"""Evidence, how sure it is, and how it is found; below a traceparent that is right."""


class Linker:
    """Decides for each call. Evidence below ``threshold`` is not acted upon."""

    def __init__(
        self,
        inflight: InFlight,
        threshold: float,
        ladder: Sequence[tuple[str, float, Rung]] = LADDER,
    ) -> None:
        self._inflight = inflight
        self._ladder = tuple(rung for rung in ladder if rung[1] >= threshold)

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
        gap = None
        if cause is not None:
            if cause.context.flags & SAMPLED and not context.flags & SAMPLED:
                gap = Gap.UNSAMPLED
            elif call.w3c and cause.context.tracestate and not context.tracestate:
                gap = Gap.TRACESTATE_LOST
            elif cause.baggage and not call.baggage:
                gap = Gap.BAGGAGE_LOST
        return Decision("repaired" if gap else "ok", context, cause, "traceparent", 1.0, gap)

    def _with_other_context(self, call: Call, context: SpanContext) -> Decision:
        """The call carries a valid context, but no request of its trace is in flight."""
        inflight = self._inflight
        if inflight.idle or inflight.is_outlived(context):
            # Work that outlived its request, or has none: its own context is the best there is.
            return Decision("ok", context, None, "traceparent", 1.0)
        over = inflight.is_over(context.trace_id)
        decision = self._climb(call, Gap.STALE if over else Gap.RESTARTED)
        if decision.cause is None and not over:
            decision.parent = context  # a trace of its own that nothing here contradicts
        return decision

    def _without_context(self, call: Call) -> Decision:
        if call.gap is not None:
            return self._climb(call, call.gap)
        if self._inflight.idle:
            return Decision("root")
        return self._climb(call, Gap.DROPPED)

    def _climb(self, call: Call, gap: Gap) -> Decision:
        for evidence, confidence, rung in self._ladder:
            causes = rung(call, self._inflight)
            if len(causes) == 1:
                cause = causes[0]
                return Decision("repaired", cause.context, cause, evidence, confidence, gap)
        candidates = self._inflight.newest(MAX_CANDIDATES)
        return Decision("ambiguous" if candidates else "unlinked", gap=gap, candidates=candidates)


def _by_parent(context: SpanContext, same_trace: Sequence[Cause]) -> Cause | None:
    """The request that the context continues: the one, or the one whose span it names."""
    if len(same_trace) == 1:
        return same_trace[0]
    for cause in same_trace:
        if cause.context.span_id == context.span_id:
            return cause
    return None
