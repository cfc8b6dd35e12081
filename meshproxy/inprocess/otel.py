"""OpenTelemetry's current span and baggage, where its API is installed; otherwise nothing.

The API is imported with the first question, never before, and is not needed.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from meshproxy.trace.context import KNOWN_FLAGS, SpanContext

if TYPE_CHECKING:
    from opentelemetry.context import Context


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

    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return None
    return Active(
        context.trace_id.to_bytes(16, "big"),
        context.span_id.to_bytes(8, "big"),
        context.trace_flags & KNOWN_FLAGS,
        context.trace_state.to_header(),
        context.is_remote,
    )


def baggage() -> bytes:
    """Give OpenTelemetry's current baggage as a header value; empty when there is none."""
    if not _installed():
        return b""
    from opentelemetry.baggage.propagation import W3CBaggagePropagator

    carrier: dict[str, str] = {}
    W3CBaggagePropagator().inject(carrier)
    return carrier.get("baggage", "").encode()


def attach(span: SpanContext, members: bytes, remote: bool) -> object:
    """Make a span and its baggage OpenTelemetry's current ones; give what `restore` takes."""
    if not _installed():
        return None
    from opentelemetry import context, trace
    from opentelemetry.baggage.propagation import W3CBaggagePropagator

    before = context.get_current()
    theirs = trace.SpanContext(
        int.from_bytes(span.trace_id, "big"),
        int.from_bytes(span.span_id, "big"),
        remote,
        trace.TraceFlags(span.flags),
        trace.TraceState.from_header([span.tracestate]) if span.tracestate else None,
    )
    after = trace.set_span_in_context(trace.NonRecordingSpan(theirs), before)
    if members:
        header = {"baggage": members.decode("utf-8", "replace")}
        after = W3CBaggagePropagator().extract(header, after)
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
