"""Spans to OTLP/JSON (OTLP specification, "JSON Protobuf Encoding").

Ids are hexadecimal, enums numbers, 64-bit integers strings, otherwise protobuf's JSON mapping.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import msgspec

from meshproxy import __version__
from meshproxy.export.otlp import INT64_MAX, INT64_MIN, span_flags
from meshproxy.export.protobuf import utf8
from meshproxy.trace.span import Attributes, AttributeValue, Event, Link, Span

_encode = msgspec.json.encode


def encode_json_spans(spans: Sequence[Span]) -> bytes:
    """Encode spans as the inside of a JSON array; parts may be joined with commas."""
    return b",".join(_encode(_span(span)) for span in spans)


def frame_json(resource: Attributes, spans: bytes) -> bytes:
    """Put encoded spans into an ExportTraceServiceRequest: one line, without the line's end."""
    head = _encode({"attributes": _attributes(resource)})
    scope = _encode({"name": "meshproxy", "version": __version__})
    return (b'{"resourceSpans":[{"resource":%b,"scopeSpans":[{"scope":%b,"spans":[%b]}]}]}') % (
        head,
        scope,
        spans,
    )


def _span(span: Span) -> dict[str, Any]:
    shape = span.shape
    out: dict[str, Any] = {"traceId": span.trace_id.hex(), "spanId": span.span_id.hex()}
    if span.parent_id:
        out["parentSpanId"] = span.parent_id.hex()
    if span.tracestate:
        out["traceState"] = _text(span.tracestate)
    out |= {
        "flags": span_flags(span),
        "name": _text(shape.name),
        "kind": int(shape.kind),
        "startTimeUnixNano": str(span.start_ns),
        "endTimeUnixNano": str(span.end_ns),
        "attributes": _attributes(span.all_attributes()),
    }
    if span.events:
        out["events"] = [_event(event) for event in span.events]
    if span.links:
        out["links"] = [_link(link) for link in span.links]
    if span.status or span.status_message:
        message = {"message": _text(span.status_message)} if span.status_message else {}
        out["status"] = message | {"code": int(span.status)}
    return out


def _event(event: Event) -> dict[str, Any]:
    return {
        "timeUnixNano": str(event.time_ns),
        "name": _text(event.name),
        "attributes": _attributes(event.attributes),
    }


def _link(link: Link) -> dict[str, Any]:
    context = link.context
    return {
        "traceId": context.trace_id.hex(),
        "spanId": context.span_id.hex(),
        "traceState": _text(context.tracestate),
        "flags": context.flags,
        "attributes": _attributes(link.attributes),
    }


def _attributes(attributes: Attributes) -> list[dict[str, Any]]:
    return [{"key": _text(key), "value": _value(value)} for key, value in attributes]


def _value(value: AttributeValue) -> dict[str, Any]:
    if isinstance(value, str):
        return {"stringValue": _text(value)}
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        kind = "intValue" if INT64_MIN <= value <= INT64_MAX else "stringValue"
        return {kind: str(value)}
    if isinstance(value, float):
        return {"doubleValue": _double(value)}
    return {"arrayValue": {"values": [_value(item) for item in value]}}


def _double(value: float) -> float | str:
    if math.isfinite(value):
        return value
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


def _text(text: str) -> str:
    return text if text.isascii() else utf8(text).decode()
