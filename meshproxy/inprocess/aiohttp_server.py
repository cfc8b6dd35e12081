"""The context of inbound requests for aiohttp's server. Apart, since it imports aiohttp."""

from __future__ import annotations

from aiohttp import web
from aiohttp.typedefs import Handler

from meshproxy.inprocess.requests import request_context


@web.middleware
async def trace_context(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Middleware: ``web.Application(middlewares=[trace_context])``."""
    with request_context(request.headers.items()):
        return await handler(request)
