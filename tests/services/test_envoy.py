"""Beside a real Envoy: one trace through both, and every kind of traffic through both."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable

import aiohttp
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.services.conftest import Sidecar
from tests.services.kit.daemon import Daemons
from tests.services.kit.envoy import start_envoy
from tests.services.kit.origin import Origin, body_of, digest
from tests.services.kit.spans import named, wait_for_spans
from tests.support.otlp import Collector, values
from tests.support.raw import App, Peer

pytestmark = pytest.mark.services

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
LARGE = 64 * 2**20

Chain = Callable[[int], Awaitable[int]]


@pytest.fixture(params=["envoy-sidecar", "sidecar-envoy"])
async def chain(
    request: pytest.FixtureRequest,
    daemons: Daemons,
    inbound: Sidecar,
    outbound: Sidecar,
    collector: Collector,
) -> Chain:
    """``await chain(port)``: both proxies, in either order, in front of a service; their port."""

    async def begin(port: int) -> int:
        if request.param == "envoy-sidecar":
            return await start_envoy(daemons, (await inbound(port)).inbound[0], collector.endpoint)
        envoy = await start_envoy(daemons, port, collector.endpoint)
        return (await outbound(envoy)).outbound[0]

    return begin


async def spans(collector: Collector, count: int) -> dict[str, Span]:
    """As many spans, by who made them and their kind."""
    return named(await wait_for_spans(collector, count))


# One trace


async def test_the_sidecar_continues_envoys_trace(
    daemons: Daemons, inbound: Sidecar, origin: Origin, collector: Collector,
    session: aiohttp.ClientSession,
) -> None:  # fmt: skip
    sidecar = await inbound(origin.port)
    envoy = await start_envoy(daemons, sidecar.inbound[0], collector.endpoint)
    async with session.get(f"http://127.0.0.1:{envoy}/headers") as response:
        assert response.status == 200
    found = await spans(collector, 2)
    ours, theirs = found["front SERVER"], found["envoy SERVER"]
    assert theirs.parent_span_id == b""
    assert ours.trace_id == theirs.trace_id
    assert ours.parent_span_id == theirs.span_id
    assert values(ours)["meshproxy.propagation"] == "ok"
    expected = f"00-{ours.trace_id.hex()}-{ours.span_id.hex()}-"
    assert origin.seen[0].getall("traceparent")[0].startswith(expected)


async def test_envoy_continues_the_sidecars_trace(
    daemons: Daemons, outbound: Sidecar, origin: Origin, collector: Collector,
    session: aiohttp.ClientSession,
) -> None:  # fmt: skip
    envoy = await start_envoy(daemons, origin.port, collector.endpoint)
    sidecar = await outbound(envoy)
    url = f"http://127.0.0.1:{sidecar.outbound[0]}/headers"
    async with session.get(url, headers={"traceparent": CALLER}) as response:
        assert response.status == 200
    found = await spans(collector, 2)
    ours, theirs = found["caller CLIENT"], found["envoy SERVER"]
    assert theirs.trace_id == ours.trace_id
    assert theirs.parent_span_id == ours.span_id
    assert len(origin.seen[0].getall("traceparent")) == 1


async def test_a_callers_trace_goes_through_both(
    chain: Chain, origin: Origin, collector: Collector, session: aiohttp.ClientSession
) -> None:
    port = await chain(origin.port)
    url = f"http://127.0.0.1:{port}/headers"
    async with session.get(url, headers={"traceparent": CALLER, "baggage": "a=1"}) as response:
        assert response.status == 200
    found = await spans(collector, 2)
    traces = {span.trace_id.hex() for span in found.values()}
    traces |= {value[3:35] for value in origin.seen[0].getall("traceparent")}
    assert traces == {CALLER[3:35]}
    assert origin.seen[0].getall("baggage") == ["a=1"]


async def test_both_say_the_same_of_a_request(
    daemons: Daemons, inbound: Sidecar, origin: Origin, collector: Collector,
    session: aiohttp.ClientSession,
) -> None:  # fmt: skip
    sidecar = await inbound(origin.port)
    envoy = await start_envoy(daemons, sidecar.inbound[0], collector.endpoint)
    headers = {"X-Case": "as it was", "X-Request-Id": "7", "Cookie": "a=b", "Accept": "*/*"}
    for port in (origin.port, envoy):
        async with session.post(
            f"http://127.0.0.1:{port}/headers", data=b"body", headers=headers
        ) as response:
            assert response.status == 200
    direct, through = origin.seen
    for name in ("X-Case", "Cookie", "Accept", "Content-Length", "Content-Type", "User-Agent"):
        assert through.getall(name) == direct.getall(name), name
    for name in ("X-Request-Id", "X-Forwarded-For", "X-Forwarded-Proto", "traceparent"):
        assert len(through.getall(name)) == 1, name
    assert through["Host"] == f"127.0.0.1:{envoy}"


# Every kind of traffic


async def test_chunks_and_trailers_both_ways(chain: Chain) -> None:
    app = await App().start()
    try:
        client = await Peer.connect(await chain(app.port))
        await client.send(
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n"
            b"TE: trailers\r\n\r\n3\r\none\r\n"
        )
        upstream = await app.accept()
        head = await upstream.head()
        assert b"transfer-encoding: chunked" in head.lower()
        assert await upstream.until(b"one\r\n") == b"3\r\none\r\n"  # before the rest is sent
        await client.send(b"3\r\ntwo\r\n0\r\nX-Sum: 6\r\n\r\n")
        assert await upstream.until(b"0\r\n") == b"3\r\ntwo\r\n0\r\n"
        assert (await upstream.until(b"\r\n\r\n")).lower() == b"x-sum: 6\r\n\r\n"
        await upstream.send(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-End\r\n\r\n5\r\nthree\r\n"
        )
        assert b"transfer-encoding: chunked" in (await client.head()).lower()
        assert await client.until(b"three\r\n") == b"5\r\nthree\r\n"
        await upstream.send(b"0\r\nX-End: yes\r\n\r\n")
        assert (await client.until(b"\r\n\r\n")).lower() == b"0\r\nx-end: yes\r\n\r\n"
        await client.close()
    finally:
        await app.stop()


async def test_large_bodies_both_ways(
    chain: Chain, origin: Origin, session: aiohttp.ClientSession
) -> None:
    base = f"http://127.0.0.1:{await chain(origin.port)}"
    body = body_of(LARGE)
    async with session.put(f"{base}/upload", data=body) as response:
        assert await response.json() == {"length": LARGE, "sha256": digest(body)}
    for query in (f"bytes={LARGE}", f"bytes={LARGE}&length=1"):
        async with session.get(f"{base}/download?{query}") as response:
            assert digest(await response.read()) == digest(body)


async def test_one_connection_serves_many_requests(chain: Chain, origin: Origin) -> None:
    client = await Peer.connect(await chain(origin.port))
    for number in range(200):
        await client.send(f"GET /number/{number} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        status, _, body = await client.answer()
        assert (status, body) == (200, str(number).encode())
    await client.close()


async def test_requests_at_once_do_not_mix(
    chain: Chain, origin: Origin, session: aiohttp.ClientSession
) -> None:
    base = f"http://127.0.0.1:{await chain(origin.port)}"

    async def ask(number: int) -> str:
        async with session.get(f"{base}/number/{number}") as response:
            return await response.text()

    answers = await asyncio.gather(*(ask(number) for number in range(500)))
    assert answers == [str(number) for number in range(500)]


async def test_web_socket(
    chain: Chain, origin: Origin, collector: Collector, session: aiohttp.ClientSession
) -> None:
    port = await chain(origin.port)
    large = body_of(2**20)
    async with session.ws_connect(
        f"http://127.0.0.1:{port}/socket", max_msg_size=2**26, headers={"traceparent": CALLER}
    ) as socket:
        await socket.send_str("hello")
        assert await socket.receive_str() == "hello"
        await socket.send_bytes(large)
        assert await socket.receive_bytes() == large
    found = await spans(collector, 2)
    assert len({span.trace_id for span in found.values()}) == 1
    (ours,) = (span for key, span in found.items() if not key.startswith("envoy"))
    assert values(ours)["http.response.status_code"] == 101


async def test_errors_of_the_service_pass(
    chain: Chain, origin: Origin, session: aiohttp.ClientSession
) -> None:
    base = f"http://127.0.0.1:{await chain(origin.port)}"
    async with session.get(f"{base}/nothing") as response:
        assert response.status == 404
    async with session.delete(f"{base}/packed") as response:
        assert response.status == 405
        assert "GET" in response.headers["Allow"]
    async with session.post(f"{base}/headers", data=b"x") as response:
        assert ["Content-Length", "1"] in [
            [name.title(), value] for name, value in json.loads(await response.read())
        ]
