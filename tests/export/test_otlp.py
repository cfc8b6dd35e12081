"""OTLP bytes and JSON say of a span what the official classes read out of them."""

from __future__ import annotations

import base64
import contextlib
import json
import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
)

from meshproxy import __version__
from meshproxy.export.otlp import encode_resource, encode_span, request_head
from meshproxy.export.otlp_json import encode_json_spans, frame_json
from meshproxy.export.protobuf import DecodeError, fields, utf8, varint
from meshproxy.trace.context import SpanContext
from meshproxy.trace.span import Attributes, AttributeValue, Event, Kind, Link, Span, SpanShape

texts = st.text(max_size=200)
keys = st.text(min_size=1, max_size=140)
ids = st.binary(min_size=8, max_size=8)
trace_ids = st.binary(min_size=16, max_size=16)
times = st.integers(0, 2**64 - 1)
values = st.one_of(
    texts,
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    st.lists(texts, max_size=4),
)
attributes = st.lists(st.tuples(keys, values), max_size=6).map(tuple)
contexts = st.builds(SpanContext, trace_ids, ids, st.integers(0, 3), texts)
spans = st.builds(
    Span,
    st.builds(SpanShape, texts, st.sampled_from(Kind), attributes),
    contexts,
    st.one_of(st.just(b""), ids),
    times,
    times,
    attributes,
    parent_remote=st.booleans(),
    status=st.integers(0, 2),
    status_message=texts,
    links=st.lists(st.builds(Link, contexts, attributes), max_size=3),
    events=st.lists(st.builds(Event, texts, times, attributes), max_size=3),
)


def read_value(message: Any) -> AttributeValue:
    kind = message.WhichOneof("value")
    if kind == "array_value":
        return [read_value(item) for item in message.array_value.values]  # type: ignore[misc]
    return getattr(message, kind)


def assert_same_attributes(messages: Any, expected: Attributes) -> None:
    read = [(message.key, read_value(message.value)) for message in messages]
    assert len(read) == len(expected)
    for (key, value), (expected_key, expected_value) in zip(read, expected, strict=True):
        assert key == expected_key
        assert type(value) is type(expected_value)
        if isinstance(value, float) and math.isnan(value):
            assert math.isnan(expected_value)  # type: ignore[arg-type]
        else:
            assert value == expected_value


def assert_same_span(message: Any, span: Span) -> None:
    assert message.trace_id == span.trace_id
    assert message.span_id == span.span_id
    assert message.parent_span_id == span.parent_id
    assert message.trace_state == span.tracestate
    remote = 0x200 if span.parent_id and span.parent_remote else 0
    assert message.flags == span.flags | 0x100 | remote
    assert message.name == span.shape.name
    assert message.kind == span.shape.kind
    assert message.start_time_unix_nano == span.start_ns
    assert message.end_time_unix_nano == span.end_ns
    assert message.status.code == span.status
    assert message.status.message == span.status_message
    assert_same_attributes(message.attributes, (*span.shape.attributes, *span.attributes))
    for event_message, event in zip(message.events, span.events, strict=True):
        assert event_message.name == event.name
        assert event_message.time_unix_nano == event.time_ns
        assert_same_attributes(event_message.attributes, event.attributes)
    for link_message, link in zip(message.links, span.links, strict=True):
        assert link_message.trace_id == link.context.trace_id
        assert link_message.span_id == link.context.span_id
        assert link_message.trace_state == link.context.tracestate
        assert link_message.flags == link.context.flags
        assert_same_attributes(link_message.attributes, link.attributes)


def assert_same_request(
    request: ExportTraceServiceRequest, resource: Attributes, expected: Sequence[Span]
) -> None:
    (resource_spans,) = request.resource_spans
    assert_same_attributes(resource_spans.resource.attributes, resource)
    (scope_spans,) = resource_spans.scope_spans
    assert (scope_spans.scope.name, scope_spans.scope.version) == ("meshproxy", __version__)
    for message, span in zip(scope_spans.spans, expected, strict=True):
        assert_same_span(message, span)


def read_json(line: bytes) -> ExportTraceServiceRequest:
    """Read OTLP/JSON, which is protobuf's JSON but for ids in hexadecimal."""
    parsed = json.loads(line)

    def to_base64(node: Any) -> None:
        if isinstance(node, list):
            for item in node:
                to_base64(item)
        elif isinstance(node, dict):
            for key in ("traceId", "spanId", "parentSpanId"):
                if key in node:
                    node[key] = base64.b64encode(bytes.fromhex(node[key])).decode()
            for item in node.values():
                to_base64(item)

    to_base64(parsed)
    return json_format.ParseDict(parsed, ExportTraceServiceRequest())


def in_protobuf(resource: Attributes, batch: Sequence[Span]) -> ExportTraceServiceRequest:
    """A batch through the encoder, and back by the official classes."""
    encoded = b"".join(map(encode_span, batch))
    head = request_head(encode_resource(resource), len(encoded))
    return ExportTraceServiceRequest.FromString(head + encoded)


def in_json(resource: Attributes, batch: Sequence[Span]) -> ExportTraceServiceRequest:
    """The same in OTLP/JSON."""
    line = frame_json(resource, encode_json_spans(batch))
    assert b"\n" not in line
    return read_json(line)


@given(attributes, st.lists(spans, max_size=4))
def test_protobuf_is_what_the_official_classes_read(
    resource: Attributes, batch: list[Span]
) -> None:
    assert_same_request(in_protobuf(resource, batch), resource, batch)


@given(attributes, st.lists(spans, max_size=4))
def test_json_is_what_the_official_classes_read(resource: Attributes, batch: list[Span]) -> None:
    assert_same_request(in_json(resource, batch), resource, batch)


def test_shape_is_encoded_once_and_stays_right(make_span: Callable[..., Span]) -> None:
    shape = SpanShape("GET /", Kind.CLIENT, [("server.port", 80)])
    batch = [make_span(1, shape=shape), make_span(2, shape=shape)]
    for _ in range(2):
        assert_same_request(in_protobuf((), batch), (), batch)


@pytest.mark.parametrize("size", [*range(0x60, 0x90), 4000, 5000, 70000])
def test_every_length_of_a_value_is_right(size: int, make_span: Callable[..., Span]) -> None:
    batch = [make_span(1, attributes=(("url.path", "x" * size),))] * 2
    assert_same_request(in_protobuf((), batch), (), batch)


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (2**63, "9223372036854775808"),
        (-(2**63) - 1, "-9223372036854775809"),
        (10**30, "1" + "0" * 30),
    ],
)
def test_integer_beyond_64_bits_becomes_text(
    number: int, expected: str, make_span: Callable[..., Span]
) -> None:
    span = make_span(1, attributes=(("n", number),))
    wanted = [make_span(1, attributes=(("n", expected),))]
    for request in (in_protobuf((), [span]), in_json((), [span])):
        assert_same_request(request, (), wanted)


def test_lone_surrogates_are_replaced_everywhere(make_span: Callable[..., Span]) -> None:
    bad, good = "a\ud800b", "a�b"

    def span(text: str) -> Span:
        shape = SpanShape(text, Kind.SERVER, [(text, text)])
        own = ((text + "own", text), ("list", [text]))
        context = SpanContext(bytes(16), bytes(8), 0, text)
        return make_span(
            shape=shape,
            context=context,
            attributes=own,
            status=2,
            status_message=text,
            events=[Event(text, 1, own)],
            links=[Link(context, own)],
        )

    for request in (in_protobuf((), [span(bad)]), in_json((), [span(bad)])):
        assert_same_request(request, (), [span(good)])


def test_surrogate_pair_is_the_character_it_stands_for() -> None:
    assert utf8("\ud83d\ude00") == "😀".encode()


@given(st.binary(max_size=60))
def test_garbage_is_read_as_fields_or_refused(garbage: bytes) -> None:
    with contextlib.suppress(DecodeError):
        assert all(number >= 0 for number, _ in fields(garbage))


@given(st.integers(0, 2**64 - 1), st.binary(max_size=300))
def test_written_fields_are_read_back(number: int, payload: bytes) -> None:
    message = b"\x08" + varint(number) + b"\x12" + varint(len(payload)) + payload
    assert list(fields(message)) == [(1, number), (2, payload)]
