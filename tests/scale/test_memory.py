"""Memory stays bounded, whatever passes and whatever is sent in order to fill it."""

from __future__ import annotations

import asyncio
import itertools
import random
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.scale.load import LONG, MEGABYTE, Client, Server, Watched, all_of
from tests.support.fixtures import Spawn
from tests.support.process import SidecarProcess
from tests.support.raw import Peer

SIZE = 2**30
PIECE = memoryview(bytes(MEGABYTE))
STREAMING = 12.0
"""Megabytes that a body may take on its way, whatever its size."""


@contextmanager
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        sock.settimeout(LONG)
        yield sock


def head_of(sock: socket.socket) -> bytes:
    """Read a message's head, a byte at a time, so that nothing of the body is taken."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += sock.recv(1)
    return head


def give(sock: socket.socket) -> None:
    for _ in range(SIZE // len(PIECE)):
        sock.sendall(PIECE)


def take(sock: socket.socket) -> int:
    buffer = bytearray(MEGABYTE)
    total = 0
    while total < SIZE and (count := sock.recv_into(buffer)):
        total += count
    return total


def serve_up(sock: socket.socket) -> None:
    """An app that takes a body and says how much it got."""
    with sock.accept()[0] as connection:
        head_of(connection)
        body = str(take(connection)).encode()
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)


def serve_down(sock: socket.socket) -> None:
    """An app that gives a body."""
    with sock.accept()[0] as connection:
        head_of(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE)
        give(connection)


def send_up(port: int) -> int:
    with socket.create_connection(("127.0.0.1", port), LONG) as client:
        client.sendall(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % SIZE)
        give(client)
        head_of(client)
        return int(client.recv(100))


def send_down(port: int) -> int:
    with socket.create_connection(("127.0.0.1", port), LONG) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        head_of(client)
        return take(client)


@pytest.mark.parametrize(
    ("serve", "send"), [(serve_up, send_up), (serve_down, send_down)], ids=["up", "down"]
)
async def test_a_gigabyte_passes_in_constant_memory(
    spawn: Spawn, serve: Callable[[socket.socket], None], send: Callable[[int], int]
) -> None:
    with listening() as sock:
        upstream = f"127.0.0.1:{sock.getsockname()[1]}"
        sidecar = await spawn({"inbound": [{"upstream": upstream}]})
        watched = Watched(sidecar)
        before = watched.rss
        thread = threading.Thread(target=serve, args=(sock,))
        thread.start()
        passing = asyncio.ensure_future(asyncio.to_thread(send, sidecar.inbound[0]))
        most = before
        while not passing.done():
            most = max(most, watched.rss)
            await asyncio.wait([passing], timeout=0.05)
        assert await passing == SIZE
        await asyncio.to_thread(thread.join)
        assert most - before < STREAMING


# What is sent in order to fill it


def unique_paths(number: int) -> bytes:
    return b"GET /a%d/b%x/c%d HTTP/1.1\r\nHost: a\r\n\r\n" % (number, number, number)


def unique_words(number: int) -> bytes:
    word = "".join(random.choices("abcdefghijklmnopqrstuvwxyz", k=12)).encode()
    return b"GET /%b/%b HTTP/1.1\r\nHost: a\r\n\r\n" % (word, word[::-1])


def unique_hosts(number: int) -> bytes:
    return b"GET / HTTP/1.1\r\nHost: h%d.%b.example\r\n\r\n" % (number, b"x" * 200)


def unique_agents(number: int) -> bytes:
    return b"GET / HTTP/1.1\r\nHost: a\r\nUser-Agent: %d %b\r\n\r\n" % (number, b"x" * 4000)


def unique_lines(number: int) -> bytes:
    lines = (b"X-%d-%d: %b\r\n" % (number, each, b"y" * 200) for each in range(90))
    return b"GET / HTTP/1.1\r\nHost: a\r\n%b\r\n" % b"".join(lines)


def unique_methods(number: int) -> bytes:
    return b"M%d / HTTP/1.1\r\nHost: a\r\n\r\n" % number


def unique_ids(number: int) -> bytes:
    value = b"%d-%b" % (number, b"z" * 3000)
    lines = b"X-Request-Id: %b\r\nX-Correlation-Id: %b\r\nbaggage: k=%b\r\n" % ((value,) * 3)
    return b"GET / HTTP/1.1\r\nHost: a\r\n%b\r\n" % lines


FLOODS = [
    unique_paths,
    unique_words,
    unique_hosts,
    unique_agents,
    unique_lines,
    unique_methods,
    unique_ids,
]
ROUND = 2000
"""More than most of our memories hold; the lines of one flood fill their table many times over."""

HEAD = 65536

HOSTILE = 80.0
"""Megabytes that all of it together may add."""


async def flood(sidecar: SidecarProcess, numbers: Iterator[int]) -> None:
    """All floods one after the other, over some connections."""
    clients = await all_of([Client.connect(sidecar.inbound[0]) for _ in range(10)])

    async def send(client: Client, kind: Callable[[int], bytes], count: int) -> None:
        for _ in range(count):
            assert await client.ask(kind(next(numbers))) == 200

    for kind in FLOODS:
        count = ROUND // len(clients) // (10 if kind is unique_lines else 1)
        await all_of([send(client, kind, count) for client in clients])
    for client in clients:
        client.transport.close()


async def test_a_flood_of_unique_values_fills_no_memory(spawn: Spawn, server: Server) -> None:
    sidecar = await spawn(
        {
            "inbound": [{"upstream": f"127.0.0.1:{server.port}"}],
            "export": [{"type": "file", "path": "/dev/null"}],
        }
    )
    watched = Watched(sidecar)
    before = watched.rss
    numbers = itertools.count()
    rounds = []
    for _ in range(3):
        await flood(sidecar, numbers)
        rounds.append(watched.rss)
    print(f"{before:.0f} MB, then {rounds}")
    assert rounds[0] - before < HOSTILE
    assert rounds[2] < rounds[1] + 5
    assert (await sidecar.get("/spans"))[0] == 200
    metrics = (await sidecar.get("/metrics"))[1]
    assert len(metrics) < 3 * MEGABYTE


async def test_heads_that_never_end_are_bounded(spawn: Spawn, server: Server) -> None:
    limits = {"header_bytes": HEAD, "header_timeout": "60s"}
    sidecar = await spawn({"inbound": [{"upstream": f"127.0.0.1:{server.port}"}], "limits": limits})
    watched = Watched(sidecar)
    before = watched.rss
    clients = [await Peer.connect(sidecar.inbound[0]) for _ in range(200)]
    for client in clients:
        await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X-Line: y\r\n" * 5000)
    assert watched.rss - before < 3 * len(clients) * HEAD / MEGABYTE
    for client in clients:
        await client.send(b"X-Line: z\r\n" * 5000)
        assert (await client.rest()).startswith(b"HTTP/1.1 431 ")
        await client.close()
    assert server.requests == 0
