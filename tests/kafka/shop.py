"""Two services behind sidecars that lose trace context: orders → topic → shipping → carrier.

An order comes over HTTP and becomes a message; for each message shipping calls the carrier. Each
order has an id, which the request, the message and the call have in their bodies, and comes with a
trace of its own: so it can be judged into which trace what is done for it was put.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Awaitable, Callable
from typing import Any

import aiokafka
from aiohttp import ClientSession, web

from tests.kafka.bed import Start, exporting, route
from tests.kafka.clients import POLL_MS
from tests.kafka.mock_cluster import PARTITIONS, MockCluster
from tests.support.otlp import Collector
from tests.support.raw import PATIENCE

PARENT = "00f067aa0ba902b7"


class Order:
    """``message`` and ``call`` are the traceparents that arrived for it.

    The messages of a crowd are spread over all partitions: of many in one, a sidecar follows none.
    """

    def __init__(self, number: int, chance: random.Random) -> None:
        self.partition = number % PARTITIONS
        digits = f"{chance.getrandbits(128):032x}"
        self.id = "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
        self.trace = f"{chance.getrandbits(128):032x}"
        self.message = ""
        self.call = ""


class Shop:
    def __init__(self, cluster: MockCluster, collector: Collector, topic: str) -> None:
        self._cluster = cluster
        self._collector = collector
        self._topic = topic
        self._runners: list[web.AppRunner] = []
        self._chance = random.Random(topic)
        self._barrier = asyncio.Barrier(1)
        self._carried = asyncio.Condition()
        self._session: ClientSession
        self._producer: aiokafka.AIOKafkaProducer
        self._shipping: asyncio.Task[None]
        self.orders: dict[str, Order] = {}

    async def open(self, start: Start, **kafka: Any) -> None:
        """``kafka`` are the settings of the first sidecar's listener for it."""
        self._session = ClientSession()
        common = {"export": exporting(self._collector), "linking": {"process": "off"}}
        orders = await self._serve(self._on_order)
        carrier = await self._serve(self._on_call)
        self._orders = await start(
            common
            | {
                "service": {"name": "orders"},
                "inbound": [{"upstream": f"127.0.0.1:{orders}"}],
                "outbound": [route(self._cluster, **kafka)],
            }
        )
        self._behind = await start(
            common
            | {
                "service": {"name": "shipping"},
                "outbound": [
                    route(self._cluster, consumer_spans=True),
                    {"upstream": f"127.0.0.1:{carrier}", "peer": "carrier"},
                ],
            }
        )
        self._producer = aiokafka.AIOKafkaProducer(bootstrap_servers=self._orders.address)
        await self._producer.start()
        self._shipping = asyncio.create_task(self._ship())

    async def close(self) -> None:
        self._shipping.cancel()
        await asyncio.gather(self._shipping, return_exceptions=True)
        await self._producer.stop()
        await self._session.close()
        for runner in self._runners:
            await runner.cleanup()

    async def _serve(self, handle: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> int:
        app = web.Application()
        app.router.add_post("/{tail:.*}", handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        self._runners.append(runner)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return int(runner.addresses[0][1])

    # Customers

    async def order(self, count: int = 1) -> list[Order]:
        """So many orders, all in flight at a time; returns when all have come to the carrier."""
        orders = [Order(number, self._chance) for number in range(count)]
        self.orders.update((each.id, each) for each in orders)
        self._barrier = asyncio.Barrier(count)
        await asyncio.gather(*(self._ask(each) for each in orders))
        async with asyncio.timeout(PATIENCE), self._carried:
            await self._carried.wait_for(lambda: all(each.call for each in orders))
        return orders

    async def _ask(self, order: Order) -> None:
        url = f"http://127.0.0.1:{self._orders.inbound[0]}/orders"
        headers = {"traceparent": f"00-{order.trace}-{PARENT}-01"}
        async with self._session.post(url, json={"order": order.id}, headers=headers) as response:
            assert response.status == 200

    # The services

    async def _on_order(self, request: web.Request) -> web.Response:
        body = await request.json()
        async with self._barrier:  # nobody goes on before all orders are here
            pass
        value = json.dumps({"order": body["order"], "state": "placed"}).encode()
        partition = self.orders[body["order"]].partition
        await self._producer.send_and_wait(self._topic, value, partition=partition)
        return web.Response()

    async def _ship(self) -> None:
        async with aiokafka.AIOKafkaConsumer(
            bootstrap_servers=self._behind.address,
            group_id=self._topic.replace("topic", "group"),
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            fetch_max_wait_ms=POLL_MS,
        ) as consumer:
            consumer.assign(
                [aiokafka.TopicPartition(self._topic, each) for each in range(PARTITIONS)]
            )
            while True:
                found = await consumer.getmany(timeout_ms=PATIENCE * 1000)
                messages = [message for some in found.values() for message in some]
                self._chance.shuffle(messages)
                await asyncio.gather(*(self._call(message) for message in messages))
                if messages:
                    await consumer.commit()

    async def _call(self, message: Any) -> None:
        order = json.loads(message.value)["order"]
        self.orders[order].message = dict(message.headers)["traceparent"].decode()
        url = f"http://127.0.0.1:{self._behind.outbound[1]}/shipments"
        async with self._session.post(url, json={"order": order, "to": "door"}) as response:
            assert response.status == 200

    async def _on_call(self, request: web.Request) -> web.Response:
        order = self.orders[(await request.json())["order"]]
        async with self._carried:
            order.call = request.headers["traceparent"]
            self._carried.notify_all()
        return web.Response()
