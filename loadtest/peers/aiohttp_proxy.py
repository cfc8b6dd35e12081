"""A reverse proxy as one writes it with aiohttp: ``aiohttp_proxy PORT UPSTREAM_PORT``."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import AsyncIterator

import aiohttp
import uvloop
from aiohttp import web
from multidict import CIMultiDict, CIMultiDictProxy

HOP_BY_HOP = ("Connection", "Keep-Alive", "Proxy-Connection", "TE", "Transfer-Encoding", "Upgrade")
SESSION: web.AppKey[aiohttp.ClientSession] = web.AppKey("session", aiohttp.ClientSession)


def end_to_end(headers: CIMultiDictProxy[str]) -> CIMultiDict[str]:
    """The header fields that are meant for more than the next hop."""
    kept = CIMultiDict(headers)
    for name in HOP_BY_HOP:
        kept.popall(name, None)
    return kept


def proxy_to(upstream: str) -> web.Application:
    """An application that passes every request on to an origin such as ``http://host:port``."""

    async def handle(request: web.Request) -> web.StreamResponse:
        body = request.content if request.can_read_body else None
        async with request.app[SESSION].request(
            request.method,
            upstream + request.raw_path,
            headers=end_to_end(request.headers),
            data=body,
            allow_redirects=False,
        ) as answer:
            response = web.StreamResponse(status=answer.status, headers=end_to_end(answer.headers))
            await response.prepare(request)
            async for chunk in answer.content.iter_any():
                await response.write(chunk)
            await response.write_eof()
            return response

    async def session(app: web.Application) -> AsyncIterator[None]:
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as client:
            app[SESSION] = client
            yield

    app = web.Application()
    app.cleanup_ctx.append(session)
    app.router.add_route("*", "/{path:.*}", handle)
    return app


async def main(port: int, upstream_port: int) -> None:
    """Serve until the process is ended."""
    runner = web.AppRunner(proxy_to(f"http://127.0.0.1:{upstream_port}"), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=1024).start()
    gc.freeze()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), int(sys.argv[2])))
