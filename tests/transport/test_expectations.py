"""Expect: 100-continue, and answers that come before the request has ended."""

from __future__ import annotations

from tests.support.fixtures import Through
from tests.support.inprocess import attributes
from tests.support.raw import App

EXPECTING = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


async def test_the_upstream_asks_for_the_body(outbound: Through, app: App) -> None:
    proxy = await outbound()
    client = await proxy.client()
    upstream = None
    for _ in range(2):
        await client.send(EXPECTING)
        upstream = upstream or await app.accept()
        await upstream.expect(EXPECTING)
        await upstream.send(CONTINUE)
        await client.expect(CONTINUE)
        await client.send(b"body")
        await upstream.expect(b"body")
        await upstream.send(OK)
        await client.expect(OK)


async def test_the_upstream_refuses_the_body(outbound: Through, app: App) -> None:
    """The client may or may not send it now, so the connection cannot go on."""
    proxy = await outbound()
    for status in (b"417 Expectation Failed", b"401 Unauthorized"):
        client = await proxy.client()
        await client.send(EXPECTING)
        upstream = await app.accept()
        await upstream.head()
        await upstream.send(b"HTTP/1.1 %s\r\nContent-Length: 0\r\n\r\n" % status)
        await client.expect(
            b"HTTP/1.1 %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" % status
        )
        assert await client.ended()
        assert await upstream.ended()


async def test_a_client_need_not_wait(outbound: Through, app: App) -> None:
    proxy = await outbound()
    client = await proxy.client()
    await client.send(EXPECTING + b"body")
    upstream = await app.accept()
    await upstream.expect(EXPECTING + b"body")
    await upstream.send(OK)
    await client.expect(OK)
    await client.send(EXPECTING + b"body")
    await upstream.expect(EXPECTING + b"body")


async def test_an_early_answer_leaves_the_client_in_step(outbound: Through, app: App) -> None:
    proxy = await outbound()
    client = await proxy.client()
    await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\nhalf")
    upstream = await app.accept()
    await upstream.head()
    await upstream.expect(b"half")
    await upstream.send(OK)
    await client.expect(OK)
    assert await upstream.ended()  # out of step: never used again
    await client.send(b"rest" + b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n")
    upstream = await app.accept()
    await upstream.expect(b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n")
    await upstream.send(OK)
    await client.expect(OK)


async def test_an_early_answer_to_a_very_large_body_arrives(outbound: Through, app: App) -> None:
    proxy = await outbound()
    client = await proxy.client()
    size = 64 * 2**20
    await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size)
    upstream = await app.accept()
    await upstream.head()
    refusal = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n"
    await upstream.send(refusal)
    assert await client.flood(size, bytes(2**20), stall=5) == size
    await client.expect(refusal)
    await client.send(b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n")
    await (await app.accept()).expect(b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n")


async def test_an_early_answer_that_closes_is_not_lost(outbound: Through, app: App) -> None:
    proxy = await outbound()
    client = await proxy.client()
    size = 16 * 2**20
    await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size)
    upstream = await app.accept()
    await upstream.head()
    await upstream.send(
        b"HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 3\r\n\r\nbig"
    )
    await client.expect(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig")
    assert attributes(await proxy.span())["http.response.status_code"] == 413
