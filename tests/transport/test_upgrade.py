"""Upgrade: from the 101 on bytes pass unread, and the span covers them."""

from __future__ import annotations

import asyncio

import websockets

from tests.support.fixtures import Start, Through
from tests.support.inprocess import attributes
from tests.support.raw import App

UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: thing\r\n\r\n"
)
SENT = b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: thing\r\n\r\n"
SWITCHED = (
    b"HTTP/1.1 101 Switching Protocols\r\nX: y\r\nConnection: upgrade\r\nUpgrade: thing\r\n\r\n"
)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


async def test_bytes_pass_both_ways_after_a_switch(outbound: Through, app: App) -> None:
    proxy = await outbound()
    client = await proxy.client()
    await client.send(UPGRADE + b"early")
    upstream = await app.accept()
    await upstream.expect(SENT)
    await upstream.send(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: thing\r\nX: y\r\n"
        b"Connection: Upgrade\r\n\r\nfirst"
    )
    await client.expect(SWITCHED + b"first")
    await upstream.expect(b"early")
    await client.send(b"\x00\r\n\r\n")
    await upstream.expect(b"\x00\r\n\r\n")
    assert proxy.no_span()
    await upstream.close()
    assert await client.ended()
    await client.close()
    span = await proxy.span()
    assert attributes(span)["http.response.status_code"] == 101
    assert "error.type" not in attributes(span)


async def test_a_refused_upgrade_is_an_ordinary_answer(outbound: Through, app: App) -> None:
    proxy = await outbound()
    client = await proxy.client()
    await client.send(UPGRADE)
    upstream = await app.accept()
    await upstream.expect(SENT)
    await upstream.send(OK)
    await client.expect(OK)
    await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    await upstream.expect(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")


async def test_http_2_is_not_offered(outbound: Through, app: App) -> None:
    proxy = await outbound()
    client = await proxy.client()
    await client.send(
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\n"
        b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"
    )
    upstream = await app.accept()
    await upstream.expect(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    await upstream.send(OK)
    await client.expect(OK)


async def test_websockets_work_and_their_span_covers_the_session(start: Start) -> None:
    sessions = 3

    async def echo(connection: websockets.ServerConnection) -> None:
        async for message in connection:
            await connection.send(message)

    async with websockets.serve(echo, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        proxy = await start({"inbound": [{"upstream": f"127.0.0.1:{port}"}]})

        async def session() -> None:
            url = f"ws://127.0.0.1:{proxy.inbound[0]}/chat"
            async with websockets.connect(url, proxy=None) as client:
                for message in ("hello", b"\x00" * 100_000, ""):
                    await client.send(message)
                    assert await client.recv() == message
                assert proxy.no_span()
                await together.wait()

        together = asyncio.Barrier(sessions)
        await asyncio.gather(*(session() for _ in range(sessions)))
        for _ in range(sessions):
            span = await proxy.span()
            assert span.shape.name == "GET /chat"
            assert attributes(span)["http.response.status_code"] == 101
            assert "error.type" not in attributes(span)
