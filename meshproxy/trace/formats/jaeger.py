"""Jaeger's own format: ``uber-trace-id``, with baggage in ``uberctx-{key}``.

jaegertracing.io/docs, "Client libraries", "Propagation format".
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
    prefixed,
    prefixed_baggage,
)

_HEADER = b"uber-trace-id"
_BAGGAGE = b"uberctx-"
_SAMPLED = 0x01
_DEBUG = 0x02


class Jaeger:
    """``uber-trace-id: {trace id}:{span id}:{parent span id}:{flags}``, all hexadecimal.

    Leading zeros may be missing, colons may be percent-encoded. The parent span id is deprecated:
    read past, written as 0.
    """

    name = "jaeger"
    fields = (_HEADER,)
    prefixes = (_BAGGAGE,)

    def extract(self, fields: Fields) -> Foreign | None:
        """See `Format.extract`."""
        carried = prefixed(fields, _BAGGAGE)
        members = prefixed_baggage(carried, _BAGGAGE)
        value = one_value(fields, _HEADER)
        if not value:
            return Foreign(self.name, baggage=members, carried=carried) if carried else None
        parts = value.replace(b"%3A", b":").replace(b"%3a", b":").split(b":")
        if len(parts) != 4 or len(parts[3]) > 2:
            return None
        trace_id = ids.from_hex(parts[0], 16)
        span_id = ids.from_hex(parts[1], 8)
        flags = _flags(parts[3])
        if trace_id is None or span_id is None or flags is None:
            return None
        debug = bool(flags & _DEBUG)
        sampled = debug or bool(flags & _SAMPLED)
        return Foreign(
            self.name,
            foreign_context(trace_id, span_id, sampled),
            sampled=sampled,
            debug=debug,
            short=len(parts[0]) <= 16,
            baggage=members,
            carried=carried,
        )

    def inject(
        self, context: SpanContext, came_in: Foreign | None, *, debug: bool = False
    ) -> list[tuple[bytes, bytes]]:
        """See `Format.inject`."""
        trace_id = context.trace_id[8:] if goes_out_short(context, came_in) else context.trace_id
        flags = b"0" if not context.sampled else b"3" if debug else b"1"
        value = b":".join((hexlify(trace_id), hexlify(context.span_id), b"0", flags))
        return [(_HEADER, value), *(came_in.carried if came_in else ())]


def _flags(text: bytes) -> int | None:
    if text in (b"0", b"00"):
        return 0
    raw = ids.from_hex(text, 1)
    return raw[0] if raw else None
