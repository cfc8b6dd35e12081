"""aiohttp on both sides: ``opentelemetry-instrument python tasks.py PORT``."""

from __future__ import annotations

import sys

import aiohttp
from aiohttp import web


async def call(request: web.Request) -> web.Response:
    async with aiohttp.ClientSession() as session, session.get(request.query["url"]) as answer:
        return web.Response(status=answer.status, text=await answer.text())


app = web.Application()
app.router.add_get("/call", call)
web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None)
