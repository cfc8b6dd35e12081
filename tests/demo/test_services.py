"""The services are what they claim to be: plain, and without any trace context of their own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web

from meshproxy.demo.mesh import CALLS
from meshproxy.demo.processes import Child, Ports, stop_all

TRACE_HEADERS = {
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "tracestate": "vendor=1",
    "baggage": "user=7",
    "b3": "0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1",
    "X-B3-TraceId": "0af7651916cd43dd8448eb211c80319c",
    "uber-trace-id": "0af7651916cd43dd:b7ad6b7169203331:0:1",
    "sw8": "1-a-b-1-c-d-e-f",
}
PATHS = {"gateway": "/checkout/5?coupon=A", "orders": "/orders/5", "payments": "/charges/5"}


class Neighbours:
    """Answers every call and keeps its headers."""

    def __init__(self) -> None:
        self.calls: list[web.Request] = []

    async def answer(self, request: web.Request) -> web.Response:
        self.calls.append(request)
        return web.json_response({})


@asynccontextmanager
async def running(
    name: str,
) -> AsyncIterator[tuple[str, Neighbours, asyncio.Queue[dict[str, object]]]]:
    neighbours, ports = Neighbours(), Ports()
    port, neighbour_port = ports.take(), ports.take()
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", neighbours.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", neighbour_port).start()
    addresses = {
        f"{peer.upper()}_URL": f"http://127.0.0.1:{neighbour_port}" for peer in CALLS[name]
    }
    lines: asyncio.Queue[dict[str, object]] = asyncio.Queue()
    keep: Callable[[str], None] = lambda line: lines.put_nowait(json.loads(line))  # noqa: E731
    child = await Child.start(
        name, ["-m", "meshproxy.demo.services", name, str(port)], addresses, keep
    )
    try:
        assert await asyncio.wait_for(lines.get(), 20) == {"event": "listening", "service": name}
        yield f"http://127.0.0.1:{port}", neighbours, lines
    finally:
        await stop_all([child])
        await runner.cleanup()
        ports.close()


@pytest.mark.parametrize("name", [name for name, peers in CALLS.items() if peers])
async def test_no_trace_header_is_passed_on(name: str) -> None:
    async with running(name) as (url, neighbours, lines), aiohttp.ClientSession() as session:
        method = "GET" if name == "gateway" else "POST"
        async with session.request(method, url + PATHS[name], headers=TRACE_HEADERS) as response:
            assert response.status < 300
        record = await asyncio.wait_for(lines.get(), 5)
    assert record["traceparent"] == TRACE_HEADERS["traceparent"]
    assert len(neighbours.calls) == len(CALLS[name])
    for call in neighbours.calls:
        assert not {header.lower() for header in TRACE_HEADERS} & {
            key.lower() for key in call.headers
        }


async def test_only_payments_repeats_the_request_id() -> None:
    for name in ("gateway", "orders", "payments"):
        async with running(name) as (url, neighbours, _), aiohttp.ClientSession() as session:
            method = "GET" if name == "gateway" else "POST"
            headers = {"X-Request-Id": "r-1"}
            async with session.request(method, url + PATHS[name], headers=headers) as response:
                assert response.status < 300
        repeated = {call.headers.get("X-Request-Id") for call in neighbours.calls}
        assert repeated == ({"r-1"} if name == "payments" else {None})


async def test_the_first_charge_of_an_order_that_ends_in_1_is_refused() -> None:
    async with running("payments") as (url, neighbours, _), aiohttp.ClientSession() as session:
        statuses = []
        for order in ("11", "11", "12"):
            async with session.post(f"{url}/charges/{order}") as response:
                statuses.append(response.status)
    assert statuses == [503, 200, 200]
    assert len(neighbours.calls) == 2
