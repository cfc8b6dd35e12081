"""OpenTracing's basic tracers: ``ot-tracer-*``, with baggage in ``ot-baggage-{key}``.

OpenTelemetry specification, "API propagators", "OT Trace".
"""

from __future__ import annotations

from binascii import hexlify

from meshproxy.trace import ids
from meshproxy.trace.context import SpanContext
from meshproxy.trace.formats.base import (
    Fields,
    Foreign,
    foreign_context,
    one_value,
    prefixed,
    prefixed_baggage,
)

_TRACE = b"ot-tracer-traceid"
_SPAN = b"ot-tracer-spanid"
_SAMPLED = b"ot-tracer-sampled"
_BAGGAGE = b"ot-baggage-"
_DECISIONS = {b"": None, b"0": False, b"1": True, b"false": False, b"true": True}


class OpenTracing:
    """``ot-tracer-traceid``, ``ot-tracer-spanid``, ``ot-tracer-sampled``.

    Trace ids are 64 bits, except towards those who sent 128.
    """

    name = "ot"
    fields = (_TRACE, _SPAN, _SAMPLED)
    prefixes = (_BAGGAGE,)

    def extract(self, fields: Fields) -> Foreign | None:
        """See `Format.extract`."""
        carried = prefixed(fields, _BAGGAGE)
        members = prefixed_baggage(carried, _BAGGAGE)
        trace, span, decision = (one_value(fields, name) for name in self.fields)
        if not (trace or span or decision):
            return Foreign(self.name, baggage=members, carried=carried) if carried else None
        trace_id = ids.from_hex(trace, 16)
        span_id = ids.from_hex(span, 8)
        decision = decision.lower()
        if trace_id is None or span_id is None or decision not in _DECISIONS:
            return None
        sampled = _DECISIONS[decision]
        return Foreign(
            self.name,
            foreign_context(trace_id, span_id, sampled),
            sampled=sampled,
            short=len(trace) <= 16,
            baggage=members,
            carried=carried,
        )

    def inject(
        self, context: SpanContext, came_in: Foreign | None, *, debug: bool = False
    ) -> list[tuple[bytes, bytes]]:
        """See `Format.inject`."""
        long = came_in is not None and came_in.context is not None and not came_in.short
        return [
            (_TRACE, hexlify(context.trace_id if long else context.trace_id[8:])),
            (_SPAN, hexlify(context.span_id)),
            (_SAMPLED, b"true" if context.sampled else b"false"),
            *(came_in.carried if came_in else ()),
        ]
