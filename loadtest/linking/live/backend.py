"""All that the services call: ``python -m loadtest.linking.live.backend PORT``.

The first segment of the path is the destination; each has its own typical time. An answer has an
id of its own that a service may go on to use. Nothing of a request is repeated in its answer.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import sys
from typing import cast

from loadtest.linking.live.services.behaviour import lognormal
from loadtest.servers.listening import serve

MEDIAN_SECONDS = {
    b"stock": 0.015,
    b"pricing": 0.025,
    b"users": 0.010,
    b"payment": 0.030,
    b"audit": 0.015,
    b"flags": 0.005,
}
LONGEST_SECONDS = 0.25
FAILING = b"payment"
FAILURES = 0.3
FAILURE = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n"
    b"Content-Length: 2\r\n\r\n{}"
)

BLANK = b"\r\n\r\n"
LENGTH = b"content-length:"


def answer(destination: bytes, rng: random.Random) -> bytes:
    """A whole response; that of a destination that fails may be a 503."""
    if destination == FAILING and rng.random() < FAILURES:
        return FAILURE
    body = b'{"id": "%b", "ok": true}' % secrets.token_hex(8).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
        len(body),
        body,
    )


class Backend(asyncio.Protocol):
    """Answers one request at a time on each connection, after a while."""

    def __init__(self) -> None:
        self._received = b""
        self._random = random.Random()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, blank, body = self._received.partition(BLANK)
        if not blank:
            return
        length = head.lower().partition(LENGTH)[2].partition(b"\r\n")[0]
        if length and len(body) < int(length):
            return
        self._received = b""
        destination = head.split(b" ", 2)[1].split(b"/")[1].partition(b"?")[0]
        seconds = min(lognormal(self._random, MEDIAN_SECONDS[destination]), LONGEST_SECONDS)
        sent = answer(destination, self._random)
        asyncio.get_running_loop().call_later(seconds, self._transport.write, sent)


if __name__ == "__main__":
    serve(Backend, int(sys.argv[1]))
