"""Services in the newer style: one thread and an event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from meshproxy.demo.services.common import announce, record_access

PRICE_RULES = 0.25


async def price(request: web.Request) -> web.Response:
    """``GET /prices/N``: slow, as price rules are."""
    await asyncio.sleep(PRICE_RULES)
    return web.json_response({"order": request.match_info["number"], "price": 42})


async def coupon(request: web.Request) -> web.Response:
    """``GET /coupons/N``: broken."""
    return web.json_response({"error": "no such campaign"}, status=500)


def access_recorder(name: str) -> Middleware:
    """A middleware that writes the access record of each request."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        started = time.time()
        response = await handler(request)
        headers = {key.lower(): value for key, value in request.headers.items()}
        record_access(name, request.method, request.path, response.status, started, headers)
        return response

    return middleware


async def run(name: str, port: int, routes: Iterable[web.RouteDef]) -> None:
    """Serve ``routes`` on the loopback ``port`` for ever."""
    app = web.Application(middlewares=[access_recorder(name)])
    app.add_routes(routes)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    announce(name)
    await asyncio.Event().wait()


def serve(name: str, port: int) -> None:
    """Serve ``name`` on the loopback ``port`` until the process is killed."""
    routes = {
        "pricing": web.get("/prices/{number}", price),
        "coupons": web.get("/coupons/{number}", coupon),
    }
    asyncio.run(run(name, port, [routes[name]]))
