"""AWS X-Ray: ``X-Amzn-Trace-Id`` (AWS X-Ray developer guide, "Tracing header")."""

from __future__ import annotations

from binascii import hexlify

from meshproxy.trace import ids
from meshproxy.trace.context import SpanContext
from meshproxy.trace.formats.base import Fields, Foreign, foreign_context, one_value

_HEADER = b"x-amzn-trace-id"
_SAMPLED = {b"0": False, b"1": True}


class XRay:
    """``Root=1-{8 hex}-{24 hex};Parent={16 hex};Sampled={0, 1 or ?}`` in any order.

    Keys are read in either case, and blanks between them do not matter. A load balancer sends a
    root without a parent. Other keys (``Self``, ``Lineage``) go out as they came.
    """

    name = "xray"
    fields = (_HEADER,)
    prefixes = ()

    def extract(self, fields: Fields) -> Foreign | None:
        """See `Format.extract`."""
        known = {b"root": b"", b"parent": b"", b"sampled": b""}
        carried = []
        for part in one_value(fields, _HEADER).split(b";"):
            key, equals, value = (piece.strip(b" \t") for piece in part.partition(b"="))
            if key.lower() in known:
                known[key.lower()] = value
            elif equals and key:
                carried.append((key, value))
        trace_id = _root(known[b"root"])
        if trace_id is None:
            return None
        sampled = _SAMPLED.get(known[b"sampled"])
        parent = known[b"parent"]
        span_id = ids.from_hex(parent, 8) if len(parent) == 16 else None
        context = foreign_context(trace_id, span_id, sampled) if span_id else None
        return Foreign(self.name, context, sampled=sampled, trace_id=trace_id, carried=carried)

    def inject(
        self, context: SpanContext, came_in: Foreign | None, *, debug: bool = False
    ) -> list[tuple[bytes, bytes]]:
        """See `Format.inject`."""
        trace = hexlify(context.trace_id)
        value = b"Root=1-%b-%b;Parent=%b;Sampled=%d" % (
            trace[:8],
            trace[8:],
            hexlify(context.span_id),
            context.sampled,
        )
        for key, extra in came_in.carried if came_in else ():
            value += b";%b=%b" % (key, extra)
        return [(b"X-Amzn-Trace-Id", value)]


def _root(text: bytes) -> bytes | None:
    version, _, rest = text.partition(b"-")
    time, _, unique = rest.partition(b"-")
    if version != b"1" or len(time) != 8 or len(unique) != 24:
        return None
    return ids.from_hex(time + unique, 16)
