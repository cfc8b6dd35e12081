"""Raw TCP peers: the tests say which bytes go and which must come, in order.

``await app.expect(b"...")`` reads exactly that many bytes and compares; nothing is parsed. All
waits are bounded by `PATIENCE`.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from typing import Self

PATIENCE = 5.0
"""Seconds after which a test that waits has failed."""

WINDOW = 16384
"""Socket buffers of a peer that reads slowly, so that little hides in the kernel."""


class Peer:
    """One end of a TCP connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def connect(
        cls,
        port: int,
        *,
        host: str = "127.0.0.1",
        tls: ssl.SSLContext | None = None,
        name: str | None = None,
        slow: bool = False,
    ) -> Self:
        """Open a connection; ``slow`` keeps the kernel from reading much ahead of us."""
        sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        sock.setblocking(False)
        if slow:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, WINDOW)
        async with asyncio.timeout(PATIENCE):
            await asyncio.get_running_loop().sock_connect(sock, (host, port))
            limit = WINDOW if slow else 2**16
            streams = await asyncio.open_connection(
                sock=sock, ssl=tls, server_hostname=name if tls else None, limit=limit
            )
        return cls(*streams)

    @property
    def port(self) -> int:
        """Our own port."""
        return int(self._writer.get_extra_info("sockname")[1])

    @property
    def peer_port(self) -> int:
        """The port at the other end."""
        return int(self._writer.get_extra_info("peername")[1])

    # Sending

    async def send(self, data: bytes) -> None:
        """Send, and wait until the kernel has most of it."""
        self._writer.write(data)
        async with asyncio.timeout(PATIENCE):
            await self._writer.drain()

    async def flood(self, most: int, piece: bytes = bytes(65536), stall: float = 0.3) -> int:
        """Send until nobody takes more, or ``most`` bytes; returns how many were written.

        That nothing moves for ``stall`` seconds is what "nobody takes more" means.
        """
        sent = 0
        try:
            while sent < most:
                self._writer.write(piece)
                sent += len(piece)
                async with asyncio.timeout(stall):
                    await self._writer.drain()
        except TimeoutError:
            pass
        return sent

    def half_close(self) -> None:
        """Send no more."""
        self._writer.write_eof()

    # Receiving

    async def read(self, count: int) -> bytes:
        """Exactly ``count`` bytes."""
        async with asyncio.timeout(PATIENCE):
            return await self._reader.readexactly(count)

    async def expect(self, data: bytes) -> None:
        """The next bytes are these."""
        try:
            async with asyncio.timeout(PATIENCE):
                got = await self._reader.readexactly(len(data))
        except asyncio.IncompleteReadError as error:
            got = error.partial
        except TimeoutError:
            got = bytes(self._reader._buffer)  # type: ignore[attr-defined]
        assert got == data

    async def until(self, mark: bytes) -> bytes:
        """All bytes up to ``mark``, with it."""
        async with asyncio.timeout(PATIENCE):
            return await self._reader.readuntil(mark)

    async def head(self) -> bytes:
        """A message's head, with its empty line."""
        return await self.until(b"\r\n\r\n")

    async def answer(self) -> tuple[int, bytes, bytes]:
        """A whole response with a Content-Length: status, head, body."""
        head = await self.head()
        length = 0
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                length = int(line.partition(b":")[2])
        status = int(head[9:12])
        bodiless = status < 200 or status in (204, 304)
        return status, head, b"" if bodiless else await self.read(length)

    async def rest(self) -> bytes:
        """Everything until the other side ends; a reset ends it, too."""
        parts = []
        async with asyncio.timeout(PATIENCE):
            try:
                while part := await self._reader.read(65536):
                    parts.append(part)
            except ConnectionError:
                pass
        return b"".join(parts)

    async def ended(self) -> bool:
        """Wait for the end of the other side: True for a clean one, False for a reset.

        Bytes before it fail the test.
        """
        async with asyncio.timeout(PATIENCE):
            try:
                got = await self._reader.read(65536)
            except ConnectionError:
                return False
        assert got == b""
        return True

    # Ending

    def reset(self) -> None:
        """End with RST."""
        transport = self._writer.transport
        if not transport.is_closing():
            sock = transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()

    async def close(self) -> None:
        """Close both ways; what is unsent when the other side is gone is lost."""
        self._writer.close()
        try:
            async with asyncio.timeout(PATIENCE):
                await self._writer.wait_closed()
        except (ConnectionError, ssl.SSLError, TimeoutError):
            self._writer.transport.abort()


class App:
    """A listening socket whose connections the test takes one by one.

    ``on_connect`` serves every connection in place of the test, when given.
    """

    def __init__(self, on_connect: Callable[[Peer], Awaitable[None]] | None = None) -> None:
        self._on_connect = on_connect
        self._waiting: asyncio.Queue[Peer] = asyncio.Queue()
        self._server: asyncio.Server | None = None
        self._peers: list[Peer] = []
        self.port = 0
        self.accepted = 0

    async def start(
        self, port: int = 0, *, tls: ssl.SSLContext | None = None, slow: bool = False
    ) -> Self:
        """Listen; on a free port unless one is given."""
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if slow:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, WINDOW)
        sock.bind(("127.0.0.1", port))
        self.port = sock.getsockname()[1]
        limit = WINDOW if slow else 2**16
        self._server = await asyncio.start_server(self._connected, sock=sock, ssl=tls, limit=limit)
        return self

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(reader, writer)
        self._peers.append(peer)
        self.accepted += 1
        if self._on_connect is None:
            self._waiting.put_nowait(peer)
        else:
            await self._on_connect(peer)

    async def accept(self) -> Peer:
        """The next connection that came."""
        async with asyncio.timeout(PATIENCE):
            return await self._waiting.get()

    async def stop(self) -> None:
        """Close everything, so that connections are refused."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for peer in self._peers:
            await peer.close()
        self._peers.clear()
