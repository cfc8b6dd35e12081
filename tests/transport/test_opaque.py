"""What is not HTTP/1 passes byte for byte; outbound it has a span."""

from __future__ import annotations

import asyncio
import ssl

import pytest

from meshproxy.demo.processes import Ports
from tests.support.fixtures import Start, Through
from tests.support.inprocess import attributes
from tests.support.raw import App, Peer

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"


def client_hello(name: str) -> bytes:
    """What a TLS client says first."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


@pytest.mark.parametrize(
    ("first", "protocol"),
    [
        (b"\x00\x01\x02binary", "opaque"),
        (b"HELO there, this is SMTP\r\n", "opaque"),
        (b"*1\r\n$4\r\nPING\r\n", "opaque"),
        (PREFACE, "h2c"),
        (client_hello("shop.example"), "tls"),
    ],
)
async def test_bytes_pass_and_the_span_says_how_many(
    first: bytes, protocol: str, outbound: Through, app: App
) -> None:
    proxy = await outbound("auto")
    client = await proxy.client()
    await client.send(first)
    upstream = await app.accept()
    await upstream.expect(first)
    await upstream.send(b"answer")
    await client.expect(b"answer")
    await client.send(b"\xff" * 1000)
    await upstream.expect(b"\xff" * 1000)
    assert proxy.no_span()
    await upstream.close()
    assert await client.ended()
    await client.close()
    span = await proxy.span()
    found = attributes(span)
    assert found["network.protocol.name"] == protocol
    assert found["meshproxy.bytes.sent"] == len(first) + 1000
    assert found["meshproxy.bytes.received"] == 6
    assert found.get("tls.client.server_name") == ("shop.example" if protocol == "tls" else None)
    assert "error.type" not in found


@pytest.mark.parametrize("whole", [client_hello("shop.example"), PREFACE])
async def test_a_first_message_may_come_in_pieces(
    whole: bytes, outbound: Through, app: App
) -> None:
    proxy = await outbound("auto")
    client = await proxy.client()
    for at in range(len(whole)):
        await client.send(whole[at : at + 1])
        if at % 16 == 0:
            await asyncio.sleep(0)
    upstream = await app.accept()
    await upstream.expect(whole)


async def test_a_server_may_speak_first(outbound: Through, app: App) -> None:
    proxy = await outbound("auto")
    client = await proxy.client()
    upstream = await app.accept()
    await upstream.send(b"220 mail.example ESMTP\r\n")
    await client.expect(b"220 mail.example ESMTP\r\n")
    await client.send(b"GET is not HTTP here\r\n")
    await upstream.expect(b"GET is not HTTP here\r\n")


async def test_a_listener_may_be_told_that_it_is_opaque(start: Start, app: App) -> None:
    route = {"upstream": f"127.0.0.1:{app.port}", "protocol": "opaque", "trust": "edge"}
    proxy = await start({"outbound": [route]})
    client = await proxy.client()
    upstream = await app.accept()  # before a byte was sent
    await client.send(b"GET / HTTP/1.1\r\n\r\n")
    await upstream.expect(b"GET / HTTP/1.1\r\n\r\n")


@pytest.mark.parametrize("first_to_end", ["client", "upstream"])
async def test_either_side_may_end_first(first_to_end: str, outbound: Through, app: App) -> None:
    proxy = await outbound("auto")
    client = await proxy.client()
    await client.send(b"\x00ask")
    upstream = await app.accept()
    await upstream.expect(b"\x00ask")
    one, other = (client, upstream) if first_to_end == "client" else (upstream, client)
    await one.send(b"last")
    one.half_close()
    await other.expect(b"last")
    assert await other.ended()
    await other.send(b"still here")
    await one.expect(b"still here")
    other.half_close()
    assert await one.ended()
    assert "error.type" not in attributes(await proxy.span())


async def test_a_half_close_right_after_the_first_bytes(outbound: Through, app: App) -> None:
    proxy = await outbound("auto")
    client = await proxy.client()
    await client.send(b"\x00ask")
    client.half_close()
    upstream = await app.accept()
    await upstream.expect(b"\x00ask")
    assert await upstream.ended()
    await upstream.send(b"answer")
    await upstream.close()
    await client.expect(b"answer")
    assert await client.ended()


async def test_nobody_there(start: Start, ports: Ports) -> None:
    proxy = await start({"outbound": [{"upstream": f"127.0.0.1:{ports.take()}"}]})
    client = await proxy.client()
    await client.send(b"\x00")
    assert not await client.ended()
    span = await proxy.span()
    assert attributes(span)["error.type"] == "connect_refused"
    assert span.events[0].name == "exception"


@pytest.mark.parametrize("side", ["client", "upstream"])
async def test_a_reset_is_passed_on(side: str, outbound: Through, app: App) -> None:
    proxy = await outbound("auto")
    client = await proxy.client()
    await client.send(b"\x00")
    upstream = await app.accept()
    await upstream.expect(b"\x00")
    one, other = (client, upstream) if side == "client" else (upstream, client)
    one.reset()
    assert not await other.ended()
    assert attributes(await proxy.span())["error.type"] == "reset"


async def test_an_end_at_any_moment_leaves_nothing_behind(start: Start) -> None:
    async def cut(peer: Peer) -> None:
        peer.reset()

    app = await App(cut).start()
    proxy = await start({"outbound": [{"upstream": f"127.0.0.1:{app.port}"}]})
    for turns in range(60):
        client = await proxy.client()
        await client.send(b"\x00")
        for _ in range(turns % 15):
            await asyncio.sleep(0)
        if turns % 2:
            client.reset()
        else:
            await client.ended()
        await proxy.span()
    await proxy.left()
    await app.stop()


async def test_silence_is_cut_after_its_time(outbound: Through, app: App) -> None:
    proxy = await outbound("auto", connection_idle="200ms")
    client = await proxy.client()
    await client.send(b"\x00")
    await (await app.accept()).expect(b"\x00")
    await client.rest()
    assert attributes(await proxy.span())["error.type"] == "stream_timeout"


async def test_a_slow_reader_stops_the_sender(outbound: Through, app: App) -> None:
    proxy = await outbound("auto")
    client = await proxy.client(slow=True)
    await client.send(b"\x00")
    upstream = await app.accept()
    large = 64 * 2**20
    sent = await upstream.flood(large, bytes(2**20))
    assert sent < 24 * 2**20
    feeding = asyncio.create_task(upstream.flood(large - sent, bytes(2**20), stall=5))
    for _ in range(64):
        await client.read(2**20)
    assert sent + await feeding == large
