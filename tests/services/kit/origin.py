"""A service to put proxies in front of: it tells what it got, and passes on no trace header."""

from __future__ import annotations

import gzip
import hashlib
import random
from typing import Self

import aiohttp
from aiohttp import web
from multidict import CIMultiDict

BLOCK = random.Random(1).randbytes(65536)
"""A body is this over and over: incompressible, and different from one byte to the next."""

TEXT = b"".join(b"line %d of a text that compresses well\n" % n for n in range(2000))
PACKED = gzip.compress(TEXT, mtime=0)


def body_of(size: int) -> bytes:
    """A body of ``size`` bytes."""
    return (BLOCK * (size // len(BLOCK) + 1))[:size]


def digest(body: bytes) -> str:
    """What two bodies are compared by."""
    return hashlib.sha256(body).hexdigest()


class Origin:
    """Serves while it is started. ``seen`` are the header fields of all requests, in order."""

    def __init__(self) -> None:
        self.seen: list[CIMultiDict[str]] = []
        self.port = 0
        app = web.Application(client_max_size=2**30, middlewares=[self._remember])
        app.router.add_route("*", "/headers", self._headers)
        app.router.add_route("*", "/upload", self._upload)
        app.router.add_get("/download", self._download)
        app.router.add_get("/packed", self._packed)
        app.router.add_get("/number/{number}", self._number)
        app.router.add_get("/call", self._call)
        app.router.add_get("/socket", self._socket)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        self._session: aiohttp.ClientSession

    async def start(self) -> Self:
        """Listen on a free port."""
        self._session = aiohttp.ClientSession(auto_decompress=False)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def stop(self) -> None:
        """Close everything."""
        await self._session.close()
        await self._runner.cleanup()

    @web.middleware
    async def _remember(self, request: web.Request, handler: web.Handler) -> web.StreamResponse:
        self.seen.append(CIMultiDict(request.headers))
        return await handler(request)

    async def _headers(self, request: web.Request) -> web.Response:
        await request.read()
        return web.json_response([list(pair) for pair in request.headers.items()])

    async def _upload(self, request: web.Request) -> web.Response:
        got, length = hashlib.sha256(), 0
        async for chunk in request.content.iter_any():
            got.update(chunk)
            length += len(chunk)
        return web.json_response({"length": length, "sha256": got.hexdigest()})

    async def _download(self, request: web.Request) -> web.StreamResponse:
        """``bytes`` of them; chunked, or with ``length`` announced."""
        left = int(request.query["bytes"])
        response = web.StreamResponse()
        if "length" in request.query:
            response.content_length = left
        await response.prepare(request)
        while left > 0:
            await response.write(BLOCK[:left])
            left -= len(BLOCK)
        await response.write_eof()
        return response

    async def _packed(self, _: web.Request) -> web.Response:
        return web.Response(body=PACKED, headers={"Content-Encoding": "gzip"})

    async def _number(self, request: web.Request) -> web.Response:
        return web.Response(text=request.match_info["number"])

    async def _call(self, request: web.Request) -> web.Response:
        """Call ``url`` as a service does that knows nothing of tracing."""
        async with self._session.get(request.query["url"]) as answer:
            return web.Response(status=answer.status, body=await answer.read())

    async def _socket(self, request: web.Request) -> web.WebSocketResponse:
        """Echo."""
        socket = web.WebSocketResponse(max_msg_size=2**26)
        await socket.prepare(request)
        async for message in socket:
            if message.type is aiohttp.WSMsgType.TEXT:
                await socket.send_str(message.data)
            elif message.type is aiohttp.WSMsgType.BINARY:
                await socket.send_bytes(message.data)
        return socket
