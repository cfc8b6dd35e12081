"""Datadog: the ``x-datadog-*`` headers and the ``dd`` member of tracestate.

Trace ids are decimal and 64 bits; the high half of longer ones travels as the tag ``_dd.p.tid``. An
application with Datadog's library may read the W3C headers first, so origin, priority and tags are
put into tracestate as well, and are taken from there when only W3C came in.
docs.datadoghq.com/tracing/trace_collection/trace_context_propagation
"""

from __future__ import annotations

import re
from binascii import hexlify

from meshproxy.trace import ids, tracestate
from meshproxy.trace.context import SpanContext
from meshproxy.trace.formats.base import (
    Fields,
    Foreign,
    Pairs,
    foreign_context,
    goes_out_short,
    one_value,
)

_TRACE = b"x-datadog-trace-id"
_PARENT = b"x-datadog-parent-id"
_PRIORITY = b"x-datadog-sampling-priority"
_ORIGIN = b"x-datadog-origin"
_TAGS = b"x-datadog-tags"
_HIGH_HALF = b"_dd.p.tid"
_TAG_PREFIX = b"_dd.p."
_USER_KEEP = 2
_priority = re.compile(rb"-?[0-9]{1,3}").fullmatch
_unfit_for_tracestate = re.compile(rb"[^ -+\--:<-}]")
_MEMBER_SIZE = 256


class Datadog:
    """``x-datadog-trace-id``, ``-parent-id``, ``-sampling-priority``, ``-origin``, ``-tags``."""

    name = "datadog"
    fields = (_TRACE, _PARENT, _PRIORITY, _ORIGIN, _TAGS)
    prefixes = ()

    def extract(self, fields: Fields) -> Foreign | None:
        """See `Format.extract`."""
        trace, parent, priority, origin, tags = (one_value(fields, name) for name in self.fields)
        low = ids.from_decimal(trace)
        span_id = ids.from_decimal(parent)
        if low is None or (span_id is None and parent.strip(b"0")):
            return None
        if priority and not _priority(priority):
            return None
        high = _high_half(tags)
        trace_id = (high or ids.ZERO_SPAN_ID) + low
        sampled = int(priority) > 0 if priority else None
        carried = [(_PRIORITY, priority), (_ORIGIN, origin), (_TAGS, tags)]
        context = None
        if span_id is not None:
            context = foreign_context(trace_id, span_id, sampled, _to_tracestate(carried))
        short = high is None
        return Foreign(
            self.name, context, sampled=sampled, short=short, trace_id=trace_id, carried=carried
        )

    def inject(
        self, context: SpanContext, came_in: Foreign | None, *, debug: bool = False
    ) -> list[tuple[bytes, bytes]]:
        """See `Format.inject`."""
        carried = dict(came_in.carried if came_in else _from_tracestate(context.tracestate))
        priority = _rewritten_priority(carried.get(_PRIORITY, b""), context.sampled, debug)
        high = b"" if goes_out_short(context, None) else hexlify(context.trace_id[:8])
        pairs = [
            (_TRACE, ids.to_decimal(context.trace_id[8:])),
            (_PARENT, ids.to_decimal(context.span_id)),
            (_PRIORITY, b"%d" % priority),
            (_ORIGIN, carried.get(_ORIGIN, b"")),
            (_TAGS, _with_high_half(carried.get(_TAGS, b""), high)),
        ]
        return [pair for pair in pairs if pair[1]]


def _high_half(tags: bytes) -> bytes | None:
    """Read ``_dd.p.tid``; one that is no 16 digits is ignored, as Datadog's own libraries do."""
    for tag in tags.split(b","):
        key, _, value = tag.strip(b" \t").partition(b"=")
        if key == _HIGH_HALF:
            return ids.from_hex(value, 8) if len(value) == 16 else None
    return None


def _with_high_half(tags: bytes, high: bytes) -> bytes:
    prefix = _HIGH_HALF + b"="
    kept = [tag for tag in tags.split(b",") if tag and not tag.strip(b" \t").startswith(prefix)]
    return b",".join([prefix + high, *kept] if high else kept)


def _rewritten_priority(came_in: bytes, sampled: bool, debug: bool) -> int:
    """Keep the shade (1 or 2, 0 or -1) that came in, as long as it says what the flag says."""
    if debug and sampled:
        return _USER_KEEP
    if _priority(came_in) and (int(came_in) > 0) == sampled:
        return int(came_in)
    return int(sampled)


def _to_tracestate(carried: Pairs) -> str:
    """Write the ``dd`` member: ``s:{priority};o:{origin};t.{tag}:{value}``, as much as fits."""
    values = dict(carried)
    parts = [(b"s", values[_PRIORITY]), (b"o", values[_ORIGIN])]
    for tag in values[_TAGS].split(b","):
        key, _, value = tag.strip(b" \t").partition(b"=")
        if key.startswith(_TAG_PREFIX) and key != _HIGH_HALF:
            parts.append((b"t." + key[len(_TAG_PREFIX) :], value))
    text = ""
    for key, value in parts:
        part = f"{_fit(key).replace('=', '_')}:{_fit(value).replace('=', '~')}"
        if value and len(text) + len(part) < _MEMBER_SIZE:
            text += f";{part}" if text else part
    text = text.rstrip(" ")
    return tracestate.put("", "dd", text) if text else ""


def _fit(value: bytes) -> str:
    return _unfit_for_tracestate.sub(b"_", value).decode("ascii")


def _from_tracestate(state: str) -> Pairs:
    """Read the ``dd`` member back into what the headers would have said."""
    member = tracestate.get(state, "dd")
    if member is None:
        return ()
    parts = dict(part.encode().split(b":", 1) for part in member.split(";") if ":" in part)
    tags = [
        _TAG_PREFIX + key[2:] + b"=" + value.replace(b"~", b"=")
        for key, value in parts.items()
        if key.startswith(b"t.")
    ]
    origin = parts.get(b"o", b"").replace(b"~", b"=")
    return [(_PRIORITY, parts.get(b"s", b"")), (_ORIGIN, origin), (_TAGS, b",".join(tags))]
