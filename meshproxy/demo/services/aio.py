"""Services in the newer style: one thread, an event loop, calls at the same time."""

from __future__ import annotations

import asyncio
import time

import aiohttp
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from meshproxy.demo.services.common import announce, neighbour, record_access

PRICE_RULES = 0.25
RETRY_AFTER = 0.02
CHARGE_ATTEMPTS = 3
CALL_TIMEOUT = aiohttp.ClientTimeout(total=10)


class Orders:
    """Asks stock and price at the same time; for an order, then charges with retries."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def quote(self, request: web.Request) -> web.Response:
        """``GET /quotes/N``: stock and price."""
        number = request.match_info["number"]
        statuses = await self._stock_and_price(number)
        return web.json_response({"quote": number}, status=max(statuses))

    async def order(self, request: web.Request) -> web.Response:
        """``POST /orders/N``: stock and price, then the charge."""
        number = request.match_info["number"]
        statuses = await self._stock_and_price(number)
        charged = await self._charge(number)
        return web.json_response({"order": number}, status=max(*statuses, charged))

    async def _stock_and_price(self, number: str) -> tuple[int, int]:
        return await asyncio.gather(
            self._call("GET", f"{neighbour('inventory')}/stock/{number}"),
            self._call("GET", f"{neighbour('pricing')}/prices/{number}"),
        )

    async def _charge(self, number: str) -> int:
        for attempt in range(CHARGE_ATTEMPTS):
            if attempt:
                await asyncio.sleep(RETRY_AFTER)
            status = await self._call("POST", f"{neighbour('payments')}/charges/{number}")
            if status != 503:
                break
        return status

    async def _call(self, method: str, url: str) -> int:
        async with self._session.request(method, url) as response:
            await response.read()
            return response.status


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


async def _run(name: str, port: int) -> None:
    app = web.Application(middlewares=[access_recorder(name)])
    async with aiohttp.ClientSession(timeout=CALL_TIMEOUT) as session:
        if name == "orders":
            orders = Orders(session)
            app.router.add_get("/quotes/{number}", orders.quote)
            app.router.add_post("/orders/{number}", orders.order)
        elif name == "pricing":
            app.router.add_get("/prices/{number}", price)
        else:
            app.router.add_get("/coupons/{number}", coupon)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        announce(name)
        await asyncio.Event().wait()


def serve(name: str, port: int) -> None:
    """Serve ``name`` on the loopback ``port`` until the process is killed."""
    asyncio.run(_run(name, port))
