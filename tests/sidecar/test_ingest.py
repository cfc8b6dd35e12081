"""POST /v1/traces: spans of the service's own go where the sidecar's go.

What is sent is made by the official protobuf classes.
"""

from __future__ import annotations

import gzip
from collections.abc import Awaitable, Callable

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1 import trace_pb2

from meshproxy.export.otlp import encode_span
from meshproxy.export.protobuf import DecodeError, fields
from meshproxy.sidecar.ingest import LIMIT, SpanReader
from meshproxy.trace.span import Span
from tests.support.fixtures import Start
from tests.support.inprocess import InProcess
from tests.support.otlp import Collector

PROTOBUF = "application/x-protobuf"
Post = Callable[..., Awaitable[tuple[int, bytes]]]


def full_span() -> trace_pb2.Span:
    """A span with everything that we know of."""
    span = trace_pb2.Span(
        trace_id=b"t" * 16,
        span_id=b"s" * 8,
        trace_state="a=1,b=2",
        parent_span_id=b"p" * 8,
        flags=0x303,
        name="send orders",
        kind=trace_pb2.Span.SPAN_KIND_PRODUCER,
        start_time_unix_nano=2**63,
        end_time_unix_nano=2**63 + 5,
        status=trace_pb2.Status(code=trace_pb2.Status.STATUS_CODE_ERROR, message="böse"),
        dropped_attributes_count=7,
    )
    span.attributes.add(key="text", value=AnyValue(string_value="ä"))
    span.attributes.add(key="number", value=AnyValue(int_value=-5))
    span.attributes.add(key="yes", value=AnyValue(bool_value=True))
    span.attributes.add(key="half", value=AnyValue(double_value=0.5))
    many = span.attributes.add(key="many").value.array_value.values
    many.add(string_value="a")
    many.add(string_value="b")
    event = span.events.add(name="exception", time_unix_nano=17)
    event.attributes.add(key="exception.type", value=AnyValue(string_value="E"))
    link = span.links.add(trace_id=b"T" * 16, span_id=b"S" * 8, trace_state="c=3", flags=1)
    link.attributes.add(key="rank", value=AnyValue(int_value=1))
    return span


def request_of(*spans: trace_pb2.Span) -> ExportTraceServiceRequest:
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    resource.resource.attributes.add(key="service.name", value=AnyValue(string_value="theirs"))
    for span in spans:
        scope = resource.scope_spans.add()
        scope.scope.name = "a library"
        scope.spans.append(span)
    return request


def read(message: bytes) -> Span:
    span = SpanReader().read(message)
    assert span is not None
    return span


def written(span: Span) -> trace_pb2.Span:
    """What our exporter makes of it, read by the official classes."""
    ((_, inner),) = fields(encode_span(span))
    assert isinstance(inner, bytes)
    return trace_pb2.Span.FromString(inner)


def test_a_span_survives_as_it_was() -> None:
    expected = full_span()
    expected.dropped_attributes_count = 0
    assert written(read(full_span().SerializeToString())) == expected


@pytest.mark.parametrize("flags", [0, 1, 0x100, 0x101, 0x300])
def test_flags(flags: int) -> None:
    sent = full_span()
    sent.flags = flags
    got = read(sent.SerializeToString())
    assert got.flags == flags & 3
    assert got.parent_remote == (flags & 0x300 == 0x300)


def test_values_that_attributes_of_ours_cannot_hold_become_text() -> None:
    sent = trace_pb2.Span(trace_id=b"t" * 16, span_id=b"s" * 8)
    sent.attributes.add(key="bytes", value=AnyValue(bytes_value=b"\xff\x00"))
    sent.attributes.add(key="empty", value=AnyValue())
    numbers = sent.attributes.add(key="numbers").value.array_value.values
    numbers.add(int_value=1)
    numbers.add(bool_value=False)
    inner = sent.attributes.add(key="map").value.kvlist_value.values
    inner.append(KeyValue(key="a", value=AnyValue(int_value=1)))
    inner.append(KeyValue(key="b", value=AnyValue(string_value="ä")))
    got = read(sent.SerializeToString())
    assert dict(got.attributes) == {
        "bytes": "ff00", "empty": "", "numbers": ["1", "false"], "map": '{"a":1,"b":"ä"}',
    }  # fmt: skip
    assert got.shape.kind.name == "INTERNAL"


def test_links_without_ids_are_left_out() -> None:
    sent = full_span()
    sent.links.add(trace_id=b"", span_id=b"S" * 8)
    sent.links.add(trace_id=bytes(16), span_id=b"S" * 8)
    assert len(read(sent.SerializeToString()).links) == 1


def test_values_within_values_have_a_depth() -> None:
    value = AnyValue(string_value="deep")
    for _ in range(20):
        outer = AnyValue()
        outer.array_value.values.append(value)
        value = outer
    sent = full_span()
    sent.attributes.add(key="deep", value=value)
    with pytest.raises(DecodeError, match="levels"):
        SpanReader().read(sent.SerializeToString())


@given(st.binary(max_size=200), st.integers(0, 300), st.integers(0, 100))
def test_whatever_comes_is_read_or_refused(junk: bytes, at: int, cut: int) -> None:
    whole = full_span().SerializeToString()
    for message in (junk, whole[:at] + junk + whole[at + cut :]):
        try:
            SpanReader().read(message)
        except (DecodeError, UnicodeDecodeError):
            continue


@pytest.fixture
async def proxy(collector: Collector, start: Start) -> InProcess:
    """A sidecar that exports to the collector."""
    return await start(
        {
            "service": {"name": "cart"},
            "inbound": [{"upstream": "127.0.0.1:9"}],
            "export": [{"type": "otlp", "endpoint": collector.endpoint}],
        }
    )


@pytest.fixture
def post(proxy: InProcess) -> Post:
    async def send(body: bytes, **headers: str) -> tuple[int, bytes]:
        fields = {"Content-Type": PROTOBUF} | {k.replace("_", "-"): v for k, v in headers.items()}
        url = f"http://{proxy.sidecar.config.admin.listen}/v1/traces"
        async with (
            aiohttp.ClientSession() as session,
            session.post(url, data=body, headers=fields) as answer,
        ):
            return answer.status, await answer.read()

    return send


async def test_spans_go_on_under_the_sidecars_resource(post: Post, collector: Collector) -> None:
    body = request_of(full_span(), full_span()).SerializeToString()
    assert await post(body) == (200, b"")
    assert await post(gzip.compress(body), Content_Encoding="gzip") == (200, b"")
    members = gzip.compress(body[:10]) + gzip.compress(b"") + gzip.compress(body[10:])
    assert await post(members, Content_Encoding="gzip") == (200, b"")
    spans = await collector.wait_for(6)
    assert {span.name for span in spans} == {"send orders"}
    names = {
        each.value.string_value
        for request in collector.requests
        for each in request.resource_spans[0].resource.attributes
        if each.key == "service.name"
    }
    assert names == {"cart"}


async def test_nothing_is_fine_too(post: Post, proxy: InProcess) -> None:
    assert await post(b"") == (200, b"")
    assert proxy.no_span()


async def test_spans_without_valid_ids_are_counted(post: Post, collector: Collector) -> None:
    bad = [full_span() for _ in range(3)]
    bad[0].trace_id = bytes(16)
    bad[1].span_id = b"short"
    bad[2].parent_span_id = b"short"
    status, body = await post(request_of(full_span(), *bad).SerializeToString())
    answer = ExportTraceServiceResponse.FromString(body)
    assert (status, answer.partial_success.rejected_spans) == (200, 3)
    assert "ids" in answer.partial_success.error_message
    assert len(await collector.wait_for(1)) == 1


@pytest.mark.parametrize(
    ("body", "headers", "status", "words"),
    [
        (b"{}", {"Content_Type": "application/json"}, 415, "application/json"),
        (b"", {"Content_Encoding": "br"}, 415, "br"),
        (b"\x0a\xff", {}, 400, "not an ExportTraceServiceRequest"),
        (b"\x0a\x04\x12\x02\x12\x09", {}, 400, "cut short"),
        (b"this is no gzip at all", {"Content_Encoding": "gzip"}, 400, "not gzip"),
        (gzip.compress(b"cut off")[:-4], {"Content_Encoding": "gzip"}, 400, "breaks off"),
        (b"", {"Content_Encoding": "gzip"}, 400, "breaks off"),
        (gzip.compress(b"") + b"junk", {"Content_Encoding": "gzip"}, 400, "gzip"),
        (gzip.compress(b"") + b"more than a gzip head", {"Content_Encoding": "gzip"}, 400, "gzip"),
        (gzip.compress(b"") * 101, {"Content_Encoding": "gzip"}, 400, "members"),
        (gzip.compress(bytes(LIMIT)) + gzip.compress(b"1"), {"Content_Encoding": "gzip"}, 413, ""),
        (bytes(LIMIT + 1), {}, 413, str(LIMIT)),
        (gzip.compress(bytes(LIMIT + 1)), {"Content_Encoding": "gzip"}, 413, str(LIMIT)),
    ],
)
async def test_what_is_refused(
    body: bytes, headers: dict[str, str], status: int, words: str, post: Post, proxy: InProcess
) -> None:
    answered, message = await post(body, **headers)
    assert answered == status
    assert words in message.decode()
    assert proxy.no_span()
    assert (await proxy.get("/healthz"))[0] == 200


async def test_a_request_is_taken_as_a_whole_or_not_at_all(post: Post, proxy: InProcess) -> None:
    body = request_of(full_span()).SerializeToString() + b"\x0a\x04\x12\x02\x12\x09"
    assert (await post(body))[0] == 400
    assert proxy.no_span()
