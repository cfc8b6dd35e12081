"""Copies bytes both ways, without reading them: ``splice PORT UPSTREAM_PORT``.

The least that a proxy in Python can cost on this machine.
"""

from __future__ import annotations

import asyncio
import sys
from typing import cast

from loadtest.servers.listening import serve


class End(asyncio.Protocol):
    """One end of a connection pair: what it receives, the other end sends."""

    __slots__ = ("other", "transport")

    transport: asyncio.Transport
    other: End

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.other.transport.write(data)

    def pause_writing(self) -> None:
        self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        self.other.transport.resume_reading()

    def connection_lost(self, _error: Exception | None) -> None:
        if hasattr(self, "other"):
            self.other.transport.close()


class Accepted(End):
    """The client's end; what it receives before the upstream's end is there waits."""

    __slots__ = ("_early", "_opening", "_upstream_port")

    def __init__(self, upstream_port: int) -> None:
        self._upstream_port = upstream_port
        self._early = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._opening = asyncio.ensure_future(self._open())

    async def _open(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            _, upstream = await loop.create_connection(End, "127.0.0.1", self._upstream_port)
        except OSError:
            self.transport.close()
            return
        upstream.other = self
        upstream.transport.write(self._early)
        self.other = upstream

    def data_received(self, data: bytes) -> None:
        if hasattr(self, "other"):
            self.other.transport.write(data)
        else:
            self._early += data


if __name__ == "__main__":
    upstream_port = int(sys.argv[2])
    serve(lambda: Accepted(upstream_port), int(sys.argv[1]))
