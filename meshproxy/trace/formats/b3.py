"""B3, of Zipkin, in one header and in several (github.com/openzipkin/b3-propagation).

The parent span id is read past and never written: it is optional, and ours is not the caller's.
"""

from __future__ import annotations

from binascii import hexlify

from meshproxy.trace import ids
from meshproxy.trace.context import SpanContext
from meshproxy.trace.formats.base import (
    Fields,
    Foreign,
    foreign_context,
    goes_out_short,
    one_value,
)

_STATES: dict[bytes, tuple[bool | None, bool]] = {
    b"0": (False, False),
    b"1": (True, False),
    b"d": (True, True),
}
"""Sampled and debug by the sampling state of the single header."""

_DEFERRED = (None, False)

_SAMPLED = {b"": None, b"0": False, b"1": True, b"false": False, b"true": True}


class B3Single:
    """``b3: {trace id}-{span id}[-{state}[-{parent span id}]]``, or the state alone."""

    name = "b3"
    fields = (b"b3",)
    prefixes = ()

    def extract(self, fields: Fields) -> Foreign | None:
        """See `Format.extract`."""
        value = one_value(fields, b"b3")
        if value in _STATES:
            sampled, debug = _STATES[value]
            return Foreign(self.name, sampled=sampled, debug=debug)
        parts = value.split(b"-")
        if not 2 <= len(parts) <= 4 or (len(parts) == 4 and not _is_parent(parts[3])):
            return None
        state = _STATES.get(parts[2]) if len(parts) > 2 else _DEFERRED
        if state is None:
            return None
        return _foreign(self.name, parts[0], parts[1], *state)

    def inject(
        self, context: SpanContext, came_in: Foreign | None, *, debug: bool = False
    ) -> list[tuple[bytes, bytes]]:
        """See `Format.inject`."""
        state = b"0" if not context.sampled else b"d" if debug else b"1"
        trace = _trace_hex(context, came_in)
        return [(b"b3", b"-".join((trace, hexlify(context.span_id), state)))]


class B3Multi:
    """``X-B3-TraceId``, ``X-B3-SpanId``, ``X-B3-Sampled`` and ``X-B3-Flags``."""

    name = "b3multi"
    fields = (
        b"x-b3-traceid",
        b"x-b3-spanid",
        b"x-b3-parentspanid",
        b"x-b3-sampled",
        b"x-b3-flags",
    )
    prefixes = ()

    def extract(self, fields: Fields) -> Foreign | None:
        """See `Format.extract`."""
        trace, span, parent, state, flags = (one_value(fields, name) for name in self.fields)
        state = state.lower()
        if state not in _SAMPLED or flags not in (b"", b"0", b"1"):
            return None
        if parent and not _is_parent(parent):
            return None
        debug = flags == b"1"
        sampled = True if debug else _SAMPLED[state]
        if trace or span:
            return _foreign(self.name, trace, span, sampled, debug)
        return None if sampled is None else Foreign(self.name, sampled=sampled, debug=debug)

    def inject(
        self, context: SpanContext, came_in: Foreign | None, *, debug: bool = False
    ) -> list[tuple[bytes, bytes]]:
        """See `Format.inject`."""
        ids_out = [
            (b"X-B3-TraceId", _trace_hex(context, came_in)),
            (b"X-B3-SpanId", hexlify(context.span_id)),
        ]
        if debug and context.sampled:
            return [*ids_out, (b"X-B3-Flags", b"1")]
        return [*ids_out, (b"X-B3-Sampled", b"1" if context.sampled else b"0")]


def _foreign(
    name: str, trace: bytes, span: bytes, sampled: bool | None, debug: bool
) -> Foreign | None:
    trace_id = ids.from_hex(trace, 16) if len(trace) in (16, 32) else None
    span_id = ids.from_hex(span, 8) if len(span) == 16 else None
    if trace_id is None or span_id is None:
        return None
    context = foreign_context(trace_id, span_id, sampled)
    return Foreign(name, context, sampled=sampled, debug=debug, short=len(trace) == 16)


def _is_parent(text: bytes) -> bool:
    return len(text) == 16 and ids.from_hex(text, 8) is not None


def _trace_hex(context: SpanContext, came_in: Foreign | None) -> bytes:
    trace_id = context.trace_id
    return hexlify(trace_id[8:] if goes_out_short(context, came_in) else trace_id)
