"""What a client sends reaches the upstream byte for byte, in order."""

from __future__ import annotations

import pytest

from tests.support.fixtures import Through
from tests.support.inprocess import attributes
from tests.support.raw import App

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

METHODS = (
    "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "PROPFIND", "QUERY",
    "BREW", "x-custom",
)  # fmt: skip


@pytest.mark.parametrize("method", METHODS)
async def test_every_method_passes_with_case_and_order_of_its_headers(
    method: str, outbound: Through, app: App
) -> None:
    proxy = await outbound()
    client = await proxy.client()
    request = f"{method} /thing?x=1 HTTP/1.1\r\nzz: 1\r\nHost: a\r\nX-Odd-CASE:  v \r\n\r\n"
    await client.send(request.encode())
    upstream = await app.accept()
    await upstream.expect(request.encode())
    response = b"HTTP/1.1 200 Fine by me\r\ncontent-LENGTH: 0\r\nx-ODD: 1\r\nA:b\r\n\r\n"
    await upstream.send(response)
    await client.expect(response)
    assert attributes(await proxy.span())["http.response.status_code"] == 200


BODIES = (
    b"Content-Length: 5\r\n\r\nhello",
    b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"Transfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n"
    b"1;ext=1\r\nh\r\n4\r\nello\r\n0\r\nX-Sum: 7\r\nx-b: 2\r\n\r\n",
)


@pytest.mark.parametrize("body", BODIES)
async def test_bodies_pass_as_they_are_framed_both_ways(
    body: bytes, outbound: Through, app: App
) -> None:
    proxy = await outbound()
    client = await proxy.client()
    for _ in range(2):  # the framing of the first must be right for the second to be understood
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\n" + body)
    upstream = await app.accept()
    for _ in range(2):
        await upstream.expect(b"POST / HTTP/1.1\r\nHost: a\r\n" + body)
        await upstream.send(b"HTTP/1.1 200 OK\r\n" + body)
        await client.expect(b"HTTP/1.1 200 OK\r\n" + body)


async def test_a_body_is_passed_on_as_it_comes(outbound: Through, app: App) -> None:
    proxy = await outbound()
    client = await proxy.client()
    await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    upstream = await app.accept()
    await upstream.head()
    for piece in (b"5\r\nhe", b"llo\r", b"\n", b"0\r\n\r\n"):
        await client.send(piece)
        await upstream.expect(piece)
    await upstream.send(OK)
    await client.expect(OK)


async def test_pipelined_requests_are_answered_in_order(outbound: Through, app: App) -> None:
    proxy = await outbound()
    client = await proxy.client()
    requests = [b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number for number in range(5)]
    requests[2] = b"POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody"
    await client.send(b"".join(requests))
    upstream = await app.accept()
    for number, request in enumerate(requests):
        await upstream.expect(request)
        await upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d" % number)
    for number in range(5):
        assert (await client.answer())[2] == b"%d" % number


async def test_pipelined_requests_before_a_half_close_are_all_answered(
    outbound: Through, app: App
) -> None:
    proxy = await outbound()
    client = await proxy.client()
    request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    await client.send(3 * request)
    client.half_close()
    upstream = await app.accept()
    for _ in range(3):
        await upstream.expect(request)
        await upstream.send(OK)
    for _ in range(3):
        assert (await client.answer())[0] == 200
    assert await client.ended()


async def test_a_half_closed_client_still_gets_its_answer(outbound: Through, app: App) -> None:
    proxy = await outbound()
    client = await proxy.client()
    await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    client.half_close()
    upstream = await app.accept()
    await upstream.head()
    await upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
    await upstream.send(b"ok")
    await client.expect(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
    assert await client.ended()


async def test_a_client_that_ends_in_the_middle_of_its_body_is_gone(
    outbound: Through, app: App
) -> None:
    proxy = await outbound()
    client = await proxy.client()
    await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf")
    upstream = await app.accept()
    await upstream.head()
    await upstream.expect(b"half")
    client.half_close()
    await upstream.ended()
    assert attributes(await proxy.span())["error.type"] == "client_gone"


async def test_empty_lines_before_a_request_are_ignored(outbound: Through, app: App) -> None:
    proxy = await outbound()
    client = await proxy.client()
    request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    upstream = None
    for before in (b"\r\n", b"\r\n\r\n"):
        await client.send(before + request)
        upstream = upstream or await app.accept()
        await upstream.expect(request)
        await upstream.send(OK)
        await client.expect(OK)


async def test_an_empty_line_after_a_body_does_not_start_a_request(
    outbound: Through, app: App
) -> None:
    proxy = await outbound(header_timeout="100ms")
    client = await proxy.client()
    request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    await client.send(request + b"\r\n")
    upstream = await app.accept()
    await upstream.head()
    await upstream.send(OK)
    await client.expect(OK)
    other = await proxy.client()  # its time-out shows that the time has passed
    await other.send(b"GET / HTTP")
    assert (await other.answer())[0] == 408
    await client.send(request)
    await upstream.expect(request)


async def test_hop_by_hop_fields_stay_on_their_hop(outbound: Through, app: App) -> None:
    proxy = await outbound()
    client = await proxy.client()
    await client.send(
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, X-Mine\r\nKeep-Alive: timeout=5\r\n"
        b"X-Mine: 1\r\nProxy-Connection: keep-alive\r\nTE: trailers, gzip\r\nX-Other: 2\r\n\r\n"
    )
    upstream = await app.accept()
    await upstream.expect(
        b"GET / HTTP/1.1\r\nHost: a\r\nX-Other: 2\r\nTE: trailers\r\nConnection: TE\r\n\r\n"
    )
    await upstream.send(
        b"HTTP/1.1 200 OK\r\nConnection: X-Hop\r\nKeep-Alive: timeout=5\r\nX-Hop: 1\r\n"
        b"X-Other: 2\r\nContent-Length: 0\r\n\r\n"
    )
    await client.expect(b"HTTP/1.1 200 OK\r\nX-Other: 2\r\nContent-Length: 0\r\n\r\n")


async def test_x_forwarded_for_names_the_client_after_those_before_it(
    inbound: Through, app: App
) -> None:
    proxy = await inbound()
    client = await proxy.client()
    await client.send(
        b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 10.0.0.1\r\n"
        b"x-forwarded-for: 10.0.0.2, 10.0.0.3\r\n\r\n"
    )
    upstream = await app.accept()
    head = await upstream.head()
    assert head.lower().count(b"x-forwarded-for") == 1
    assert b"\r\nX-Forwarded-For: 10.0.0.1, 10.0.0.2, 10.0.0.3, 127.0.0.1\r\n" in head
    await upstream.send(OK)
    await client.expect(OK)


async def test_the_client_says_close(outbound: Through, app: App) -> None:
    proxy = await outbound()
    client = await proxy.client()
    await client.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    upstream = await app.accept()
    await upstream.expect(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    await upstream.send(OK)
    await client.expect(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
    assert await client.ended()
    again = await proxy.client()
    await again.send(b"GET /again HTTP/1.1\r\nHost: a\r\n\r\n")
    await upstream.expect(b"GET /again HTTP/1.1\r\nHost: a\r\n\r\n")  # the pool was not told


async def test_a_fixed_route_gives_the_destination_its_own_name(
    outbound: Through, app: App
) -> None:
    """An app that is pointed at the sidecar sends the sidecar's address as its Host."""
    proxy = await outbound()
    client = await proxy.client()
    await client.send(b"GET / HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n" % proxy.outbound[0])
    upstream = await app.accept()
    await upstream.head()
    await upstream.send(OK)
    await client.expect(OK)
    assert attributes(await proxy.span())["server.port"] == app.port
