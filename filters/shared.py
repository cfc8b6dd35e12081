"""What tracing of every protocol shares: new contexts, and how a decision shows on a span."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from meshproxy.filter import Environment, Failure
from meshproxy.linking.call import Decision
from meshproxy.linking.gaps import Gap, Occurrence
from meshproxy.trace.context import RANDOM, SpanContext
from meshproxy.trace.ids import span_id_from, trace_id_from
from meshproxy.trace.propagator import Extracted
from meshproxy.trace.sampling import Action, Rule, Sampler, SamplingRequest
from meshproxy.trace.span import AttributeValue, Event, Link, Span, Status

Pairs = list[tuple[str, AttributeValue]]

POOL: Final = 4096


class Ids:
    """Random ids, from a pool that is filled in one go."""

    def __init__(self, environment: Environment) -> None:
        self._random = environment.random
        self._pool = b""
        self._at = 0

    def take(self, count: int) -> bytes:
        """``count`` random bytes, at most 64."""
        at = self._at
        pool = self._pool
        if at + count > len(pool):
            pool = self._pool = self._random(POOL)
            at = 0
        self._at = at + count
        return pool[at : at + count]

    def span_id(self) -> bytes:
        """A new span id."""
        return span_id_from(self.take(8))

    def trace_id(self) -> bytes:
        """A new trace id, random throughout."""
        return trace_id_from(self.take(16))


def sampler(environment: Environment) -> Sampler:
    """The sampler that the configuration asks for."""
    settings = environment.config.sampling
    return Sampler(
        settings.default,
        [
            Rule(
                path=rule.match.path,
                route=rule.match.route,
                method=rule.match.method,
                headers=rule.match.headers,
                ratio=rule.ratio,
                drop=rule.drop,
                priority=rule.priority,
            )
            for rule in settings.rules
        ],
        parent_based=settings.parent_based,
        rate_limit=settings.rate_limit,
    )


def new_flags(parent: SpanContext | None, sampled: bool) -> int:
    """Flags of a new span: random as its trace is, sampled as decided."""
    random = RANDOM if parent is None else parent.flags & RANDOM
    return random | sampled


class Contexts:
    """Makes the contexts of new spans, sampled as configured; says which spans are kept."""

    def __init__(self, environment: Environment) -> None:
        self.ids = Ids(environment)
        self.sampler = sampler(environment)
        self._clock = environment.clock
        self._spans = environment.stats.spans
        self._errors_always = environment.config.sampling.errors == "always"

    def keeps(self, action: Action, failed: bool) -> bool:
        """Whether a finished span is for the exporters; counts it."""
        if action is Action.SAMPLE:
            self._spans["made"] += 1
            return True
        if action is Action.RECORD_ONLY and failed and self._errors_always:
            self._spans["error"] += 1
            return True
        self._spans["not_sampled"] += 1
        return False

    def root(self, request: SamplingRequest | None) -> tuple[SpanContext, Action]:
        """The context of a span that starts a trace."""
        trace_id = self.ids.trace_id()
        found = self.sampler.sample(request, None, trace_id, self._clock())
        flags = new_flags(None, found.action is Action.SAMPLE)
        return SpanContext(trace_id, self.ids.span_id(), flags, found.tracestate), found.action

    def received(
        self, extracted: Extracted, request: SamplingRequest | None
    ) -> tuple[SpanContext, Action]:
        """The context of a span for what came in; where that is dropped, the one that came in."""
        parent = extracted.context
        if parent is None:
            return self.root(request)
        found = self.sampler.sample(request, extracted, parent.trace_id, self._clock())
        if found.action is Action.DROP:
            return parent, found.action
        return self._below(parent, found.action is Action.SAMPLE, found.tracestate)

    def child(self, parent: SpanContext) -> tuple[SpanContext, Action]:
        """The context of a span below another one, sampled as that is."""
        return self._below(parent, parent.sampled, parent.tracestate)

    def of_call(
        self, decision: Decision, request: SamplingRequest | None
    ) -> tuple[SpanContext, Action]:
        """The context of the span of a call, mended as decided."""
        parent = decision.parent
        if parent is None:
            return self.root(request)
        cause = decision.cause
        if cause is None:
            return self.child(parent)
        sampled = parent.sampled or decision.gap is Gap.UNSAMPLED
        return self._below(parent, sampled, parent.tracestate or cause.context.tracestate)

    def _below(
        self, parent: SpanContext, sampled: bool, tracestate: str
    ) -> tuple[SpanContext, Action]:
        flags = new_flags(parent, sampled)
        context = SpanContext(parent.trace_id, self.ids.span_id(), flags, tracestate)
        return context, Action.SAMPLE if sampled else Action.RECORD_ONLY


def linked(decision: Decision) -> Pairs:
    """The attributes that say how a call was linked, as far as many calls share them."""
    pairs: Pairs = [("meshproxy.propagation", decision.propagation)]
    if decision.gap is not None:
        pairs.append(("meshproxy.gap", decision.gap.value))
    if decision.evidence:
        pairs.append(("meshproxy.link.evidence", decision.evidence))
        if decision.confidence == 1.0:
            pairs.append(("meshproxy.link.confidence", 1.0))
    return pairs


def linked_to(decision: Decision) -> Pairs:
    """The attributes that say to what a call was linked."""
    pairs: Pairs = []
    if decision.cause is not None:
        span_id = decision.cause.context.span_id
        pairs.append(("meshproxy.inbound.span_id", span_id.hex()))
        if decision.confidence < 1.0:
            pairs.append(("meshproxy.link.confidence", round(decision.confidence, 4)))
    return pairs


def candidate_links(decision: Decision) -> list[Link]:
    """Links to the requests between which could not be decided, the likeliest first."""
    return [
        Link(
            candidate.cause.context,
            (
                ("link.rank", rank),
                ("link.evidence", candidate.evidence),
                ("link.confidence", round(candidate.confidence, 4)),
            ),
        )
        for rank, candidate in enumerate(decision.candidates, 1)
    ]


def carried_link(decision: Decision, carried: SpanContext | None) -> Sequence[Link]:
    """The link to the context that a call carried, if that was not continued."""
    if carried is None or carried is decision.parent:
        return ()
    return (Link(carried, (("link.evidence", "carried"),)),)


def occurrence(
    decision: Decision, context: SpanContext, carried: SpanContext | None, at_ns: int
) -> Occurrence | None:
    """The gap of a call made at that time, for the report; None if it has none."""
    if decision.gap is None:
        return None
    return Occurrence(
        decision.gap,
        decision.evidence or "none",
        context.trace_id,
        at_ns,
        carried.trace_id if carried is not None else b"",
    )


def tell_failure(span: Span, failure: Failure) -> None:
    """The span is an error, and why."""
    span.status = Status.ERROR
    span.status_message = failure.message
    facts = (("exception.type", failure.kind), ("exception.message", failure.message))
    span.events = (Event("exception", span.end_ns, facts),)
