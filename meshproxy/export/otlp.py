"""Spans to OTLP protobuf bytes (opentelemetry/proto/trace/v1/trace.proto), written by hand.

This runs for every span that the proxy makes, hence three measures: what a `SpanShape` holds is
encoded once for all its spans; all that stands before a string or integer value (tags, lengths,
key) comes from a table by key and value length; and the fields of fixed width at the head of a
span are one ``struct`` call. Field order is free in protobuf: ids, times and status come first, so
that a collector reads what it needs without a full parse.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

from meshproxy import __version__
from meshproxy.export.protobuf import delimited, utf8, varint
from meshproxy.trace.span import (
    Attributes,
    AttributeValue,
    Event,
    Link,
    SharedAttributes,
    Span,
    SpanShape,
)

HAS_IS_REMOTE: Final = 0x100
"""SpanFlags: the flags tell whether the parent is remote."""

IS_REMOTE: Final = 0x200
"""SpanFlags: the parent is remote."""

_REMOTE = HAS_IS_REMOTE | IS_REMOTE

INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1

ENCODING: Final = "otlp"
"""Name of this encoding in `SpanShape.encoded`."""

# Field tags: number << 3 | wire type.
_REQUEST_RESOURCE_SPANS: Final = b"\x0a"
_RESOURCE_SPANS_RESOURCE, _RESOURCE_SPANS_SCOPE_SPANS = b"\x0a", b"\x12"
_SCOPE_SPANS_SCOPE, _SCOPE_SPANS_SPAN = b"\x0a", b"\x12"
_SCOPE_NAME, _SCOPE_VERSION = b"\x0a", b"\x12"
_RESOURCE_ATTRIBUTE: Final = b"\x0a"
_SPAN_TRACE_STATE, _SPAN_NAME, _SPAN_KIND = b"\x1a", b"\x2a", b"\x30"
_SPAN_ATTRIBUTE, _SPAN_EVENT, _SPAN_LINK, _SPAN_STATUS = b"\x4a", b"\x5a", b"\x6a", b"\x7a"
_STATUS_MESSAGE, _STATUS_CODE = b"\x12", b"\x18"
_EVENT_NAME, _EVENT_ATTRIBUTE = b"\x12", b"\x1a"
_LINK_TRACE_STATE, _LINK_ATTRIBUTE = b"\x1a", b"\x22"
_KEY, _VALUE = b"\x0a", b"\x12"
_ANY_STRING, _ANY_BOOL, _ANY_INT, _ANY_DOUBLE, _ANY_ARRAY = (
    b"\x0a",
    b"\x10",
    b"\x18",
    b"\x21",
    b"\x2a",
)
_ARRAY_VALUE: Final = b"\x0a"

# Tags as little-endian numbers (for a tag and a length byte: two bytes), then the value.
_TRACE_ID, _SPAN_ID, _START, _END, _FLAGS, _PARENT_ID = 0x100A, 0x0812, 0x39, 0x41, 0x0185, 0x0822
_HEAD = Struct("<H16sH8sBQBQHI")
_HEAD_WITH_PARENT = Struct("<H16sH8sBQBQHIH8s")
_EVENT_TIME = Struct("<cQ")
_LINK_IDS = Struct("<2s16s2s8s")
_LINK_FLAGS = Struct("<cI")
_DOUBLE = Struct("<d")

_SCOPE = delimited(
    _SCOPE_SPANS_SCOPE,
    delimited(_SCOPE_NAME, b"meshproxy") + delimited(_SCOPE_VERSION, __version__.encode()),
)
_SPAN_PREFIXES = tuple(_SCOPE_SPANS_SPAN + varint(size) for size in range(4096))

_KEYS_REMEMBERED: Final = 1024
"""Keys come from code and configuration, so few: the bound is against mistakes."""


_string_prefixes: dict[str, tuple[bytes, ...]] = {}
"""By key: what precedes a string value of n bytes, for each n that keeps lengths in one byte."""

_int_prefixes: dict[str, tuple[bytes, ...]] = {}
"""By key: what precedes an AnyValue of n bytes, its tag included."""


def request_head(resource: bytes, size: int) -> bytes:
    """All of an ExportTraceServiceRequest that stands before ``size`` bytes of encoded spans.

    ``resource`` comes from `encode_resource`, each span from `encode_span`.
    """
    scope_spans = _RESOURCE_SPANS_SCOPE_SPANS + varint(len(_SCOPE) + size) + _SCOPE
    inside = delimited(_RESOURCE_SPANS_RESOURCE, resource) + scope_spans
    return _REQUEST_RESOURCE_SPANS + varint(len(inside) + size) + inside


def encode_resource(attributes: Attributes) -> bytes:
    """Encode a Resource message."""
    return _encode_attributes(_RESOURCE_ATTRIBUTE, attributes)


def encode_span(span: Span) -> bytes:
    """Encode one span with its tag, as an element of the field ``spans`` of ScopeSpans.

    Raises `struct.error` for a time outside of 64 bits.
    """
    parts = [b"", _encode_head(span)]
    if span.status or span.status_message:
        parts.append(_encode_status(span))
    parts.append(span.shape.encoded.get(ENCODING) or _encode_shape(span.shape))
    shared = span.shared
    if shared is not None:
        parts.append(shared.encoded.get(ENCODING) or _encode_shared(shared))
    for key, value in span.attributes:
        try:
            if type(value) is str:
                text = value.encode()
                parts += (_string_prefixes[key][len(text)], text)
                continue
            if type(value) is int and 0 <= value <= INT64_MAX:
                number = _ANY_INT + varint(value)
                parts += (_int_prefixes[key][len(number)], number)
                continue
        except (KeyError, IndexError, UnicodeEncodeError):
            _remember_prefixes(key)
        parts.append(delimited(_SPAN_ATTRIBUTE, _encode_attribute(key, value)))
    if span.tracestate:
        parts.append(delimited(_SPAN_TRACE_STATE, utf8(span.tracestate)))
    if span.events:
        parts += [delimited(_SPAN_EVENT, _encode_event(event)) for event in span.events]
    if span.links:
        parts += [delimited(_SPAN_LINK, _encode_link(link)) for link in span.links]
    size = sum(map(len, parts))
    parts[0] = _SPAN_PREFIXES[size] if size < 4096 else _SCOPE_SPANS_SPAN + varint(size)
    return b"".join(parts)


def span_flags(span: Span) -> int:
    """Trace flags plus, from bit 8, whether the parent is remote (SpanFlags in trace.proto)."""
    return span.flags | (_REMOTE if span.parent_remote and span.parent_id else HAS_IS_REMOTE)


def _encode_head(span: Span) -> bytes:
    if not span.parent_id:
        return _HEAD.pack(
            _TRACE_ID, span.trace_id, _SPAN_ID, span.span_id, _START, span.start_ns,
            _END, span.end_ns, _FLAGS, span_flags(span),
        )  # fmt: skip
    # Most spans; a call of span_flags would cost 60 ns.
    flags = span.flags | (_REMOTE if span.parent_remote else HAS_IS_REMOTE)
    return _HEAD_WITH_PARENT.pack(
        _TRACE_ID, span.trace_id, _SPAN_ID, span.span_id, _START, span.start_ns,
        _END, span.end_ns, _FLAGS, flags, _PARENT_ID, span.parent_id,
    )  # fmt: skip


def _remember_prefixes(key: str) -> None:
    """Make the tables for a key, unless it has them or there are too many."""
    if key in _string_prefixes or len(_string_prefixes) >= _KEYS_REMEMBERED:
        return
    named = delimited(_KEY, utf8(key)) + _VALUE
    longest = 0x7F - len(named) - 1
    any_values = [
        _SPAN_ATTRIBUTE + varint(len(named) + 1 + size) + named + varint(size)
        for size in range(longest + 1)
    ]
    _int_prefixes[key] = tuple(any_values)
    _string_prefixes[key] = tuple(
        prefix + _ANY_STRING + varint(size) for size, prefix in enumerate(any_values[2:])
    )


def _encode_status(span: Span) -> bytes:
    message = delimited(_STATUS_MESSAGE, utf8(span.status_message)) if span.status_message else b""
    return delimited(_SPAN_STATUS, message + _STATUS_CODE + varint(span.status))


def _encode_shape(shape: SpanShape) -> bytes:
    name = delimited(_SPAN_NAME, utf8(shape.name))
    kind = _SPAN_KIND + varint(shape.kind)
    encoded = name + kind + _encode_attributes(_SPAN_ATTRIBUTE, shape.attributes)
    shape.encoded[ENCODING] = encoded
    return encoded


def _encode_shared(shared: SharedAttributes) -> bytes:
    encoded = _encode_attributes(_SPAN_ATTRIBUTE, shared.attributes)
    shared.encoded[ENCODING] = encoded
    return encoded


def _encode_event(event: Event) -> bytes:
    time = _EVENT_TIME.pack(b"\x09", event.time_ns)
    name = delimited(_EVENT_NAME, utf8(event.name))
    return time + name + _encode_attributes(_EVENT_ATTRIBUTE, event.attributes)


def _encode_link(link: Link) -> bytes:
    context = link.context
    ids = _LINK_IDS.pack(b"\x0a\x10", context.trace_id, b"\x12\x08", context.span_id)
    state = delimited(_LINK_TRACE_STATE, utf8(context.tracestate)) if context.tracestate else b""
    flags = _LINK_FLAGS.pack(b"\x35", context.flags)
    return ids + state + flags + _encode_attributes(_LINK_ATTRIBUTE, link.attributes)


def _encode_attributes(tag: bytes, attributes: Attributes) -> bytes:
    return b"".join(delimited(tag, _encode_attribute(key, value)) for key, value in attributes)


def _encode_attribute(key: str, value: AttributeValue) -> bytes:
    """Encode one KeyValue message."""
    return delimited(_KEY, utf8(key)) + delimited(_VALUE, _encode_value(value))


def _encode_value(value: AttributeValue) -> bytes:
    """Encode one AnyValue message."""
    if isinstance(value, str):
        return delimited(_ANY_STRING, utf8(value))
    if isinstance(value, bool):
        return _ANY_BOOL + varint(value)
    if isinstance(value, int):
        if INT64_MIN <= value <= INT64_MAX:
            return _ANY_INT + varint(value)
        return delimited(_ANY_STRING, str(value).encode())
    if isinstance(value, float):
        return _ANY_DOUBLE + _DOUBLE.pack(value)
    items = b"".join(delimited(_ARRAY_VALUE, _encode_value(item)) for item in value)
    return delimited(_ANY_ARRAY, items)
