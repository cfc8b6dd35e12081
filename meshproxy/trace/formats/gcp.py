"""Google Cloud: ``X-Cloud-Trace-Context`` (cloud.google.com/trace/docs/trace-context)."""

from __future__ import annotations

import re
from binascii import hexlify

from meshproxy.trace import ids
from meshproxy.trace.context import SpanContext
from meshproxy.trace.formats.base import Fields, Foreign, foreign_context, one_value

_HEADER = b"x-cloud-trace-context"
_parts = re.compile(rb"([0-9A-Fa-f]{32})(?:/([0-9]{1,20}))?(?:;o=([0-9]{1,3}))?").fullmatch


class Gcp:
    """``{32 hex}/{span id, decimal}[;o={options}]``; the lowest bit of the options is sampled."""

    name = "gcp"
    fields = (_HEADER,)
    prefixes = ()

    def extract(self, fields: Fields) -> Foreign | None:
        """See `Format.extract`."""
        match = _parts(one_value(fields, _HEADER))
        trace_id = ids.from_hex(match[1], 16) if match else None
        if match is None or trace_id is None:
            return None
        sampled = bool(int(match[3]) & 1) if match[3] else None
        span = match[2] or b"0"
        if not int(span):
            return Foreign(self.name, sampled=sampled, trace_id=trace_id)
        span_id = ids.from_decimal(span)
        if span_id is None:
            return None
        return Foreign(self.name, foreign_context(trace_id, span_id, sampled), sampled=sampled)

    def inject(
        self, context: SpanContext, came_in: Foreign | None, *, debug: bool = False
    ) -> list[tuple[bytes, bytes]]:
        """See `Format.inject`."""
        span = ids.to_decimal(context.span_id)
        value = b"%b/%b;o=%d" % (hexlify(context.trace_id), span, context.sampled)
        return [(b"X-Cloud-Trace-Context", value)]
