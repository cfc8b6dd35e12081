"""Brokers that lose their leadership, end or die while records stream through a sidecar."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import Producer

from tests.services.conftest import Brokered
from tests.services.kit.groups import Member
from tests.services.kit.kafka import Kafka
from tests.support.kafka_records import Message, Record, enqueue, read
from tests.support.kafka_spans import assert_sent, spans_of
from tests.support.otlp import Collector
from tests.support.process import SidecarProcess

pytestmark = pytest.mark.services

PARTITIONS = 3
PAUSE = 0.01
PATIENCE = 60.0
EXACTLY_ONCE: dict[str, Any] = {"enable.idempotence": True}
AT_LEAST_ONCE: dict[str, Any] = {"acks": "all", "max.in.flight": 1}


def address(sidecar: SidecarProcess) -> str:
    """Where clients of Kafka find the sidecar."""
    return f"127.0.0.1:{sidecar.outbound[0]}"


class Stream:
    """Sends numbered messages steadily, to all partitions in turn, from a thread."""

    def __init__(self, bootstrap: str, topic: str, config: dict[str, Any]) -> None:
        self.sent: list[Message] = []
        self.refused: list[object] = []
        self.unsent = -1
        self._topic = topic
        self._ending = threading.Event()
        options = {"bootstrap.servers": bootstrap, "linger.ms": 5, "log_level": 0}
        self._producer = Producer(options | config)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._ending.wait(PAUSE):
            for _ in range(10):
                number = len(self.sent)
                value = f"{number} ".encode() * 20
                self.sent.append(Message(number % PARTITIONS, None, value))
                enqueue(self._producer, self._topic, self.sent[-1], self.refused)
            self._producer.poll(0)
        self.unsent = self._producer.flush(PATIENCE)

    def end(self) -> None:
        """Send no more; everything that was sent must have been acknowledged."""
        self._ending.set()
        self._thread.join(2 * PATIENCE)
        assert self.unsent == 0
        assert not self.refused


def during(
    kafka: Kafka, sidecar: SidecarProcess, topic: str, config: dict[str, Any],
    event: Callable[[], None],
) -> tuple[list[Message], list[Record]]:  # fmt: skip
    """What was sent while something happened, and what a member of a group got meanwhile."""
    member = Member(address(sidecar), topic, topic).start()
    try:
        member.wait(held=PARTITIONS)
        stream = Stream(address(sidecar), topic, config)
        try:
            member.wait(records=100)
            event()
            member.wait(records=len(member.records) + 100)
        finally:
            stream.end()
        member.wait(records=len(stream.sent))
    finally:
        member.leave()
    return stream.sent, member.records


def values_of(messages: list[Message], partition: int) -> list[bytes | None]:
    return [each.value for each in messages if each.partition == partition]


def without_repetitions(values: list[bytes | None]) -> list[bytes | None]:
    """Each value where it was first."""
    return list(dict.fromkeys(values))


async def assert_streamed(
    kafka: Kafka, topic: str, config: dict[str, Any], sent: list[Message], got: list[Record]
) -> list[Record]:
    """In the topic and at the consumer, everything is there in the order of each partition."""
    there = await asyncio.to_thread(read, kafka.bootstrap(), topic)
    for partition in range(PARTITIONS):
        expected = values_of(sent, partition)
        stored = values_of([each.message for each in there], partition)
        if config is AT_LEAST_ONCE:
            stored = without_repetitions(stored)
        assert stored == expected
        assert without_repetitions(values_of([each.message for each in got], partition)) == expected
    return there


@pytest.mark.parametrize(
    "config", [EXACTLY_ONCE, AT_LEAST_ONCE], ids=["exactly-once", "at-least-once"]
)
async def test_leaders_change(
    kafka: Kafka, brokered: Brokered, collector: Collector,
    request: pytest.FixtureRequest, config: dict[str, Any],
) -> None:  # fmt: skip
    topic = kafka.topic(f"leaders-{request.node.callspec.id}", PARTITIONS)
    sidecar = await brokered(kafka)

    def change() -> None:
        for partition in range(PARTITIONS):
            for _ in range(2):
                node = kafka.leader(topic, partition) % len(kafka.brokers) + 1
                kafka.move_leader(topic, partition, node)

    sent, got = await asyncio.to_thread(during, kafka, sidecar, topic, config, change)
    there = await assert_streamed(kafka, topic, config, sent, got)
    if config is EXACTLY_ONCE:
        assert_sent(await spans_of(collector, "send", topic, len(sent)), there, kafka)


@pytest.mark.parametrize(
    ("kill", "node", "config"),
    [
        pytest.param(True, 2, EXACTLY_ONCE, id="killed"),
        pytest.param(False, 1, AT_LEAST_ONCE, id="bootstrap-stopped"),
    ],
)
async def test_a_broker_ends_and_comes_back(
    kafka: Kafka, brokered: Brokered, request: pytest.FixtureRequest,
    kill: bool, node: int, config: dict[str, Any],
) -> None:  # fmt: skip
    """Also the one that the sidecar was configured with: clients know the others by then."""
    topic = kafka.topic(f"restart-{request.node.callspec.id}", PARTITIONS)
    sidecar = await brokered(kafka)

    def restart() -> None:
        kafka.restart(node, topic, kill=kill)

    sent, got = await asyncio.to_thread(during, kafka, sidecar, topic, config, restart)
    there = await assert_streamed(kafka, topic, config, sent, got)
    assert all(each.context for each in there)
