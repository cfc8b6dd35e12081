"""Everything at once, for a while: memory, files and connections come back to where they were.

MESHPROXY_SOAK_SECONDS says for how long.
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
import struct
from collections import Counter
from collections.abc import Awaitable, Callable

from meshproxy.demo.processes import Ports
from meshproxy.sidecar.owners.threads import MOST_FILES
from tests.scale.load import GET, LONG, OK, Client, Server, Watched, total
from tests.support.fixtures import Spawn

SECONDS = float(os.environ.get("MESHPROXY_SOAK_SECONDS", "15"))
WORKERS = 40
GROWTH = 4.0
"""Megabytes that memory may grow after the warm-up; a leak of 100 bytes a request is more."""

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
ANSWERS = {
    b"/chunked": CHUNKED,
    b"/error": b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n",
    b"/broken": b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
    b"/abort": None,
    b"/short": b"HTTP/1.1 200 OK\r\nContent-Length: 2000\r\nConnection: close\r\n\r\nshort",
}


def answer(head: bytes) -> bytes | None:
    path = head.split(b" ", 2)[1] if head.count(b" ") > 1 else b"none: opaque bytes"
    return ANSWERS.get(path, OK)


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: app.example\r\n\r\n".encode()


class Soak:
    """The kinds of work; each returns the statuses that it has seen."""

    def __init__(self, inbound: int, proxy: int, server: int, nobody: int) -> None:
        self._inbound = inbound
        self._proxy = proxy
        self._server = server
        self._nobody = nobody
        self.statuses: Counter[int] = Counter()
        self.kinds: list[Callable[[], Awaitable[None]]] = [
            self.kept_alive,
            self.bodies,
            self.failures,
            self.refused,
            self.disconnected,
            self.reset,
            self.opaque,
            self.proxied,
        ]

    async def _ask(self, requests: list[bytes], port: int) -> None:
        client = await Client.connect(port)
        for request in requests:
            status = await client.ask(request)
            self.statuses[status] += 1
            if status == 400:  # that was the last one on this connection
                client.transport.close()
                client = await Client.connect(port)
        client.transport.close()

    async def kept_alive(self) -> None:
        numbers = range(random.randrange(1, 30))
        await self._ask([get(f"/items/{random.randrange(10**6)}") for _ in numbers], self._inbound)

    async def bodies(self) -> None:
        head = b"POST /items HTTP/1.1\r\nHost: app.example\r\n"
        size = random.randrange(50_000)
        requests = [
            get("/chunked"),
            head + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            head + b"Content-Length: %d\r\n\r\n" % size + bytes(size),
        ]
        await self._ask(requests, self._inbound)

    async def failures(self) -> None:
        await self._ask([get("/error"), get("/broken"), get("/abort")], self._inbound)

    async def refused(self) -> None:
        bad = [b"GET /\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nHost : a\r\n\r\n"]
        await self._ask(bad, self._inbound)

    async def disconnected(self) -> None:
        client = await Client.connect(self._inbound)
        client.transport.write(GET[: random.randrange(1, len(GET) + 1)])
        await asyncio.sleep(random.random() / 50)
        client.transport.close()

    async def reset(self) -> None:
        client = await Client.connect(self._inbound)
        client.transport.write(get(random.choice(["/", "/chunked", "/short"])))
        await asyncio.sleep(random.random() / 50)
        sock = client.transport.get_extra_info("socket")
        if not client.transport.is_closing():
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.transport.abort()

    async def opaque(self) -> None:
        client = await Client.connect(self._inbound)
        if random.random() < 0.5:
            client.transport.write(b"\x00\x01opaque\r\n\r\n")
        await asyncio.sleep(random.random() / 50)
        if not client.transport.is_closing():
            client.transport.write_eof()
            await asyncio.sleep(random.random() / 50)
        client.transport.abort()

    async def proxied(self) -> None:
        requests = [
            f"GET http://127.0.0.1:{port}/ HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()
            for port in (self._server, self._nobody)
        ]
        await self._ask(requests, self._proxy)


async def test_soak(spawn: Spawn, server: Server, ports: Ports) -> None:
    server.answer = answer
    sidecar = await spawn(
        {
            "inbound": [{"upstream": f"127.0.0.1:{server.port}"}],
            "outbound": [{"mode": "forward-proxy"}],
            "export": [{"type": "file", "path": "/dev/null", "queue": {"interval": "100ms"}}],
            "limits": {"pool_idle": "300ms"},
        }
    )
    watched = Watched(sidecar)
    files = watched.files
    soak = Soak(sidecar.inbound[0], sidecar.outbound[0], server.port, ports.take())
    loop = asyncio.get_running_loop()
    end = loop.time() + SECONDS
    thirds: list[list[float]] = [[], [], []]

    async def work() -> None:
        while loop.time() < end:
            await random.choice(soak.kinds)()

    async def watch() -> None:
        while (left := end - loop.time()) > 0:
            thirds[min(2, int(3 * (1 - left / SECONDS)))].append(watched.rss)
            await asyncio.sleep(0.1)

    async with asyncio.timeout(SECONDS + LONG):
        await asyncio.gather(watch(), *(work() for _ in range(WORKERS)))
    peaks = [max(third) for third in thirds]
    print(f"{soak.statuses.total()} requests {dict(soak.statuses)}; peaks {peaks} MB")
    assert peaks[2] < peaks[1] + GROWTH
    assert set(soak.statuses) == {200, 400, 500, 502}
    await watched.files_fall_to(files + 3)
    assert watched.looked_at <= MOST_FILES
    metrics = (await sidecar.get("/metrics"))[1]
    assert total(metrics, "meshproxy_connections_accepted_total") > 0
    assert total(metrics, "meshproxy_connections") == 0
    assert total(metrics, "meshproxy_requests_in_flight") == 0
    assert sidecar.errors == []
    assert [record for record in sidecar.records if record["level"] == "error"] == []
