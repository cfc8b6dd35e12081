"""OpenTelemetry's current span and baggage, where its API is installed; otherwise nothing.

The API is imported with the first question, never before, and is not needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from meshproxy.trace.context import KNOWN_FLAGS

if TYPE_CHECKING:
    from opentelemetry.context import Context

    from meshproxy.inprocess.context import Current

_HEADER: Final = "meshproxy-baggage"
"""In OpenTelemetry's context: the header value that its baggage was made of."""


class Active(NamedTuple):
    """OpenTelemetry's current span, in our terms."""

    trace_id: bytes
    span_id: bytes
    flags: int
    tracestate: str
    remote: bool


def active() -> Active | None:
    """Give OpenTelemetry's current span; None without the API, or without a valid span."""
    if not _installed():
        return None
    from opentelemetry import trace

    span: Any = trace.get_current_span()
    # Ours is not asked for its context: it would take that for use.
    context = span.named if isinstance(span, _kind_of_span()) else span.get_span_context()
    if not context.is_valid:
        return None
    return Active(
        context.trace_id.to_bytes(16, "big"),
        context.span_id.to_bytes(8, "big"),
        context.trace_flags & KNOWN_FLAGS,
        context.trace_state.to_header(),
        context.is_remote,
    )


def baggage(header: bytes = b"") -> bytes:
    """Give OpenTelemetry's current baggage as a header value; empty when there is none.

    Where it still is what ``header`` says, or else what came with the span of ours that is current,
    that is given byte by byte: OpenTelemetry would write it otherwise, without properties.
    """
    if not _installed():
        return b""
    from opentelemetry import baggage, context
    from opentelemetry.baggage.propagation import W3CBaggagePropagator

    known = header or context.get_value(_HEADER)
    if isinstance(known, bytes) and known and dict(baggage.get_all()) == _members(known):
        return known
    carrier: dict[str, str] = {}
    W3CBaggagePropagator().inject(carrier)
    return carrier.get("baggage", "").encode()


def attach(ours: Current) -> object:
    """Make a span, with its baggage and no other, the current one; give what `restore` takes."""
    if not _installed():
        return None
    from opentelemetry import baggage, context, trace

    before = context.get_current()
    after = trace.set_span_in_context(_kind_of_span()(ours), before)
    members = _members(ours.baggage) if ours.baggage else {}
    if members or baggage.get_all(before):
        after = baggage.clear(after)
        for name, value in members.items():
            after = baggage.set_baggage(name, value, after)
    if ours.baggage != (context.get_value(_HEADER, before) or b""):
        after = context.set_value(_HEADER, ours.baggage, after)
    context.attach(after)
    return before


def restore(before: object) -> None:
    """Make current again what `attach` gave.

    Not by ``context.detach``: that logs an error wherever a token was made in another task.
    """
    if before is None:
        return
    from opentelemetry import context

    known: Context = before  # type: ignore[assignment]
    context.attach(known)


@cache
def _installed() -> bool:
    try:
        import opentelemetry.baggage.propagation
        import opentelemetry.trace  # noqa: F401
    except ImportError:
        return False
    return True


def _members(header: bytes) -> Mapping[str, object]:
    """What OpenTelemetry makes of a header value."""
    from opentelemetry import baggage, context
    from opentelemetry.baggage.propagation import W3CBaggagePropagator

    carrier = {"baggage": header.decode("utf-8", "replace")}
    return dict(baggage.get_all(W3CBaggagePropagator().extract(carrier, context.Context())))


@cache
def _kind_of_span() -> Any:
    """The class of our spans as OpenTelemetry sees them. Made late: its base has to be imported."""
    from opentelemetry import trace

    class Ours(trace.NonRecordingSpan):
        """Notes that its context was asked for: something may be made below it."""

        def __init__(self, ours: Current) -> None:
            span = ours.context
            tracestate = (
                trace.TraceState.from_header([span.tracestate]) if span.tracestate else None
            )
            self.named = trace.SpanContext(
                int.from_bytes(span.trace_id, "big"),
                int.from_bytes(span.span_id, "big"),
                ours.remote,
                trace.TraceFlags(span.flags),
                tracestate,
            )
            super().__init__(self.named)
            self._ours = ours

        def get_span_context(self) -> trace.SpanContext:
            self._ours.used = True
            return self.named

    return Ours
