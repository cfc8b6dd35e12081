"""Gives and takes bodies of any size in constant memory: ``bulk PORT``.

``GET /down/N`` is answered with N bytes, a POST with the number of body bytes that came.
"""

from __future__ import annotations

import asyncio
import sys
from typing import cast

import httptools

from loadtest.servers.listening import serve
from loadtest.servers.nginx_backend import BODY

BLOCK = bytes(256 * 1024)
DOWN = b"/down/"


class Bulk(asyncio.Protocol):
    """One connection, one request at a time."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._parser = httptools.HttpRequestParser(self)
        self._to_send = 0
        self._paused = False
        self._start()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_headers_complete(self) -> None:
        self._upload = self._parser.get_method() == b"POST"

    def on_body(self, body: bytes) -> None:
        self._received += len(body)

    def on_message_complete(self) -> None:
        if self._url.startswith(DOWN):
            self._to_send = int(self._url.removeprefix(DOWN))
            self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % self._to_send)
            self._send()
        else:
            body = b"%d" % self._received if self._upload else BODY
            head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
            self._transport.write(head + body)
        self._start()

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._send()

    def _send(self) -> None:
        while self._to_send and not self._paused and not self._transport.is_closing():
            block = BLOCK[: self._to_send]
            self._to_send -= len(block)
            self._transport.write(block)

    def _start(self) -> None:
        self._url = b""
        self._upload = False
        self._received = 0


if __name__ == "__main__":
    serve(Bulk, int(sys.argv[1]))
