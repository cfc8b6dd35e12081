"""Nobody's slowness costs memory, and none of it outlasts its cause."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from tests.support.fixtures import Start, Through
from tests.support.inprocess import attributes
from tests.support.raw import App, Peer

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
PIECE = 2**20
LARGE = 64 * PIECE
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"
HELD = 24 * PIECE
"""More than all socket buffers on the way can hold; far below `LARGE`."""


async def test_a_slow_client_stops_the_upstream(outbound: Through, app: App) -> None:
    proxy = await outbound()
    client = await proxy.client(slow=True)
    await client.send(GET)
    upstream = await app.accept()
    await upstream.head()
    head = HEAD % LARGE
    await upstream.send(head)
    sent = await upstream.flood(LARGE, bytes(PIECE))
    assert sent < HELD
    await client.expect(head)
    feeding = asyncio.create_task(upstream.flood(LARGE - sent, bytes(PIECE), stall=5))
    for _ in range(LARGE // PIECE):
        await client.read(PIECE)
    assert sent + await feeding == LARGE


async def test_a_slow_upstream_stops_the_client(start: Start) -> None:
    app = await App().start(slow=True)
    proxy = await start({"outbound": [{"upstream": f"127.0.0.1:{app.port}", "trust": "edge"}]})
    client = await proxy.client()
    head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % LARGE
    await client.send(head)
    upstream = await app.accept()
    sent = await client.flood(LARGE, bytes(PIECE))
    assert sent < HELD
    await upstream.expect(head)
    feeding = asyncio.create_task(client.flood(LARGE - sent, bytes(PIECE), stall=5))
    for _ in range(LARGE // PIECE):
        await upstream.read(PIECE)
    assert sent + await feeding == LARGE
    await upstream.send(OK)
    await client.expect(OK)
    await app.stop()


async def test_a_connection_that_a_slow_client_held_up_serves_the_next_one(
    outbound: Through, app: App
) -> None:
    """An upstream connection is paused when its answer ends, and must not stay so."""
    proxy = await outbound(buffer_bytes=4096)
    slow = await proxy.client(slow=True)
    await slow.send(GET)
    upstream = await app.accept()
    await upstream.expect(GET)
    proxy.narrow()
    feeding = asyncio.create_task(upstream.send(HEAD % PIECE + bytes(PIECE)))
    while proxy.no_span():  # until the last byte has come to the sidecar, and no further
        await slow.read(1024)
    await feeding
    quick = await proxy.client()
    await quick.send(GET)
    await upstream.expect(GET)
    await upstream.send(OK)
    await quick.expect(OK)


async def test_a_client_that_pipelines_and_never_reads_is_not_answered_without_end(
    outbound: Through, app: App
) -> None:
    """Each answer is small enough to be whole before anybody notices that it is not taken."""
    count, answer = 1500, HEAD % 50_000 + bytes(50_000)
    proxy = await outbound()
    client = await proxy.client(slow=True)
    await client.send(count * GET)
    upstream = await app.accept()
    answered = 0
    with suppress(TimeoutError):
        while answered < count:
            async with asyncio.timeout(0.5):
                await upstream.head()
            await upstream.send(answer)
            answered += 1
    assert answered * len(answer) < HELD
    reading = asyncio.create_task(answers(client, count))
    for _ in range(count - answered):
        await upstream.expect(GET)
        await upstream.send(answer)
    await reading


async def answers(client: Peer, count: int) -> None:
    for _ in range(count):
        assert (await client.answer())[0] == 200


async def test_a_client_that_does_not_take_the_end_of_its_answer_is_cut(
    outbound: Through, app: App
) -> None:
    proxy = await outbound(stream_idle="200ms", buffer_bytes=2**24)
    client = await proxy.client(slow=True)
    await client.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    upstream = await app.accept()
    await upstream.head()
    await upstream.send(HEAD % (8 * PIECE) + bytes(8 * PIECE))
    assert "error.type" not in attributes(await proxy.span())
    await proxy.left()
