"""When the upstream or the client fails: who is told what, and what the span says."""

from __future__ import annotations

import asyncio
import socket

import pytest

from meshproxy.demo.processes import Ports
from meshproxy.trace.span import Span
from tests.support.fixtures import Start, Through
from tests.support.inprocess import attributes
from tests.support.raw import App, Peer

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def failure(span: Span) -> str:
    """The kind of failure that a span tells of, in all three places."""
    kind = attributes(span)["error.type"]
    (event,) = span.events
    assert event.name == "exception"
    assert dict(event.attributes)["exception.type"] == kind
    assert span.status_message == dict(event.attributes)["exception.message"]
    return str(kind)


async def test_a_refused_connection(start: Start, ports: Ports) -> None:
    proxy = await start({"outbound": [{"upstream": f"127.0.0.1:{ports.take()}"}]})
    client = await proxy.client()
    for _ in range(2):  # the client's connection goes on
        await client.send(GET)
        status, head, body = await client.answer()
        assert status == 502
        assert b"content-type: text/plain; charset=utf-8" in head.lower()
        assert b"refused the connection" in body
        assert failure(await proxy.span()) == "connect_refused"
    await client.send(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n" + GET)
    assert (await client.head()).startswith(b"HTTP/1.1 502 ")
    assert (await client.answer())[0] == 502  # the answer to HEAD had no body


async def test_a_name_that_does_not_resolve(start: Start) -> None:
    proxy = await start({"outbound": [{"mode": "forward-proxy"}]})
    for name in (b"no-such-host.invalid", b"a" * 70, b"a..b"):
        client = await proxy.client()
        await client.send(b"GET http://%b/ HTTP/1.1\r\nHost: x\r\n\r\n" % name)
        status, _, body = await client.answer()
        assert status == 502
        assert b"does not resolve" in body
        assert failure(await proxy.span()) == "name_resolution"


async def test_a_connection_that_is_not_accepted_in_time(start: Start) -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        address = full.getsockname()
        fillers = []
        for _ in range(2):  # the backlog is full now, and further SYNs are dropped
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(address)
            fillers.append(filler)
        proxy = await start(
            {
                "outbound": [{"upstream": f"127.0.0.1:{address[1]}"}],
                "limits": {"connect_timeout": "200ms"},
            }
        )
        client = await proxy.client()
        await client.send(GET)
        status, _, body = await client.answer()
        assert status == 504
        assert b"did not accept a connection within 0.2 s" in body
        assert failure(await proxy.span()) == "connect_timeout"
        for filler in fillers:
            filler.close()


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        (b"", b"closed the connection before it answered"),
        (b"HTTP/1.1 200 OK\r\nContent-Le", b"closed the connection before it answered"),
    ],
)
async def test_the_upstream_closes_before_it_answers(
    answer: bytes, what: bytes, outbound: Through, app: App
) -> None:
    proxy = await outbound()
    client = await proxy.client()
    await client.send(GET)
    upstream = await app.accept()
    await upstream.head()
    await upstream.send(answer)
    await upstream.close()
    status, _, body = await client.answer()
    assert status == 502
    assert what in body
    assert failure(await proxy.span()) == "upstream_reset"


async def test_an_upstream_that_accepts_and_cuts_at_once(start: Start) -> None:
    """At whatever moment the end comes, nobody is left waiting."""

    async def cut(peer: Peer) -> None:
        peer.reset()

    app = await App(cut).start()
    proxy = await start({"outbound": [{"upstream": f"127.0.0.1:{app.port}"}]})
    for _ in range(50):
        client = await proxy.client()
        await client.send(GET)
        assert (await client.answer())[0] == 502
        assert failure(await proxy.span()) in ("upstream_reset", "connect_error")
        client.reset()
    await app.stop()


@pytest.mark.parametrize(
    "answer",
    [
        b"garbage\r\n\r\n",
        b"HTTP/1.1 099 Nope\r\n\r\n",
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: " + 70_000 * b"a",
    ],
)
async def test_an_answer_that_is_not_http(answer: bytes, outbound: Through, app: App) -> None:
    proxy = await outbound()
    client = await proxy.client()
    await client.send(GET)
    upstream = await app.accept()
    await upstream.head()
    await upstream.send(answer)
    assert (await client.answer())[0] == 502
    assert failure(await proxy.span()) == "bad_response"
    await upstream.ended()
    assert await proxy.metric("meshproxy_upstream_errors_total", kind="bad_response") == 1


@pytest.mark.parametrize(
    "beginning",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    ],
)
async def test_an_app_that_dies_in_the_middle_of_its_body(
    beginning: bytes, outbound: Through, app: App
) -> None:
    proxy = await outbound()
    client = await proxy.client()
    await client.send(GET)
    upstream = await app.accept()
    await upstream.head()
    await upstream.send(beginning)
    await client.expect(beginning)
    upstream.reset()
    assert await client.rest() == b""
    span = await proxy.span()
    assert failure(span) == "upstream_reset"
    assert attributes(span)["http.response.status_code"] == 200


async def test_an_app_that_resets_an_answer_without_length(outbound: Through, app: App) -> None:
    """Only the reset tells the client that this was not all."""
    proxy = await outbound()
    client = await proxy.client()
    await client.send(GET)
    upstream = await app.accept()
    await upstream.head()
    await upstream.send(b"HTTP/1.1 200 OK\r\n\r\nhalf")
    await client.until(b"half")
    upstream.reset()
    assert not await client.ended()
    assert failure(await proxy.span()) == "upstream_reset"


async def test_a_bad_chunk_in_an_answer_cuts_it(outbound: Through, app: App) -> None:
    proxy = await outbound()
    client = await proxy.client()
    await client.send(GET)
    upstream = await app.accept()
    await upstream.head()
    await upstream.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
    await client.until(b"1\r\na\r\n")
    await upstream.send(b"zzz\r\n")
    assert await client.rest() == b""
    assert failure(await proxy.span()) == "bad_response"


async def test_an_answer_that_does_not_come_in_time(outbound: Through, app: App) -> None:
    proxy = await outbound(stream_idle="200ms")
    client = await proxy.client()
    await client.send(GET)
    upstream = await app.accept()
    await upstream.head()
    status, _, body = await client.answer()
    assert status == 504
    assert b"app did not answer within 0.2 s" in body
    assert failure(await proxy.span()) == "response_timeout"
    await upstream.ended()
    await client.send(GET)
    await (await app.accept()).expect(GET)


async def test_an_answer_that_does_not_go_on(outbound: Through, app: App) -> None:
    proxy = await outbound(stream_idle="200ms")
    client = await proxy.client()
    await client.send(GET)
    upstream = await app.accept()
    await upstream.head()
    await upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
    await client.until(b"half")
    assert await client.rest() == b""
    assert failure(await proxy.span()) == "stream_timeout"


async def test_a_body_that_does_not_come_on(outbound: Through, app: App) -> None:
    proxy = await outbound(stream_idle="200ms")
    client = await proxy.client()
    await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf")
    upstream = await app.accept()
    await upstream.head()
    status, head, _ = await client.answer()
    assert status == 408
    assert b"Connection: close" in head
    assert await client.ended()
    assert failure(await proxy.span()) == "request_timeout"


async def test_a_client_that_is_gone_cuts_its_upstream(outbound: Through, app: App) -> None:
    proxy = await outbound()
    client = await proxy.client()
    await client.send(GET)
    upstream = await app.accept()
    await upstream.head()
    client.reset()
    await upstream.ended()
    span = await proxy.span()
    assert failure(span) == "client_gone"
    assert "http.response.status_code" not in attributes(span)


async def test_a_client_that_is_gone_while_its_answer_comes(outbound: Through, app: App) -> None:
    proxy = await outbound()
    client = await proxy.client()
    await client.send(GET)
    upstream = await app.accept()
    await upstream.head()
    await upstream.send(b"HTTP/1.1 200 OK\r\n\r\nhalf")
    await client.until(b"half")
    client.reset()
    await upstream.ended()
    span = await proxy.span()
    assert failure(span) == "client_gone"
    assert attributes(span)["http.response.status_code"] == 200


async def test_a_client_that_is_gone_while_its_upstream_is_connected(start: Start) -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        address = full.getsockname()
        fillers = [await Peer.connect(address[1])]
        proxy = await start({"outbound": [{"upstream": f"127.0.0.1:{address[1]}"}]})
        client = await proxy.client()
        await client.send(GET)
        while not proxy.sidecar.stats.connections.total():
            await asyncio.sleep(0)
        client.reset()
        assert failure(await proxy.span()) == "client_gone"
        for filler in fillers:
            filler.reset()


async def test_too_many_connections(outbound: Through, app: App) -> None:
    proxy = await outbound(connections=1)
    first = await proxy.client()
    await first.send(GET)
    upstream = await app.accept()
    second = await proxy.client()
    status, head, body = await second.answer()
    assert status == 503
    assert b"Connection: close" in head
    assert body == b"meshproxy: Too many connections.\n"
    assert await second.ended()
    await upstream.send(OK)
    await first.expect(OK)
    first.reset()
    await proxy.left()
    third = await proxy.client()
    await third.send(GET)
    await upstream.head()
    await upstream.expect(GET)


async def test_a_head_that_does_not_come_to_its_end(outbound: Through) -> None:
    proxy = await outbound(header_timeout="200ms")
    client = await proxy.client()
    await client.send(b"GET / HTTP/1.1\r\nHo")
    status, _, body = await client.answer()
    assert status == 408
    assert body == b"meshproxy: The request took too long.\n"
    assert await client.ended()


@pytest.mark.parametrize("first", [b"", GET])
async def test_idle_clients_are_closed(first: bytes, outbound: Through, app: App) -> None:
    proxy = await outbound(connection_idle="200ms")
    client = await proxy.client()
    if first:
        await client.send(first)
        upstream = await app.accept()
        await upstream.head()
        await upstream.send(OK)
        await client.expect(OK)
    assert await client.ended()
