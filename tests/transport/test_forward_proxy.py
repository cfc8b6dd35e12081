"""HTTP_PROXY and HTTPS_PROXY: absolute form, and CONNECT."""

from __future__ import annotations

import pytest

from meshproxy.demo.processes import Ports
from tests.support.fixtures import Start
from tests.support.inprocess import InProcess, attributes
from tests.support.raw import App, Peer

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
ESTABLISHED = b"HTTP/1.1 200 Connection Established\r\n\r\n"


async def begin(start: Start) -> tuple[InProcess, Peer]:
    proxy = await start({"outbound": [{"mode": "forward-proxy", "trust": "edge"}]})
    return proxy, await proxy.client()


@pytest.mark.parametrize(
    ("line", "sent"),
    [
        (b"GET http://%b/a?b=c HTTP/1.1", b"GET /a?b=c HTTP/1.1"),
        (b"GET http://%b HTTP/1.1", b"GET / HTTP/1.1"),
        (b"GET HTTP://%b?q HTTP/1.1", b"GET /?q HTTP/1.1"),
        (b"OPTIONS http://%b HTTP/1.1", b"OPTIONS * HTTP/1.1"),
        (b"GET http://%b/ HTTP/1.0", b"GET / HTTP/1.0"),
    ],
)
async def test_the_absolute_form_becomes_the_origin_form(
    line: bytes, sent: bytes, start: Start, app: App
) -> None:
    proxy, client = await begin(start)
    to = b"127.0.0.1:%d" % app.port
    await client.send(line % to + b"\r\nX: y\r\nHost: %b\r\n\r\n" % to)
    upstream = await app.accept()
    await upstream.expect(sent + b"\r\nX: y\r\nHost: %b\r\n\r\n" % to)
    await upstream.send(OK)
    assert (await client.answer())[2] == b"ok"
    span = attributes(await proxy.span())
    assert span["server.address"] == "127.0.0.1"
    assert span["server.port"] == app.port


async def test_the_target_counts_and_not_the_host_field(start: Start, app: App) -> None:
    _, client = await begin(start)
    await client.send(b"GET http://127.0.0.1:%d/ HTTP/1.1\r\nHost: other\r\n\r\n" % app.port)
    await (await app.accept()).expect(b"GET / HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n" % app.port)


async def test_credentials_for_the_proxy_stay_here(start: Start, app: App) -> None:
    _, client = await begin(start)
    to = b"127.0.0.1:%d" % app.port
    await client.send(
        b"GET http://%b/ HTTP/1.1\r\nHost: %b\r\nProxy-Authorization: Basic eDp5\r\n\r\n" % (to, to)
    )
    await (await app.accept()).expect(b"GET / HTTP/1.1\r\nHost: %b\r\n\r\n" % to)


async def test_one_client_reaches_many_destinations(start: Start, app: App) -> None:
    other = await App().start()
    _, client = await begin(start)
    for each in (app, other, app, other):
        to = b"127.0.0.1:%d" % each.port
        await client.send(b"GET http://%b/ HTTP/1.1\r\nHost: %b\r\n\r\n" % (to, to))
        if not each.accepted:
            first = await each.accept()
            if each is app:
                upstream = first
            else:
                another = first
        peer = upstream if each is app else another
        await peer.head()
        await peer.send(OK)
        await client.expect(OK)
    await other.stop()


async def test_connect_passes_bytes_and_has_a_span(start: Start, app: App) -> None:
    proxy, client = await begin(start)
    to = b"127.0.0.1:%d" % app.port
    await client.send(b"CONNECT %b HTTP/1.1\r\nHost: %b\r\n\r\n\x00early" % (to, to))
    upstream = await app.accept()
    await client.expect(ESTABLISHED)
    await upstream.expect(b"\x00early")
    await upstream.send(b"\x01\x02")
    await client.expect(b"\x01\x02")
    client.half_close()
    assert await upstream.ended()
    await upstream.send(b"after the half-close")
    await client.expect(b"after the half-close")
    assert proxy.no_span()
    await upstream.close()
    assert await client.ended()
    span = await proxy.span()
    assert span.shape.name == "CONNECT"
    assert attributes(span)["http.request.method"] == "CONNECT"
    assert attributes(span)["http.response.status_code"] == 200
    assert attributes(span)["server.port"] == app.port
    assert "error.type" not in attributes(span)


async def test_connect_to_nobody(start: Start, ports: Ports) -> None:
    proxy, client = await begin(start)
    to = b"127.0.0.1:%d" % ports.take()
    await client.send(b"CONNECT %b HTTP/1.1\r\nHost: %b\r\n\r\n" % (to, to))
    assert (await client.answer())[0] == 502
    assert attributes(await proxy.span())["error.type"] == "connect_refused"


async def test_a_tunnel_that_is_cut_is_an_error(start: Start, app: App) -> None:
    proxy, client = await begin(start)
    to = b"127.0.0.1:%d" % app.port
    await client.send(b"CONNECT %b HTTP/1.1\r\nHost: %b\r\n\r\n" % (to, to))
    await client.expect(ESTABLISHED)
    (await app.accept()).reset()
    assert not await client.ended()
    assert attributes(await proxy.span())["error.type"] == "reset"


@pytest.mark.parametrize(
    ("line", "status", "why"),
    [
        (b"GET / HTTP/1.1", 400, b"absolute URI"),
        (b"GET https://127.0.0.1/ HTTP/1.1", 501, b"use CONNECT"),
        (b"GET ftp://127.0.0.1/ HTTP/1.1", 501, b"Only http://"),
        (b"GET http://user@127.0.0.1/ HTTP/1.1", 400, b"target"),
        (b"GET http:/// HTTP/1.1", 400, b"target"),
        (b"GET http://127.0.0.1:0/ HTTP/1.1", 400, b"host:port"),
        (b"GET http://127.0.0.1:99999/ HTTP/1.1", 400, b"host:port"),
        (b"CONNECT 127.0.0.1 HTTP/1.1", 400, b"target"),
        (b"CONNECT 127.0.0.1:0 HTTP/1.1", 400, b"host:port"),
        (b"CONNECT /path HTTP/1.1", 400, b"target"),
    ],
)
async def test_what_is_not_for_a_proxy_is_refused(
    line: bytes, status: int, why: bytes, start: Start
) -> None:
    _, client = await begin(start)
    await client.send(line + b"\r\nHost: a\r\n\r\n")
    got, _, body = await client.answer()
    assert (got, why in body) == (status, True), body
    assert await client.ended()


@pytest.mark.parametrize("line", [b"GET http://%b/ HTTP/1.1", b"CONNECT %b HTTP/1.1"])
@pytest.mark.parametrize("host", [b"127.0.0.1", b"localhost"])
async def test_the_proxy_is_not_led_to_itself(line: bytes, host: bytes, start: Start) -> None:
    proxy, client = await begin(start)
    await client.send(line % (b"%b:%d" % (host, proxy.outbound[0])) + b"\r\nHost: a\r\n\r\n")
    status, _, body = await client.answer()
    assert (status, body) == (400, b"meshproxy: The destination is this proxy itself.\n")


async def test_a_reverse_proxy_passes_connect_on(start: Start, app: App) -> None:
    """The upstream may be a forward proxy itself."""
    proxy = await start({"outbound": [{"upstream": f"127.0.0.1:{app.port}", "trust": "edge"}]})
    request = b"CONNECT far:443 HTTP/1.1\r\nHost: far:443\r\n\r\n"
    client = await proxy.client()
    await client.send(request)
    upstream = await app.accept()
    await upstream.expect(request)
    refusal = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"
    await upstream.send(refusal)
    await client.expect(refusal)
    await client.send(request)
    await upstream.expect(request)
    await upstream.send(b"HTTP/1.1 200 Fine\r\n\r\nhello")
    await client.expect(b"HTTP/1.1 200 Fine\r\n\r\nhello")
    await client.send(b"\x16\x03")
    await upstream.expect(b"\x16\x03")
    client.half_close()
    assert await upstream.ended()
    await upstream.close()
    assert await client.ended()
