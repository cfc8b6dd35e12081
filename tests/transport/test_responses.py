"""What an upstream answers reaches the client byte for byte, and ends where it must."""

from __future__ import annotations

import pytest

from tests.support.fixtures import Through
from tests.support.inprocess import attributes
from tests.support.raw import App

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.mark.parametrize(
    ("request_head", "response"),
    [
        (b"HEAD / HTTP/1.1", b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"),
        (b"HEAD / HTTP/1.1", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        (b"HEAD / HTTP/1.1", b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n"),
        (b"GET / HTTP/1.1", b"HTTP/1.1 204 No Content\r\nA: b\r\n\r\n"),
        (b"GET / HTTP/1.1", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 1000\r\n\r\n"),
        (b"GET / HTTP/1.1", b"HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n"),
        (b"GET / HTTP/1.1", b"HTTP/1.1 299 Odd \xe9\r\nContent-Length: 0\r\n\r\n"),
    ],
)
async def test_answers_without_a_body_keep_both_connections(
    request_head: bytes, response: bytes, outbound: Through, app: App
) -> None:
    proxy = await outbound()
    client = await proxy.client()
    upstream = None
    for _ in range(2):
        await client.send(request_head + b"\r\nHost: a\r\n\r\n")
        upstream = upstream or await app.accept()
        await upstream.head()
        await upstream.send(response)
        await client.expect(response)
    assert app.accepted == 1


async def test_a_body_without_length_ends_with_the_connection(outbound: Through, app: App) -> None:
    proxy = await outbound()
    client = await proxy.client()
    await client.send(GET)
    upstream = await app.accept()
    await upstream.head()
    await upstream.send(b"HTTP/1.1 200 OK\r\nA: b\r\n\r\nsome ")
    await client.expect(b"HTTP/1.1 200 OK\r\nA: b\r\nConnection: close\r\n\r\nsome ")
    await upstream.send(b"more")
    await upstream.close()
    await client.expect(b"more")
    assert await client.ended()
    assert "error.type" not in attributes(await proxy.span())


async def test_interim_answers_pass(outbound: Through, app: App) -> None:
    proxy = await outbound()
    client = await proxy.client()
    await client.send(GET)
    upstream = await app.accept()
    await upstream.head()
    early = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    await upstream.send(early)
    await client.expect(early)
    await upstream.send(early + early + OK)
    await client.expect(early + early + OK)
    assert attributes(await proxy.span())["http.response.status_code"] == 200


async def test_a_flood_of_interim_answers_harms_nobody(outbound: Through, app: App) -> None:
    proxy = await outbound()
    client = await proxy.client()
    await client.send(GET)
    upstream = await app.accept()
    await upstream.head()
    flood = 4000 * b"HTTP/1.1 102 \r\n\r\n"
    await upstream.send(flood + OK)
    await client.expect(flood + OK)


async def test_interim_answers_are_kept_from_http_1_0(outbound: Through, app: App) -> None:
    proxy = await outbound()
    client = await proxy.client()
    await client.send(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n")
    upstream = await app.accept()
    await upstream.head()
    await upstream.send(b"HTTP/1.1 103 Early Hints\r\n\r\n" + OK)
    await client.expect(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
    assert await client.ended()


async def test_http_1_0_with_keep_alive(outbound: Through, app: App) -> None:
    """The upstream was told nothing of keep-alive, so its connection is not used again."""
    proxy = await outbound()
    client = await proxy.client()
    for _ in range(2):
        await client.send(b"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n")
        upstream = await app.accept()
        await upstream.expect(b"GET / HTTP/1.0\r\n\r\n")
        await upstream.send(OK)
        await client.expect(
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nok"
        )
        assert await upstream.ended()


async def test_an_http_1_0_upstream_is_spoken_for_in_http_1_1(outbound: Through, app: App) -> None:
    proxy = await outbound()
    client = await proxy.client()
    await client.send(GET)
    upstream = await app.accept()
    await upstream.head()
    await upstream.send(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok")
    await client.expect(OK)
    assert await upstream.ended()
    await client.send(GET)
    upstream = await app.accept()
    await upstream.head()
    await upstream.send(b"HTTP/1.0 200 OK\r\n\r\nok")
    await upstream.close()
    await client.expect(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nok")
    assert await client.ended()


async def test_bytes_after_an_answer_are_never_given_to_anybody(
    outbound: Through, app: App
) -> None:
    proxy = await outbound()
    client = await proxy.client()
    await client.send(GET)
    upstream = await app.accept()
    await upstream.head()
    await upstream.send(OK + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
    await client.expect(OK)
    assert not (await upstream.rest())
    await client.send(GET)
    upstream = await app.accept()
    await upstream.head()
    await upstream.send(OK)
    await client.expect(OK)


async def test_bytes_on_an_idle_pooled_connection_end_it(outbound: Through, app: App) -> None:
    proxy = await outbound()
    client = await proxy.client()
    await client.send(GET)
    upstream = await app.accept()
    await upstream.head()
    await upstream.send(OK)
    await client.expect(OK)
    await upstream.send(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")
    assert not (await upstream.rest())
    await client.send(GET)
    upstream = await app.accept()
    await upstream.head()
    await upstream.send(OK)
    await client.expect(OK)
