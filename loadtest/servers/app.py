"""A service that makes one call for every request it gets: ``app PORT CALL_PORT``.

It passes on no trace header, as a service without instrumentation does; an ``x-request-id`` that
came in goes out with the call, as logging middleware often does.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from typing import cast

from loadtest.servers.listening import serve

CALL = b"GET /api/prices/12345 HTTP/1.1\r\nHost: pricing\r\nAccept: application/json\r\n"
REQUEST_ID = b"\r\nx-request-id: "
LENGTH = b"content-length: "
FAILED = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n"


class Call(asyncio.Protocol):
    """A kept connection to the callee: one call at a time; its answer becomes the response."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._answer = b""
        self._caller: asyncio.Transport | None = None

    def send(self, request: bytes, caller: asyncio.Transport) -> None:
        self._caller = caller
        self._answer = b""
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._answer += data
        head, blank, body = self._answer.partition(b"\r\n\r\n")
        length = head.lower().partition(LENGTH)[2].partition(b"\r\n")[0]
        if blank and len(body) >= int(length):
            self._finish(self._answer)

    def connection_lost(self, _error: Exception | None) -> None:
        if self in IDLE:
            IDLE.remove(self)
        self._finish(FAILED)

    def _finish(self, answer: bytes) -> None:
        caller, self._caller = self._caller, None
        if caller is not None:
            caller.write(answer)
            if not self._transport.is_closing():
                IDLE.append(self)


IDLE: deque[Call] = deque()


class App(asyncio.Protocol):
    """The side that is called; requests have no body."""

    def __init__(self, call_port: int) -> None:
        self._call_port = call_port
        self._waiting = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._waiting += data
        if not self._waiting.endswith(b"\r\n\r\n"):
            return
        head, self._waiting = self._waiting, b""
        request_id = head.partition(REQUEST_ID)[2].partition(b"\r\n")[0]
        call = CALL + (b"x-request-id: " + request_id + b"\r\n\r\n" if request_id else b"\r\n")
        if IDLE:
            IDLE.pop().send(call, self._transport)
        else:
            # Only at the beginning: connections are kept.
            self._opening = asyncio.ensure_future(self._open(call))

    async def _open(self, call: bytes) -> None:
        loop = asyncio.get_running_loop()
        try:
            _, connection = await loop.create_connection(Call, "127.0.0.1", self._call_port)
        except OSError:
            self._transport.write(FAILED)
        else:
            connection.send(call, self._transport)


if __name__ == "__main__":
    call_port = int(sys.argv[2])
    serve(lambda: App(call_port), int(sys.argv[1]))
