"""The services are what they claim to be: plain, and without any trace context of their own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web
from confluent_kafka import Consumer, Message, Producer, TopicPartition

from meshproxy.demo.mesh import CALLS, CONSUMER
from meshproxy.demo.processes import Child, Ports, stop_all
from meshproxy.demo.services.common import TOPIC

TRACE_HEADERS = {
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "tracestate": "vendor=1",
    "baggage": "user=7",
    "b3": "0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1",
    "X-B3-TraceId": "0af7651916cd43dd8448eb211c80319c",
    "uber-trace-id": "0af7651916cd43dd:b7ad6b7169203331:0:1",
    "sw8": "1-a-b-1-c-d-e-f",
}
PATHS = {"gateway": "/checkout/5?coupon=A", "orders": "/orders/5", "payments": "/charges/5"}


class Neighbours:
    """Answers every call and keeps its headers."""

    def __init__(self) -> None:
        self.calls: list[web.Request] = []

    async def answer(self, request: web.Request) -> web.Response:
        self.calls.append(request)
        return web.json_response({})


@pytest.fixture
async def broker() -> AsyncIterator[str]:
    """The address of the demo's broker."""
    lines: asyncio.Queue[str] = asyncio.Queue()
    arguments = ["-m", "meshproxy.demo.broker", TOPIC]
    child = await Child.start("the broker", arguments, {}, lines.put_nowait)
    try:
        told = json.loads(await asyncio.wait_for(lines.get(), 20))
        assert told["event"] == "broker"
        yield told["address"]
    finally:
        await stop_all([child])


def sent_to(broker: str) -> Message:
    """The first message that is there."""
    consumer = Consumer({"bootstrap.servers": broker, "group.id": "test"})
    topic = consumer.list_topics(TOPIC, timeout=20).topics[TOPIC]
    consumer.assign([TopicPartition(TOPIC, partition, 0) for partition in topic.partitions])
    found = consumer.poll(20)
    consumer.close()
    assert found is not None
    return found


@asynccontextmanager
async def running(
    name: str,
    broker: str,
) -> AsyncIterator[tuple[str, Neighbours, asyncio.Queue[dict[str, object]]]]:
    neighbours, ports = Neighbours(), Ports()
    port, neighbour_port = ports.take(), ports.take()
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", neighbours.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", neighbour_port).start()
    addresses = {
        f"{peer.upper()}_URL": f"http://127.0.0.1:{neighbour_port}" for peer in CALLS[name]
    }
    addresses["KAFKA_BOOTSTRAP"] = broker
    lines: asyncio.Queue[dict[str, object]] = asyncio.Queue()
    keep: Callable[[str], None] = lambda line: lines.put_nowait(json.loads(line))  # noqa: E731
    child = await Child.start(
        name, ["-m", "meshproxy.demo.services", name, str(port)], addresses, keep
    )
    try:
        assert await asyncio.wait_for(lines.get(), 20) == {"event": "listening", "service": name}
        yield f"http://127.0.0.1:{port}", neighbours, lines
    finally:
        await stop_all([child])
        await runner.cleanup()
        ports.close()


def assert_plain(call: web.Request) -> None:
    assert not {header.lower() for header in TRACE_HEADERS} & {key.lower() for key in call.headers}


@pytest.mark.parametrize("name", PATHS)
async def test_no_trace_header_is_passed_on(name: str, broker: str) -> None:
    async with (
        running(name, broker) as (url, neighbours, lines),
        aiohttp.ClientSession() as session,
    ):
        method = "GET" if name == "gateway" else "POST"
        async with session.request(method, url + PATHS[name], headers=TRACE_HEADERS) as response:
            assert response.status < 300
        record = await asyncio.wait_for(lines.get(), 5)
    assert record["traceparent"] == TRACE_HEADERS["traceparent"]
    assert len(neighbours.calls) == len(CALLS[name])
    for call in neighbours.calls:
        assert_plain(call)


async def test_an_order_is_announced_in_a_plain_message(broker: str) -> None:
    async with running("orders", broker) as (url, _, _), aiohttp.ClientSession() as session:
        async with session.post(f"{url}/orders/5", headers=TRACE_HEADERS) as response:
            assert response.status == 200
        message = await asyncio.to_thread(sent_to, broker)
    assert (message.key(), message.value()) == (b"5", b'{"order": "5"}')
    assert not message.headers()


async def test_a_message_is_shipped_without_its_trace_headers_and_then_committed(
    broker: str,
) -> None:
    producer = Producer({"bootstrap.servers": broker})
    producer.produce(TOPIC, b"{}", b"5", 0, headers=dict(TRACE_HEADERS))
    async with running(CONSUMER, broker) as (_, neighbours, lines):
        record = await asyncio.wait_for(lines.get(), 20)
    assert (record["method"], record["path"]) == ("RECEIVE", f"{TOPIC}/5")
    assert record["traceparent"] == TRACE_HEADERS["traceparent"]
    (call,) = neighbours.calls
    assert call.path == "/labels/5"
    assert_plain(call)
    group = Consumer({"bootstrap.servers": broker, "group.id": "shipping"})
    (place,) = await asyncio.to_thread(group.committed, [TopicPartition(TOPIC, 0)], 20)
    group.close()
    assert place.offset == 1


async def test_only_payments_repeats_the_request_id(broker: str) -> None:
    for name in PATHS:
        async with (
            running(name, broker) as (url, neighbours, _),
            aiohttp.ClientSession() as session,
        ):
            method = "GET" if name == "gateway" else "POST"
            headers = {"X-Request-Id": "r-1"}
            async with session.request(method, url + PATHS[name], headers=headers) as response:
                assert response.status < 300
        repeated = {call.headers.get("X-Request-Id") for call in neighbours.calls}
        assert repeated == ({"r-1"} if name == "payments" else {None})


async def test_the_first_charge_of_an_order_that_ends_in_1_is_refused() -> None:
    async with running("payments", "") as (url, neighbours, _), aiohttp.ClientSession() as session:
        statuses = []
        for order in ("11", "11", "12"):
            async with session.post(f"{url}/charges/{order}") as response:
                statuses.append(response.status)
    assert statuses == [503, 200, 200]
    assert len(neighbours.calls) == 2
