"""Many connections at little cost: a client and a server without streams, and a process watched."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Self, TypeVar, cast

import psutil

from tests.support.process import SidecarProcess

T = TypeVar("T")

END = b"\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"
GET = b"GET /work HTTP/1.1\r\nHost: app.example\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 200\r\n\r\n" + b"o" * 200
"""Longer than `GET` by far. A full listening queue makes Linux send SYN cookies; then it takes a
connection's last segment, if it comes twice, for the begin of a new one should both sides have sent
about as many bytes (the cookie is compared with the difference): a client that does not exist."""
MEGABYTE = 2**20
LOOKED_AT = re.compile(r"/proc/\d+/(mem|task/\d+/syscall)\b")
LONG = 30.0
"""Seconds that something at scale may take before the test has failed."""


class Client(asyncio.Protocol):
    """One connection; a request at a time."""

    def __init__(self) -> None:
        self._received = bytearray()
        self._answer: asyncio.Future[int] | None = None
        self.lost = asyncio.get_running_loop().create_future()
        self.transport: asyncio.Transport

    @classmethod
    async def connect(cls, port: int) -> Self:
        """Open a connection."""
        loop = asyncio.get_running_loop()
        _, client = await loop.create_connection(cls, "127.0.0.1", port)
        return client

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = cast(asyncio.Transport, transport)

    async def ask(self, request: bytes = GET) -> int:
        """Send a request; returns the status of the answer, 0 if the connection ends instead."""
        self._received.clear()
        if self.lost.done():
            return 0
        self._answer = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return await self._answer

    def data_received(self, data: bytes) -> None:
        """Look whether the answer is whole."""
        self._received += data
        head, end, body = bytes(self._received).partition(END)
        if not end or self._answer is None or self._answer.done():
            return
        length = head.partition(b"Content-Length: ")[2].partition(b"\r")[0]
        if len(body) >= int(length) if length else body.endswith(LAST_CHUNK):
            self._answer.set_result(int(head[9:12]))

    def connection_lost(self, exc: BaseException | None) -> None:
        """The answer will not come."""
        self.lost.set_result(None)
        if self._answer is not None and not self._answer.done():
            head = bytes(self._received)
            self._answer.set_result(int(head[9:12]) if head.startswith(b"HTTP/1.1 ") else 0)


class Server:
    """Answers each request with `answer`; holds answers back while ``holding``."""

    def __init__(self) -> None:
        self.answer: Callable[[bytes], bytes | None] = lambda _: OK
        self.port = 0
        self.requests = 0
        self.holding: list[asyncio.Transport] | None = None
        self.changed = asyncio.Event()
        self._server: asyncio.Server

    async def start(self) -> Self:
        """Listen on a free port."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: _Serving(self), "127.0.0.1", 0, backlog=4096
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def stop(self) -> None:
        """Listen no more."""
        self._server.close()

    async def arrived(self, count: int) -> None:
        """Wait until so many requests are held."""
        async with asyncio.timeout(LONG):
            while len(self.holding or ()) < count:
                self.changed.clear()
                await self.changed.wait()

    def release(self) -> None:
        """Answer all that is held, and hold no more."""
        held, self.holding = self.holding or [], None
        for transport in held:
            transport.write(OK)


class _Serving(asyncio.Protocol):
    def __init__(self, server: Server) -> None:
        self._server = server
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        while END in self._received:
            head, _, rest = self._received.partition(END)
            end = _end_of_body(head, rest)
            if end < 0:
                return
            self._received = rest[end:]
            self._serve(head)

    def _serve(self, head: bytes) -> None:
        server = self._server
        server.requests += 1
        if server.holding is not None:
            server.holding.append(self._transport)
            server.changed.set()
            return
        answer = server.answer(head)
        if answer is None:
            self._transport.abort()
        else:
            self._transport.write(answer)


def _end_of_body(head: bytes, rest: bytes) -> int:
    """Where a request's body ends in ``rest``; -1 if it is not all there."""
    if b"Transfer-Encoding: chunked" in head:
        end = rest.find(LAST_CHUNK)
        return end + len(LAST_CHUNK) if end >= 0 else -1
    length = int(head.partition(b"Content-Length: ")[2].partition(b"\r")[0] or 0)
    return length if len(rest) >= length else -1


def total(metrics: str, name: str, label: str = "") -> float:
    """The sum of a metric over all its series that have ``label``."""
    return sum(
        float(line.rpartition(" ")[2])
        for line in metrics.splitlines()
        if line.startswith((name + "{", name + " ")) and label in line
    )


class Watched:
    """A sidecar's process, seen from outside."""

    def __init__(self, sidecar: SidecarProcess) -> None:
        self.pid = sidecar._process.pid
        self._process = psutil.Process(self.pid)

    @property
    def rss(self) -> float:
        """Resident memory, in megabytes."""
        return float(self._process.memory_info().rss) / MEGABYTE

    @property
    def files(self) -> int:
        """Open files, but for those of `looked_at`."""
        return sum(LOOKED_AT.match(link) is None for link in self._links())

    @property
    def looked_at(self) -> int:
        """Files of the service's threads and memory that are kept open, to look at them again."""
        return sum(LOOKED_AT.match(link) is not None for link in self._links())

    def _links(self) -> list[str]:
        found = []
        for each in Path(f"/proc/{self.pid}/fd").iterdir():
            with suppress(FileNotFoundError):  # closed meanwhile
                found.append(str(each.readlink()))
        return found

    @property
    def cpu(self) -> float:
        """Seconds of processor time that it has used."""
        times = self._process.cpu_times()
        return float(times.user + times.system)

    async def files_fall_to(self, most: int) -> None:
        """Wait until no more than ``most`` files are open."""
        try:
            async with asyncio.timeout(LONG):
                while self.files > most:
                    await asyncio.sleep(0.05)
        except TimeoutError:
            kinds = Counter(kind(link) for link in self._links())
            connections = Counter(each.status for each in self._process.net_connections("tcp"))
            raise AssertionError(f"more than {most} files: {kinds}; {connections}") from None


def kind(link: str) -> str:
    """What kind of file a link in /proc leads to: its name, without numbers."""
    return re.sub(r"\d+", "N", link)


async def all_of(work: Iterable[Awaitable[T]]) -> list[T]:
    """All results, within the patience for work at scale."""
    async with asyncio.timeout(LONG):
        return list(await asyncio.gather(*work))
