"""What could be read in two ways is refused: a short answer, then the end of the connection."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.fixtures import Through
from tests.support.raw import App

HOST = b"Host: a\r\n"
MALFORMED = [
    (b"GET / HTTP/1.1\r\n\r\n", 400, b"exactly one Host"),
    (b"GET / HTTP/1.1\r\n" + HOST + b"Host: b\r\n\r\n", 400, b"exactly one Host"),
    (b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400, b"Host"),
    (b"GET / HTTP/1.1\nHost: a\n\n", 400, b"bare LF"),
    (b"GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n", 400, b"bare CR"),
    (b"GET / HTTP/1.1\r\nHost: a\r\nX: \x00\r\n\r\n", 400, b"NUL"),
    (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400, b"before the colon"),
    (b"GET / HTTP/1.1\r\n" + HOST + b" folded\r\n\r\n", 400, b"starts with a blank"),
    (b"GET / HTTP/1.1\r\n" + HOST + b"no colon\r\n\r\n", 400, b"no header name"),
    (b"GET  / HTTP/1.1\r\n" + HOST + b"\r\n", 400, b"request line"),
    (b"GET example HTTP/1.1\r\n" + HOST + b"\r\n", 400, b"target"),
    (b"GET * HTTP/1.1\r\n" + HOST + b"\r\n", 400, b"target"),
    (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: -1\r\n\r\n", 400, b"Content-Length"),
    (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 1, 1\r\n\r\nx", 400, b"Content-Length"),
    (
        b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\nx",
        400,
        b"Content-Length",
    ),
    (
        b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked, identity\r\n\r\n",
        400,
        b"chunked",
    ),
    (b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: gzip, chunked\r\n\r\n", 501, b"chunked"),
    (b"POST / HTTP/1.0\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n", 400, b"HTTP/1.0"),
    (
        b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        400,
        b"chunk-size",
    ),
    (b"GET / HTTP/2.0\r\n" + HOST + b"\r\n", 505, b"HTTP/1.1"),
    (b"GET / HTTP/1.2\r\n" + HOST + b"\r\n", 505, b"HTTP/1.1"),
    (b"GET /" + 2000 * b"a" + b" HTTP/1.1\r\n" + HOST + b"\r\n", 414, b"too long"),
    (b"GET / HTTP/1.1\r\n" + HOST + b"X: " + 2000 * b"a" + b"\r\n\r\n", 431, b"larger than 1024"),
    (b"GET / HTTP/1.1\r\n" + HOST + 20 * b"X: y\r\n" + b"\r\n", 431, b"More than 20"),
]


@pytest.mark.parametrize(("request_bytes", "status", "why"), MALFORMED)
async def test_what_is_wrong_is_refused_and_never_passed_on(
    request_bytes: bytes, status: int, why: bytes, outbound: Through, app: App
) -> None:
    proxy = await outbound(header_bytes=1024, headers=20)
    client = await proxy.client()
    await client.send(request_bytes)
    got, head, body = await client.answer()
    assert (got, why in body) == (status, True), body
    assert body.startswith(b"meshproxy: ")
    assert b"\r\nConnection: close\r\n" in head
    assert await client.ended()
    assert app.accepted == 0
    assert await proxy.metric("meshproxy_refused_total", status=str(status)) == 1


SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"0\r\n\r\n" + SMUGGLED,
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"
        b"Transfer-Encoding: identity\r\n\r\n0\r\n\r\n" + SMUGGLED,
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;\nx\r\n0\r\n\r\n"
        + SMUGGLED,
    ],
)
async def test_no_second_request_hides_in_a_first(
    request_bytes: bytes, outbound: Through, app: App
) -> None:
    proxy = await outbound()
    client = await proxy.client()
    await client.send(request_bytes)
    assert (await client.answer())[0] == 400
    assert await client.ended()
    assert app.accepted == 0


@pytest.mark.parametrize("together", [True, False])
async def test_the_answer_survives_what_the_client_still_sends(
    together: bool, outbound: Through, app: App
) -> None:
    """A close with unread bytes would reset the connection, and the answer with it."""
    proxy = await outbound()
    client = await proxy.client()
    head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    if together:
        await client.send(head + b"zz\r\n")
    else:
        await client.send(head)
        await (await app.accept()).head()
        await client.send(b"zz\r\n")
    size = 8 * 2**20
    assert await client.flood(size, bytes(2**18), stall=5) == size
    assert (await client.answer())[0] == 400
    assert await client.ended()


async def test_a_bad_trailer_is_refused_like_a_bad_header(outbound: Through, app: App) -> None:
    proxy = await outbound()
    client = await proxy.client()
    await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n")
    upstream = await app.accept()
    await upstream.head()
    await client.send(b"X: " + 20_000 * b"a")
    assert (await client.answer())[0] == 431
    await client.ended()
    await upstream.rest()
    await proxy.span()


async def test_the_requests_before_a_bad_one_are_answered(outbound: Through, app: App) -> None:
    proxy = await outbound()
    client = await proxy.client()
    await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nbad\r\n\r\n")
    upstream = await app.accept()
    await upstream.head()
    await upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    assert (await client.answer())[0] == 200
    assert (await client.answer())[0] == 400
    assert await client.ended()


async def test_garbage_stops_nobody(outbound: Through, app: App) -> None:
    proxy = await outbound("auto", header_timeout="200ms")
    garbage = [b"\x00" * 100, b"\xff\xfe" * 50, b"GET " + b"\x00" * 20 + b"\r\n\r\n", b"\r\n" * 50]
    clients = [await proxy.client() for _ in garbage]
    for client, bytes_ in zip(clients, garbage, strict=True):
        await client.send(bytes_)
        client.half_close()
    drains = [asyncio.create_task(client.rest()) for client in clients]
    for upstream in [await app.accept() for _ in range(3)]:
        await upstream.close()
    await asyncio.gather(*drains)
    client = await proxy.client()
    await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    await (await app.accept()).expect(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
