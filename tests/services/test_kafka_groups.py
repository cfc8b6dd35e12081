"""Consumer groups on Apache Kafka through a sidecar, by both protocols, and share groups."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.services.conftest import Brokered
from tests.services.kit.groups import Member
from tests.services.kit.kafka import Kafka
from tests.support.kafka_records import numbered, produce
from tests.support.kafka_spans import assert_received, spans_of
from tests.support.otlp import Collector
from tests.support.process import SidecarProcess

pytestmark = pytest.mark.services

CLASSIC: dict[str, Any] = {"session.timeout.ms": 6000, "heartbeat.interval.ms": 300}
COOPERATIVE = CLASSIC | {"partition.assignment.strategy": "cooperative-sticky"}
CONSUMER: dict[str, Any] = {"group.protocol": "consumer"}  # KIP-848
EACH = 100


def address(sidecar: SidecarProcess) -> str:
    """Where clients of Kafka find the sidecar."""
    return f"127.0.0.1:{sidecar.outbound[0]}"


@contextmanager
def member(*arguments: Any, **config: Any) -> Iterator[Member]:
    """A member that has left when the test ends."""
    joined = Member(*arguments, **config).start()
    try:
        yield joined
    finally:
        joined.leave()


@pytest.mark.parametrize(
    ("name", "config"),
    [("classic", CLASSIC), ("cooperative", COOPERATIVE), ("consumer", CONSUMER)],
)
async def test_members_come_and_go(
    kafka: Kafka, brokered: Brokered, collector: Collector, name: str, config: dict[str, Any]
) -> None:
    """Each record is given to one member, whoever has its partition."""
    topic = kafka.topic(f"group-{name}", 4)
    sidecar = await brokered(kafka)
    parts = [numbered(EACH, 4, size) for size in (20, 30, 40)]

    def come_and_go() -> list[bytes | None]:
        arguments = (address(sidecar), topic, f"{name}-group")
        with member(*arguments, **config) as first:
            first.wait(held=4)
            produce(address(sidecar), topic, parts[0])
            first.wait(records=EACH)
            with member(*arguments, **config) as second:
                first.wait(held=2)
                second.wait(held=2)
                produce(address(sidecar), topic, parts[1])
                first.wait(records=EACH + EACH // 2)
                second.wait(records=EACH // 2)
            first.wait(held=4)
            produce(address(sidecar), topic, parts[2])
            first.wait(records=2 * EACH + EACH // 2)
        return [each.message.value for each in first.records + second.records]

    got = await asyncio.to_thread(come_and_go)
    sent = [each.value for part in parts for each in part]
    assert sorted(map(str, got)) == sorted(map(str, sent))
    spans = await spans_of(collector, "send", topic, 3 * EACH)
    received = await spans_of(collector, "poll", topic, 3 * EACH, again=True)
    assert_received(received, spans, f"{name}-group", kafka)


@pytest.mark.parametrize("config", [CLASSIC, CONSUMER], ids=["classic", "consumer"])
async def test_a_group_goes_on_where_it_was(
    kafka: Kafka, brokered: Brokered, config: dict[str, Any]
) -> None:
    """What was committed through a sidecar is known to one who asks the brokers directly."""
    protocol = config.get("group.protocol", "classic")
    topic = kafka.topic(f"committed-{protocol}")
    sidecar = await brokered(kafka)
    first, more = numbered(50), numbered(50, size=60)

    def go_on() -> list[bytes | None]:
        produce(address(sidecar), topic, first)
        with member(address(sidecar), topic, topic, **config) as through:
            through.wait(records=50)
        produce(address(sidecar), topic, more)
        with member(kafka.bootstrap(), topic, topic, **config) as direct:
            direct.wait(records=50)
        return [each.message.value for each in direct.records]

    assert await asyncio.to_thread(go_on) == [each.value for each in more]
