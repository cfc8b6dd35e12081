"""The receiver takes what any OTLP/HTTP exporter sends."""

from __future__ import annotations

import gzip

import aiohttp
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

from meshproxy.demo.receiver import Receiver, decode
from meshproxy.demo.tree import LinkRecord, SpanRecord
from meshproxy.trace.span import Kind


def text(key: str, value: str) -> KeyValue:
    return KeyValue(key=key, value=AnyValue(string_value=value))


def request() -> bytes:
    span = Span(
        trace_id=b"\x01" * 16,
        span_id=b"\x02" * 8,
        parent_span_id=b"\x03" * 8,
        name="GET /x",
        kind=Span.SPAN_KIND_CLIENT,
        start_time_unix_nano=10,
        end_time_unix_nano=30,
        status=Status(code=Status.STATUS_CODE_ERROR),
        attributes=[
            text("s", "a"),
            KeyValue(key="i", value=AnyValue(int_value=503)),
            KeyValue(key="d", value=AnyValue(double_value=0.5)),
            KeyValue(key="b", value=AnyValue(bool_value=False)),
            KeyValue(
                key="l",
                value=AnyValue(array_value=ArrayValue(values=[AnyValue(string_value="x")])),
            ),
            KeyValue(key="n", value=AnyValue()),
        ],
        links=[Span.Link(trace_id=b"\x04" * 16, span_id=b"\x05" * 8, attributes=[text("k", "v")])],
    )
    bare = Span(trace_id=b"\x01" * 16, span_id=b"\x06" * 8)
    group = ResourceSpans(
        resource=Resource(attributes=[text("service.name", "cart")]),
        scope_spans=[ScopeSpans(spans=[span, bare])],
    )
    return ExportTraceServiceRequest(resource_spans=[group]).SerializeToString()


def test_a_span_keeps_all_that_the_demo_shows() -> None:
    assert decode(request())[0] == SpanRecord(
        service="cart",
        trace_id="01" * 16,
        span_id="02" * 8,
        parent_id="03" * 8,
        name="GET /x",
        kind=Kind.CLIENT,
        start_ns=10,
        end_ns=30,
        error=True,
        attributes={"s": "a", "i": 503, "d": 0.5, "b": False, "l": ["x"], "n": None},
        links=(LinkRecord("04" * 16, "05" * 8, {"k": "v"}),),
    )


def test_a_span_without_a_kind_is_internal_and_without_a_parent_a_root() -> None:
    bare = decode(request())[1]
    assert (bare.kind, bare.parent_id, bare.error) == (Kind.INTERNAL, "", False)


@pytest.mark.parametrize("encoding", ["gzip", "identity"])
async def test_spans_arrive_over_http(encoding: str) -> None:
    body = gzip.compress(request()) if encoding == "gzip" else request()
    headers = {"Content-Encoding": encoding, "Content-Type": "application/x-protobuf"}
    async with Receiver() as receiver, aiohttp.ClientSession() as session:
        url = f"{receiver.endpoint}/v1/traces"
        async with session.post(url, data=body, headers=headers) as response:
            assert response.status == 200
            assert response.content_type == "application/x-protobuf"
        assert await receiver.spans.reach(2, within=5)
        assert receiver.spans.items == decode(request())


async def test_what_is_not_otlp_is_refused_and_not_retried() -> None:
    async with Receiver() as receiver, aiohttp.ClientSession() as session:
        async with session.post(f"{receiver.endpoint}/v1/traces", data=b"\xff\xff") as response:
            assert response.status == 400
        assert receiver.spans.items == []


async def test_spans_that_do_not_come_are_not_waited_for_for_ever() -> None:
    async with Receiver() as receiver:
        assert not await receiver.spans.reach(1, within=0.01)
