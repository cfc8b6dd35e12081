"""Connections to the upstream are used again, and what may be resent is never lost with one."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.fixtures import Start, Through
from tests.support.inprocess import InProcess, attributes
from tests.support.raw import App, Peer

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody"
PUT = b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


async def pooled(proxy: InProcess, app: App) -> tuple[Peer, Peer]:
    """A client, and an upstream connection that waits in the pool."""
    client = await proxy.client()
    await client.send(GET)
    upstream = await app.accept()
    await upstream.expect(GET)
    await upstream.send(OK)
    await client.expect(OK)
    await proxy.span()
    return client, upstream


async def test_clients_share_connections(outbound: Through, app: App) -> None:
    proxy = await outbound()
    _, upstream = await pooled(proxy, app)
    for _ in range(3):
        client = await proxy.client()
        await client.send(GET)
        await upstream.expect(GET)
        await upstream.send(OK)
        await client.expect(OK)
    assert app.accepted == 1


async def test_a_connection_that_was_closed_while_idle_is_not_used(
    outbound: Through, app: App
) -> None:
    proxy = await outbound()
    client, upstream = await pooled(proxy, app)
    await upstream.close()
    await client.send(POST)
    upstream = await app.accept()
    await upstream.expect(POST)
    await upstream.send(OK)
    await client.expect(OK)
    assert attributes(await proxy.span())["http.response.status_code"] == 200
    assert proxy.no_span()


@pytest.mark.parametrize("request_bytes", [GET, PUT])
async def test_what_can_be_repeated_is_sent_again_when_its_connection_is_gone(
    request_bytes: bytes, outbound: Through, app: App
) -> None:
    """The app closes at the very moment of reuse; each attempt has a span of its own."""
    proxy = await outbound()
    client, upstream = await pooled(proxy, app)
    await client.send(request_bytes)
    await upstream.expect(request_bytes)
    upstream.reset()
    upstream = await app.accept()
    await upstream.expect(request_bytes)
    await upstream.send(OK)
    await client.expect(OK)
    first, second = await proxy.span(), await proxy.span()
    assert attributes(first)["error.type"] == "upstream_reset"
    assert "http.response.status_code" not in attributes(first)
    assert "http.request.resend_count" not in attributes(first)
    assert attributes(second)["http.request.resend_count"] == 1
    assert attributes(second)["http.response.status_code"] == 200
    assert first.span_id != second.span_id


async def test_what_cannot_be_repeated_is_not(outbound: Through, app: App) -> None:
    proxy = await outbound()
    client, upstream = await pooled(proxy, app)
    await client.send(POST)
    await upstream.expect(POST)
    upstream.reset()
    status, _, body = await client.answer()
    assert status == 502
    assert body.startswith(b"meshproxy: app reset the connection before it answered")
    span = await proxy.span()
    assert attributes(span)["error.type"] == "upstream_reset"
    assert span.events[0].name == "exception"
    await client.send(GET)  # the client's own connection is as good as ever
    await (await app.accept()).expect(GET)


async def test_nothing_is_repeated_on_a_new_connection(outbound: Through, app: App) -> None:
    """What was sent on it may well have been done."""
    proxy = await outbound()
    client = await proxy.client()
    await client.send(GET)
    upstream = await app.accept()
    await upstream.expect(GET)
    await upstream.close()
    assert (await client.answer())[0] == 502
    assert app.accepted == 1


async def test_nothing_is_repeated_once_an_answer_has_begun(outbound: Through, app: App) -> None:
    proxy = await outbound()
    client, upstream = await pooled(proxy, app)
    await client.send(GET)
    await upstream.expect(GET)
    await upstream.send(b"HTTP/1.1 20")
    await upstream.close()
    assert (await client.answer())[0] == 502


async def test_a_request_that_is_sent_again_is_made_as_the_first_was(
    start: Start, app: App
) -> None:
    """Through a forward proxy: same request line, Host and stripped credentials."""
    proxy = await start({"outbound": [{"mode": "forward-proxy", "trust": "edge"}]})
    client = await proxy.client()
    to = b"127.0.0.1:%d" % app.port
    asked = (
        b"GET http://%b/x HTTP/1.1\r\nHost: other\r\nProxy-Authorization: Basic c2VjcmV0\r\n\r\n"
        % to
    )
    sent = b"GET /x HTTP/1.1\r\nHost: %b\r\n\r\n" % to
    await client.send(asked)
    upstream = await app.accept()
    await upstream.expect(sent)
    await upstream.send(OK)
    await client.expect(OK)
    await client.send(asked)
    await upstream.expect(sent)
    upstream.reset()
    upstream = await app.accept()
    await upstream.expect(sent)
    await upstream.send(OK)
    await client.expect(OK)


async def test_unused_connections_are_closed_after_their_time(outbound: Through, app: App) -> None:
    proxy = await outbound(pool_idle="200ms")
    _, upstream = await pooled(proxy, app)
    assert await upstream.ended()


async def test_the_pool_keeps_no_more_than_it_may(outbound: Through, app: App) -> None:
    proxy = await outbound(pool_size=1)
    clients = [await proxy.client() for _ in range(3)]
    for client in clients:
        await client.send(GET)
    upstreams = [await app.accept() for _ in clients]
    for upstream in upstreams:
        await upstream.expect(GET)
        await upstream.send(OK)
    for client in clients:
        await client.expect(OK)
    done, waiting = await asyncio.wait(
        [asyncio.create_task(upstream.ended()) for upstream in upstreams],
        return_when=asyncio.FIRST_COMPLETED,
    )
    while len(done) < 2:
        more, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        done |= more
    (last,) = waiting
    last.cancel()
