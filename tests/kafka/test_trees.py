"""One tree over HTTP, a topic and HTTP again, of services that pass no context on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.kafka.bed import Start
from tests.kafka.looking import CLIENT, CONSUMER, PRODUCER, SERVER, until
from tests.kafka.mock_cluster import MockCluster
from tests.kafka.shop import PARENT, Order, Shop
from tests.support.otlp import Collector

CROWD = 20

Open = Callable[..., Awaitable[Shop]]


@pytest.fixture
async def open_shop(
    cluster: MockCluster, collector: Collector, start: Start, topic: str
) -> AsyncIterator[Open]:
    shop = Shop(cluster, collector, topic)

    async def begin(**kafka: bool) -> Shop:
        await shop.open(start, **kafka)
        return shop

    yield begin
    await shop.close()


async def test_from_request_to_call_by_way_of_a_topic(
    open_shop: Open, collector: Collector
) -> None:
    shop = await open_shop()
    for _ in range(3):
        (order,) = await shop.order()
        assert trace(order.message) == trace(order.call) == order.trace
        trace_id = bytes.fromhex(order.trace)

        def of_order(trace_id: bytes = trace_id) -> dict[bytes, Span]:
            return {span.span_id: span for span in collector.spans if span.trace_id == trace_id}

        await until(collector, lambda: len(of_order()) == 4)
        spans = of_order()
        path = [spans[bytes.fromhex(order.call[36:52])]]
        while path[-1].parent_span_id != bytes.fromhex(PARENT):
            path.append(spans[path[-1].parent_span_id])
        assert [span.kind for span in path] == [CLIENT, CONSUMER, PRODUCER, SERVER]
        assert path[2].span_id.hex() == order.message[36:52]


async def test_a_crowd_of_orders_that_can_be_told_apart_by_their_ids(open_shop: Open) -> None:
    shop = await open_shop(per_record=True)
    for _ in range(4):
        orders = await shop.order(CROWD)
    assert_none_is_wrong(list(shop.orders.values()))
    assert sum(trace(each.message) == each.trace for each in orders) > CROWD * 3 / 4
    assert sum(trace(each.call) == trace(each.message) for each in orders) > CROWD * 3 / 4


async def test_a_crowd_whose_batches_have_one_span_each(open_shop: Open) -> None:
    shop = await open_shop()
    for _ in range(4):
        await shop.order(CROWD)
    assert_none_is_wrong(list(shop.orders.values()))


def assert_none_is_wrong(orders: list[Order]) -> None:
    """What was done for an order is in its own trace, or in that of no other."""
    for each in orders:
        others = [other for other in orders if other is not each]
        assert trace(each.message) not in {other.trace for other in others}
        if trace(each.call) != trace(each.message):
            assert trace(each.call) not in {other.trace for other in others}
            assert trace(each.call) not in {trace(other.message) for other in others}


def trace(traceparent: str) -> str:
    return traceparent[3:35]
