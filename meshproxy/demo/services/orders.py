"""Orders: an event loop, calls at the same time, and messages for those who ship."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
from aiohttp import web
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaConnectionError

from meshproxy.demo.services.aio import run
from meshproxy.demo.services.common import TOPIC, bootstrap, neighbour

RETRY_AFTER = 0.02
CHARGE_ATTEMPTS = 3
CALL_TIMEOUT = aiohttp.ClientTimeout(total=10)
RECONNECT = 0.1


class Orders:
    """Asks stock and price at the same time; an order is then charged, with retries, and shipped.

    What is to be shipped is announced to whoever ships, in a message.
    """

    def __init__(self, session: aiohttp.ClientSession, producer: AIOKafkaProducer) -> None:
        self._session = session
        self._producer = producer

    async def quote(self, request: web.Request) -> web.Response:
        """``GET /quotes/N``: stock and price."""
        number = request.match_info["number"]
        statuses = await self._stock_and_price(number)
        return web.json_response({"quote": number}, status=max(statuses))

    async def order(self, request: web.Request) -> web.Response:
        """``POST /orders/N``: stock and price, then the charge and the message."""
        number = request.match_info["number"]
        statuses = await self._stock_and_price(number)
        charged = await self._charge(number)
        await self._ship(number)
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

    async def _ship(self, number: str) -> None:
        message = json.dumps({"order": number}).encode()
        await self._producer.send_and_wait(TOPIC, message, key=number.encode())

    async def _call(self, method: str, url: str) -> int:
        async with self._session.request(method, url) as response:
            await response.read()
            return response.status


@asynccontextmanager
async def producing() -> AsyncIterator[AIOKafkaProducer]:
    """A producer, as soon as the broker answers."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap())
    try:
        while True:
            try:
                await producer.start()
                break
            except KafkaConnectionError:
                await asyncio.sleep(RECONNECT)
        yield producer
    finally:
        await producer.stop()


async def _run(name: str, port: int) -> None:
    async with aiohttp.ClientSession(timeout=CALL_TIMEOUT) as session, producing() as producer:
        orders = Orders(session, producer)
        routes = [
            web.get("/quotes/{number}", orders.quote),
            web.post("/orders/{number}", orders.order),
        ]
        await run(name, port, routes)


def serve(name: str, port: int) -> None:
    """Serve ``name`` on the loopback ``port`` until the process is killed."""
    asyncio.run(_run(name, port))
