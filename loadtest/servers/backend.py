"""The service behind the proxies where nginx is missing: ``backend PORT``."""

from __future__ import annotations

import asyncio
import sys
from typing import cast

from loadtest.servers.listening import serve
from loadtest.servers.nginx_backend import BODY, LARGE_BYTES, LARGE_PATH


def _response(body: bytes) -> bytes:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


SMALL = _response(BODY)
LARGE = _response(bytes(LARGE_BYTES))
LARGE_START = f"GET {LARGE_PATH} ".encode()


class Backend(asyncio.Protocol):
    """Answers GET requests; knows no more of HTTP than where a head ends."""

    __slots__ = ("_transport", "_waiting")

    def __init__(self) -> None:
        self._waiting = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        *heads, self._waiting = (self._waiting + data).split(b"\r\n\r\n")
        self._transport.write(
            b"".join([LARGE if head.startswith(LARGE_START) else SMALL for head in heads])
        )


if __name__ == "__main__":
    serve(Backend, int(sys.argv[1]))
