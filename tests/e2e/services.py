"""Services that treat trace context right, each in its way, and one for each way to be wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from opentelemetry import trace
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context, attach, detach
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.propagators.textmap import (
    CarrierT,
    Getter,
    Setter,
    TextMapPropagator,
    default_getter,
    default_setter,
)
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased, Sampler
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, TraceFlags
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from tests.e2e.bed import Bed, Headers, Service, trace_of

PROPAGATED = ("traceparent", "tracestate", "baggage")


class SingleB3(TextMapPropagator):
    """The single ``b3`` header, as SDKs that are set to B3 read and write it, and nothing else."""

    fields = {"b3"}  # noqa: RUF012

    def extract(
        self,
        carrier: CarrierT,
        context: Context | None = None,
        getter: Getter[CarrierT] = default_getter,
    ) -> Context:
        context = context if context is not None else Context()
        found = getter.get(carrier, "b3")
        if not found:
            return context
        trace_id, span_id, sampled = found[0].split("-")[:3]
        flags = TraceFlags(int(sampled == "1"))
        parent = SpanContext(int(trace_id, 16), int(span_id, 16), True, flags)
        return trace.set_span_in_context(NonRecordingSpan(parent), context)

    def inject(
        self,
        carrier: CarrierT,
        context: Context | None = None,
        setter: Setter[CarrierT] = default_setter,
    ) -> None:
        found = trace.get_current_span(context).get_span_context()
        value = f"{found.trace_id:032x}-{found.span_id:016x}-{found.trace_flags & 1:d}"
        setter.set(carrier, "b3", value)


W3C = CompositePropagator([TraceContextTextMapPropagator(), W3CBaggagePropagator()])
B3 = CompositePropagator([SingleB3(), W3CBaggagePropagator()])


class Sdk:
    """Instrumented with the OpenTelemetry SDK: ``calls`` one after another, or all at once."""

    def __init__(
        self,
        propagator: TextMapPropagator = W3C,
        sampler: Sampler | None = None,
        calls: Sequence[str] = ("pricing", "stock"),
        parallel: bool = False,
    ) -> None:
        self.propagator = propagator
        self._tracer = TracerProvider(sampler=sampler or ParentBased(ALWAYS_ON)).get_tracer("cart")
        self._calls = calls
        self._parallel = parallel
        self._earlier: SpanContext | None = None

    async def __call__(self, bed: Bed, number: int, came: Headers) -> None:
        await self.within(bed, number, came, SpanKind.SERVER, self._calls)

    async def within(
        self, bed: Bed, number: int, came: Headers, kind: SpanKind, calls: Sequence[str]
    ) -> None:
        """Do the work of a request or a message that came with such headers."""
        token = attach(self.propagator.extract({name.lower(): came[name] for name in came}))
        try:
            with self._tracer.start_as_current_span("work", kind=kind):
                if self._parallel:
                    await bed.turn()
                    await asyncio.gather(*(self.call(bed, each, number) for each in calls))
                else:
                    for each in calls:
                        await bed.turn()
                        await self.call(bed, each, number)
        finally:
            detach(token)

    async def call(self, bed: Bed, destination: str, number: int) -> None:
        """A call with a CLIENT span, which links the one before it."""
        links = [Link(self._earlier)] if self._earlier is not None else []
        start = self._tracer.start_as_current_span
        with start("call", kind=SpanKind.CLIENT, links=links) as span:
            self._earlier = span.get_span_context()
            goes: dict[str, str] = {}
            self.propagator.inject(goes)
            await bed.call(destination, number, goes)


async def verbatim(bed: Bed, number: int, came: Headers) -> None:
    """Hands the headers on as they came."""
    for destination in ("pricing", "stock"):
        await bed.turn()
        await bed.call(destination, number, {n: came[n] for n in PROPAGATED if n in came})


async def silent(bed: Bed, number: int, came: Headers) -> None:
    """Makes no calls."""


class Probed:
    """Answers probes by looking, without tracing, whether what it depends on is there."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def __call__(self, bed: Bed, number: int, came: Headers) -> None:
        if number == 0:
            await bed.call("stock", number, path="ping")
        else:
            await self._service(bed, number, came)


class Wrong:
    """Breaks the chain in one way; ``echo``: but repeats the request's id."""

    def __init__(self, kind: str, echo: bool = False) -> None:
        self._headers = WAYS[kind]
        self._echo = echo
        self._first: dict[str, str] = {}

    async def __call__(self, bed: Bed, number: int, came: Headers) -> None:
        known = {name: came[name] for name in PROPAGATED if name in came}
        self._first = self._first or known
        await bed.turn()
        headers = self._headers(known, self._first, number)
        if self._echo:
            headers.append(("X-Request-Id", came["X-Request-Id"]))
        await bed.call("pricing", number, headers)


Known = dict[str, str]
Pairs = list[tuple[str, str]]


def _without(known: Known, *names: str) -> Pairs:
    return [(name, value) for name, value in known.items() if name not in names]


def foreign(number: int) -> str:
    """A context of a trace that no request has."""
    return f"00-{trace_of(number)[::-1]}-b7ad6b7169203331-01"


WAYS: dict[str, Callable[[Known, Known, int], Pairs]] = {
    "dropped": lambda known, first, number: [],
    "restarted": lambda known, first, number: [("traceparent", foreign(number))],
    "stale": lambda known, first, number: [*first.items()],
    "malformed": lambda known, first, number: [("traceparent", known["traceparent"].upper() + ".")],
    "duplicated": lambda known, first, number: [*known.items(), ("traceparent", foreign(number))],
    "format": lambda known, first, number: [("b3", f"{trace_of(number)}-00f067aa0ba902b7-1")],
    "tracestate-lost": lambda known, first, number: _without(known, "tracestate"),
    "baggage-lost": lambda known, first, number: _without(known, "baggage"),
    "unsampled": lambda known, first, number: [
        ("traceparent", known["traceparent"][:-2] + "00"),
        *_without(known, "traceparent"),
    ],
}
"""What a call carries: of what came in now, and at first, with the number of the request."""
