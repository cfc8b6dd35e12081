"""SkyWalking's cross-process protocol, version 3: ``sw8``.

skywalking.apache.org/docs, "Cross Process Propagation Headers Protocol v3". Its ids are free
strings. They become W3C ids by SHA-256, so that every sidecar comes to the same ids without
talking; ids that this module wrote itself (hexadecimal) become what they were.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from binascii import Error as _NotBase64
from binascii import hexlify, unhexlify
from hashlib import sha256

from meshproxy.trace import baggage
from meshproxy.trace.context import SpanContext
from meshproxy.trace.formats.base import Fields, Foreign, Pairs, foreign_context, one_value

_HEADER = b"sw8"
_CORRELATION = b"sw8-correlation"
_EXTENSION = b"sw8-x"
_TRACE_STRING = b"trace"
_ENDPOINT_STRINGS = (b"service", b"instance", b"endpoint", b"peer")
_UNKNOWN = b64encode(b"unknown")
"""Stands for who the caller is when nobody told: an agent refuses an empty string."""

_is_trace_hex = re.compile(rb"(?!0{32})[0-9a-f]{32}").fullmatch
_is_span_hex = re.compile(rb"(?!0{16})[0-9a-f]{16}").fullmatch


class SkyWalking:
    """``{0 or 1}-{trace}-{segment}-{span}-{service}-{instance}-{endpoint}-{peer}``.

    All but the first and the span number are Base64 strings. ``sw8-correlation`` holds baggage,
    ``sw8-x`` extensions; both go out as they came.
    """

    name = "skywalking"
    fields = (_HEADER, _CORRELATION, _EXTENSION)
    prefixes = ()

    def extract(self, fields: Fields) -> Foreign | None:
        """See `Format.extract`."""
        correlation = one_value(fields, _CORRELATION)
        extras = [(_CORRELATION, correlation), (_EXTENSION, one_value(fields, _EXTENSION))]
        extras = [pair for pair in extras if pair[1]]
        members = _correlation_members(correlation)
        value = one_value(fields, _HEADER)
        if not value:
            return Foreign(self.name, baggage=members, carried=extras) if extras else None
        parts = value.split(b"-")
        if len(parts) != 8 or parts[0] not in (b"0", b"1") or not parts[3].isdigit():
            return None
        decoded = [_decode(part) for part in (parts[1], parts[2], *parts[4:])]
        trace, segment = decoded[:2]
        if not trace or not segment or None in decoded:
            return None
        sampled = parts[0] == b"1"
        return Foreign(
            self.name,
            foreign_context(_trace_id(trace), _span_id(segment, parts[3]), sampled),
            sampled=sampled,
            baggage=members,
            carried=[
                (_TRACE_STRING, parts[1]),
                *zip(_ENDPOINT_STRINGS, parts[4:], strict=True),
                *extras,
            ],
            attributes=_original_ids(trace, segment, parts[3]),
        )

    def inject(
        self, context: SpanContext, came_in: Foreign | None, *, debug: bool = False
    ) -> list[tuple[bytes, bytes]]:
        """See `Format.inject`."""
        carried = dict(came_in.carried if came_in else ())
        trace = b64encode(hexlify(context.trace_id))
        if came_in and came_in.trace_id == context.trace_id:
            trace = carried.get(_TRACE_STRING, trace)
        value = b"-".join(
            (
                b"1" if context.sampled else b"0",
                trace,
                b64encode(hexlify(context.span_id)),
                b"0",
                *(carried.get(name) or _UNKNOWN for name in _ENDPOINT_STRINGS),
            )
        )
        extras = [(n, carried[n]) for n in (_CORRELATION, _EXTENSION) if n in carried]
        return [(_HEADER, value), *extras]


def _decode(text: bytes) -> bytes | None:
    try:
        return b64decode(text, validate=True)
    except _NotBase64:
        return None


def _trace_id(trace: bytes) -> bytes:
    return unhexlify(trace) if _is_trace_hex(trace) else sha256(trace).digest()[:16]


def _span_id(segment: bytes, number: bytes) -> bytes:
    """A span is named by its segment and its number there; ours are number 0 of their own."""
    if number == b"0" and _is_span_hex(segment):
        return unhexlify(segment)
    return sha256(segment + b"-" + number).digest()[:8]


def _original_ids(trace: bytes, segment: bytes, number: bytes) -> tuple[tuple[str, str], ...]:
    return (
        ("skywalking.trace_id", trace.decode("utf-8", "replace")),
        ("skywalking.segment_id", segment.decode("utf-8", "replace")),
        ("skywalking.span_id", number.decode("ascii")),
    )


def _correlation_members(value: bytes) -> tuple[bytes, ...]:
    """Read ``base64(key):base64(value)`` pairs, separated by commas; what is none is left out."""
    pairs: Pairs = [
        (key, decoded)
        for part in value.split(b",")
        for name, _, text in [part.strip(b" \t").partition(b":")]
        if (key := _decode(name)) and (decoded := _decode(text)) is not None
    ]
    members = (baggage.member(key, decoded) for key, decoded in pairs)
    return tuple(member for member in members if member is not None)
