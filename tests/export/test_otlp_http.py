"""OTLP over HTTP against a real server on the loopback."""

from __future__ import annotations

import asyncio
import gzip
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceResponse,
)

from meshproxy import __version__
from meshproxy.config.model import OtlpExporter, Queue
from meshproxy.export.exporter import ExporterSettingsError, PermanentError, RetryableError
from meshproxy.export.otlp import encode_span
from meshproxy.export.otlp_http import MAX_REQUEST, OtlpHttpExporter, traces_url
from meshproxy.export.retry import Retry
from meshproxy.export.worker import Worker
from meshproxy.trace.span import Span

MakeSpan = Callable[..., Span]


def encoded(spans: Sequence[Span]) -> list[bytes]:
    """Spans as `OtlpHttpExporter.prepare` leaves them in the queue."""
    return [encode_span(span) for span in spans]


Open = Callable[..., Any]
RESOURCE = (("service.name", "cart"),)
NOW = 1_700_000_000.0


def partial_success(rejected: int, message: str = "") -> bytes:
    inner = ExportTracePartialSuccess(rejected_spans=rejected, error_message=message)
    return ExportTraceServiceResponse(partial_success=inner).SerializeToString()


@pytest.fixture
async def exporter() -> AsyncIterator[Open]:
    """A started exporter: ``await exporter(url, **settings)``."""
    opened: list[OtlpHttpExporter] = []

    async def start(endpoint: str, **settings: Any) -> OtlpHttpExporter:
        made = OtlpHttpExporter(
            OtlpExporter(endpoint=endpoint, **settings), RESOURCE, wall_clock=lambda: NOW
        )
        opened.append(made)
        await made.start()
        return made

    yield start
    for one in opened:
        await one.close()


async def test_request_is_gzipped_protobuf_with_all_headers(
    serve: Any, exporter: Open, make_span: MakeSpan
) -> None:
    backend = await serve()
    sender = await exporter(
        backend.url, headers={"api-key": "secret", "content-type": "text/plain"}
    )
    result = await sender.send(encoded([make_span(1), make_span(2)]))
    assert (result.taken, result.dropped) == (2, {})
    (path, headers, body) = backend.requests[0]
    assert path == "/v1/traces"
    assert headers["content-type"] == "application/x-protobuf"
    assert headers["content-encoding"] == "gzip"
    assert headers["user-agent"] == f"meshproxy/{__version__}"
    assert headers["api-key"] == "secret"
    assert gzip.decompress(body)
    assert backend.span_numbers() == [1, 2]
    resource = backend.decoded()[0].resource_spans[0].resource
    assert resource.attributes[0].value.string_value == "cart"


async def test_compression_can_be_off(serve: Any, exporter: Open, make_span: MakeSpan) -> None:
    backend = await serve()
    sender = await exporter(f"{backend.url}/custom/path", compression="none")
    await sender.send(encoded([make_span(1)]))
    assert backend.requests[0][0] == "/custom/path"
    assert "content-encoding" not in backend.requests[0][1]
    assert backend.span_numbers() == [1]


@pytest.mark.parametrize("status", [429, 502, 503, 504])
async def test_retryable_statuses(
    status: int, serve: Any, reply: Any, exporter: Open, make_span: MakeSpan
) -> None:
    backend = await serve(reply(status, headers={"Retry-After": "7"}))
    sender = await exporter(backend.url)
    with pytest.raises(RetryableError) as caught:
        await sender.send(encoded([make_span(1)]))
    assert caught.value.retry_after == 7
    assert str(status) in str(caught.value)


@pytest.mark.parametrize("status", [301, 307, 400, 401, 403, 404, 408, 413, 500, 501, 505])
async def test_all_other_statuses_are_permanent_and_redirects_are_not_followed(
    status: int, serve: Any, reply: Any, exporter: Open, make_span: MakeSpan
) -> None:
    backend = await serve(reply(status, headers={"Location": "/elsewhere"}))
    sender = await exporter(backend.url)
    with pytest.raises(PermanentError) as caught:
        await sender.send(encoded([make_span(1)]))
    assert caught.value.reason == "rejected"
    assert len(backend.requests) == 1


async def test_retry_after_as_a_date(
    serve: Any, reply: Any, exporter: Open, make_span: MakeSpan
) -> None:
    date = formatdate(NOW + 25, usegmt=True)
    backend = await serve(reply(503, headers={"Retry-After": date}))
    sender = await exporter(backend.url)
    with pytest.raises(RetryableError) as caught:
        await sender.send(encoded([make_span(1)]))
    assert caught.value.retry_after == 25


@pytest.mark.parametrize(
    ("content_type", "body"),
    [("application/x-protobuf", b"\x08\x03\x12\x06no key"), ("text/plain", b"no key\n")],
)
async def test_error_says_what_the_backend_said(
    content_type: str,
    body: bytes,
    serve: Any,
    reply: Any,
    exporter: Open,
    make_span: MakeSpan,
) -> None:
    backend = await serve(reply(401, body, {"Content-Type": content_type}))
    sender = await exporter(backend.url)
    with pytest.raises(PermanentError, match=r"^HTTP 401: no key$"):
        await sender.send(encoded([make_span(1)]))


@pytest.mark.parametrize(
    ("body", "dropped", "message"),
    [
        (b"", {}, ""),
        (partial_success(0), {}, ""),
        (partial_success(1, "full"), {"partial_success": 1}, "full"),
        (partial_success(0, "slow down"), {}, "slow down"),
        (partial_success(99), {"partial_success": 2}, ""),
        (partial_success(-1), {}, ""),
        (b"<html>what?</html>", {}, ""),
    ],
)
async def test_partial_success_is_counted(
    body: bytes,
    dropped: dict[str, int],
    message: str,
    serve: Any,
    reply: Any,
    exporter: Open,
    make_span: MakeSpan,
) -> None:
    backend = await serve(reply(200, body))
    sender = await exporter(backend.url)
    result = await sender.send(encoded([make_span(1), make_span(2)]))
    assert (result.taken, result.dropped, result.message) == (2, dropped, message)
    assert len(backend.requests) == 1


async def test_backend_that_hangs_is_left_after_the_timeout(
    serve: Any, reply: Any, exporter: Open, make_span: MakeSpan
) -> None:
    backend = await serve(reply(hang=True))
    sender = await exporter(backend.url, timeout=0.05)
    with pytest.raises(RetryableError):
        await sender.send(encoded([make_span(1)]))


async def test_giant_answer_is_cut_and_the_next_request_works(
    serve: Any, reply: Any, exporter: Open, make_span: MakeSpan
) -> None:
    backend = await serve(reply(200, bytes(8_000_000)), reply(400, b"x" * 8_000_000), reply())
    sender = await exporter(backend.url)
    assert (await sender.send(encoded([make_span(1)]))).dropped == {}
    with pytest.raises(PermanentError) as caught:
        await sender.send(encoded([make_span(2)]))
    assert len(str(caught.value)) < 1000
    await sender.send(encoded([make_span(3)]))
    assert backend.span_numbers() == [1, 2, 3]


async def test_requests_stay_below_the_largest_size(
    serve: Any, exporter: Open, make_span: MakeSpan, number_of: Any
) -> None:
    backend = await serve()
    sender = await exporter(backend.url, compression="none")
    spans = [make_span(n, attributes=(("body", "x" * 9000),)) for n in range(1, 301)]
    left = encoded(spans)
    while left:
        left = left[(await sender.send(left)).taken :]
    assert backend.span_numbers() == number_of(spans)
    sizes = [len(body) for _, _, body in backend.requests]
    assert max(sizes) <= MAX_REQUEST
    assert len(sizes) == 3


async def test_span_that_fits_no_request_is_dropped_and_others_pass(
    serve: Any, exporter: Open, make_span: MakeSpan
) -> None:
    backend = await serve()
    sender = await exporter(backend.url)
    giant = (("body", "x" * MAX_REQUEST),)
    result = await sender.send(encoded([make_span(1, attributes=giant), make_span(2)]))
    assert (result.taken, result.dropped) == (2, {"too_large": 1})
    result = await sender.send(encoded([make_span(3, attributes=giant)]))
    assert (result.taken, result.dropped) == (1, {"too_large": 1})
    assert backend.span_numbers() == [2]


async def test_proxies_of_the_environment_are_not_used(
    serve: Any, exporter: Open, make_span: MakeSpan, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    backend = await serve()
    await (await exporter(backend.url)).send(encoded([make_span(1)]))
    assert backend.span_numbers() == [1]


async def test_own_authority_is_trusted_and_no_other(
    exporter: Open, make_span: MakeSpan, tmp_path: Path
) -> None:
    authority, stranger = trustme.CA(), trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)

    async def accept(_: web.Request) -> web.Response:
        return web.Response()

    app = web.Application()
    app.router.add_post("/v1/traces", accept)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    url = f"https://127.0.0.1:{runner.addresses[0][1]}"
    try:
        for ca, name in ((authority, "good.pem"), (stranger, "bad.pem")):
            ca.cert_pem.write_to_path(str(tmp_path / name))
        good = await exporter(url, ca=str(tmp_path / "good.pem"))
        assert (await good.send(encoded([make_span(1)]))).taken == 1
        bad = await exporter(url, ca=str(tmp_path / "bad.pem"))
        with pytest.raises(RetryableError):
            await bad.send(encoded([make_span(1)]))
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ("http://c:4318", "http://c:4318/v1/traces"),
        ("https://c/", "https://c/v1/traces"),
        ("http://[::1]:4318/otlp", "http://[::1]:4318/otlp"),
        ("http://c/x?key=1", "http://c/x?key=1"),
    ],
)
def test_path_is_added_to_an_endpoint_without_one(endpoint: str, url: str) -> None:
    assert traces_url(endpoint) == url


@pytest.mark.parametrize(
    "settings",
    [
        OtlpExporter(endpoint="collector:4318"),
        OtlpExporter(endpoint="grpc://c:4317"),
        OtlpExporter(endpoint="http://"),
        OtlpExporter(endpoint="http://c:99999"),
        OtlpExporter(endpoint="https://c", ca="/does/not/exist.pem"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: OtlpExporter) -> None:
    with pytest.raises(ExporterSettingsError):
        OtlpHttpExporter(settings, RESOURCE)


async def test_no_span_is_lost_when_a_refused_backend_comes_back(
    serve: Any, make_span: MakeSpan, fake_time: Any, unused_tcp_port: int
) -> None:
    settings = OtlpExporter(endpoint=f"http://127.0.0.1:{unused_tcp_port}")
    retry = Retry(60, clock=fake_time, sleep=fake_time.sleep, uniform=lambda: 1.0)
    queue = Queue(size=100, batch=2, interval=0.01)
    worker = Worker("otlp", OtlpHttpExporter(settings, RESOURCE), queue, retry)
    backends: list[Any] = []

    async def come_back() -> None:
        if len(fake_time.slept) == 3:
            backends.append(await serve(port=unused_tcp_port))

    fake_time.on_sleep = come_back
    await worker.start()
    for number in range(1, 6):
        worker.offer(make_span(number))
    assert await worker.flush(10)
    await worker.close(1)
    assert backends[0].span_numbers() == [1, 2, 3, 4, 5]
    stats = worker.stats()
    assert (stats.sent, stats.dropped, stats.failures) == (5, {}, 3)


async def test_connection_dropped_without_an_answer_is_retryable(
    make_span: MakeSpan, exporter: Open
) -> None:
    async def drop(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(drop, "127.0.0.1", 0) as server:
        sender = await exporter(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        with pytest.raises(RetryableError):
            await sender.send(encoded([make_span(1)]))


async def test_answer_that_breaks_off_after_its_status_is_not_sent_again(
    make_span: MakeSpan, exporter: Open
) -> None:
    async def break_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort")
        writer.close()

    async with await asyncio.start_server(break_off, "127.0.0.1", 0) as server:
        sender = await exporter(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        assert (await sender.send(encoded([make_span(1)]))).taken == 1


async def test_connection_is_kept_alive(make_span: MakeSpan, exporter: Open) -> None:
    connections = 0

    async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]
                await reader.readexactly(int(length))
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        except asyncio.IncompleteReadError:
            writer.close()

    server = await asyncio.start_server(serve_one, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        sender = await exporter(f"http://127.0.0.1:{port}")
        for number in range(1, 4):
            await sender.send(encoded([make_span(number)]))
        await sender.close()
    assert connections == 1
