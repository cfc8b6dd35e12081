"""An upstream that is connected before the client has said what it speaks."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import pytest

from tests.support.fixtures import Start
from tests.support.inprocess import attributes
from tests.support.raw import PATIENCE, App, Peer

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture
def stuck() -> Iterator[int]:
    """A port whose connections never come to stand: its queue is full."""
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        port = listening.getsockname()[1]
        for _ in range(3):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        yield port


async def test_an_upstream_that_resets_at_once_ends_the_connection(start: Start) -> None:
    async def reset(peer: Peer) -> None:
        peer.reset()

    app = await App(reset).start()
    sidecar = await start({"outbound": [{"upstream": f"127.0.0.1:{app.port}"}]})
    client = await sidecar.client()
    assert not await client.ended()
    await sidecar.left()
    assert attributes(await sidecar.span())["error.type"] == "reset"
    await app.stop()


async def test_an_upstream_that_closes_at_once_ends_the_connection(start: Start) -> None:
    async def close(peer: Peer) -> None:
        await peer.close()

    app = await App(close).start()
    sidecar = await start({"outbound": [{"upstream": f"127.0.0.1:{app.port}"}]})
    client = await sidecar.client()
    assert await client.ended()
    await client.close()
    await sidecar.left()
    await app.stop()


async def test_a_client_may_go_while_its_upstream_is_being_connected(
    start: Start, stuck: int
) -> None:
    config = {
        "outbound": [{"upstream": f"127.0.0.1:{stuck}"}],
        "limits": {"connect_timeout": "1h"},
    }
    sidecar = await start(config)
    client = await sidecar.client()
    own_sockets = sidecar.sidecar._runtime.own_sockets
    async with asyncio.timeout(PATIENCE):
        while not own_sockets:
            await asyncio.sleep(0.005)
        await client.close()
        while own_sockets:
            await asyncio.sleep(0.005)
    await sidecar.left()
    assert sidecar.no_span()


async def test_a_client_that_was_silent_and_speaks_http_is_served_by_it(
    start: Start, app: App
) -> None:
    sidecar = await start({"outbound": [{"upstream": f"127.0.0.1:{app.port}"}]})
    client = await sidecar.client()
    upstream = await app.accept()
    await client.send(GET)
    await upstream.head()
    await upstream.send(OK)
    assert (await client.answer())[2] == b"ok"
    assert app.accepted == 1


async def test_it_may_be_gone_when_the_request_comes(start: Start, app: App) -> None:
    sidecar = await start({"outbound": [{"upstream": f"127.0.0.1:{app.port}"}]})
    first, second = await sidecar.client(), await sidecar.client()
    upstreams = [await app.accept(), await app.accept()]
    await first.send(GET)
    for upstream in upstreams:
        await upstream.close()
    another = await app.accept()
    await another.head()
    await another.send(OK)
    assert (await first.answer())[0] == 200
    await second.close()
