"""A cluster of librdkafka's mock brokers, and clients whose spans can be looked at."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from itertools import count
from typing import Any

import aiokafka
import pytest

from filters.kafka.client import AIOKafkaConsumer, AIOKafkaProducer
from meshproxy.inprocess import Tracer
from meshproxy.trace.sampling import Sampler
from meshproxy.trace.span import Span
from tests.kafka.mock_cluster import MockCluster

_topics = count()


class Spans:
    """Finished spans, in order."""

    def __init__(self) -> None:
        self.finished: list[Span] = []

    def start(self) -> None:
        """Nothing to start."""

    def offer(self, span: Span) -> None:
        self.finished.append(span)

    def take(self) -> list[Span]:
        """All that were finished since the last time."""
        taken, self.finished = self.finished, []
        return taken

    def one(self) -> Span:
        """The only one that was finished since the last time."""
        (span,) = self.take()
        return span


@pytest.fixture(scope="session")
def brokers() -> Iterator[str]:
    """Bootstrap servers of a cluster with three brokers, in a process of their own."""
    cluster = MockCluster().start()
    yield cluster.bootstrap
    cluster.stop()


@pytest.fixture
def topic() -> str:
    """A topic of the test's own."""
    return f"topic-{next(_topics)}"


@pytest.fixture
def spans() -> Spans:
    return Spans()


@pytest.fixture
def tracer(spans: Spans) -> Tracer:
    return Tracer(spans, Sampler())


Producing = Callable[..., Awaitable[AIOKafkaProducer]]
Consuming = Callable[..., Awaitable[AIOKafkaConsumer]]
Reading = Callable[..., Awaitable[list[aiokafka.ConsumerRecord]]]


async def hurry(producer: AIOKafkaProducer) -> None:
    """Send what lingers, and wait for the answers."""
    await producer._message_accumulator.flush_for_commit()


@pytest.fixture
async def producing(brokers: str, tracer: Tracer) -> AsyncIterator[Producing]:
    """``await producing(**settings)`` gives a producer that has started."""
    running: list[AIOKafkaProducer] = []

    async def begin(**settings: Any) -> AIOKafkaProducer:
        settings = {"bootstrap_servers": brokers, "tracer": tracer} | settings
        producer = AIOKafkaProducer(**settings)
        running.append(producer)
        await producer.start()
        return producer

    yield begin
    for producer in running:
        await hurry(producer)
        await producer.stop()


@pytest.fixture
async def behind_sidecar(producing: Producing, monkeypatch: pytest.MonkeyPatch) -> AIOKafkaProducer:
    """A producer of an application that has the wire filter before its brokers."""
    monkeypatch.setenv("MESHPROXY_KAFKA_SIDECAR", "1")
    return await producing()


@pytest.fixture
async def producer(producing: Producing) -> AIOKafkaProducer:
    return await producing()


def assigned(consumer: aiokafka.AIOKafkaConsumer, topic: str, *partitions: int) -> None:
    """Let a consumer read some partitions from their beginning, without a group's protocol."""
    consumer.assign([aiokafka.TopicPartition(topic, each) for each in partitions or (0,)])


@pytest.fixture
async def consuming(brokers: str, tracer: Tracer) -> AsyncIterator[Consuming]:
    """``await consuming(topic, *partitions)`` gives a consumer that has started."""
    running: list[AIOKafkaConsumer] = []

    async def begin(topic: str, *partitions: int, **settings: Any) -> AIOKafkaConsumer:
        defaults = {
            "bootstrap_servers": brokers, "tracer": tracer, "auto_offset_reset": "earliest",
            "enable_auto_commit": False, "fetch_max_wait_ms": 50,
        }  # fmt: skip
        consumer = AIOKafkaConsumer(**(defaults | settings))
        running.append(consumer)
        await consumer.start()
        assigned(consumer, topic, *partitions)
        return consumer

    yield begin
    for consumer in running:
        await consumer.stop()


@pytest.fixture
async def reading(brokers: str) -> AsyncIterator[Reading]:
    """``await reading(topic, count)`` gives what stands in partition 0, by aiokafka itself."""
    running: list[aiokafka.AIOKafkaConsumer] = []

    async def read(topic: str, count: int) -> list[aiokafka.ConsumerRecord]:
        consumer = aiokafka.AIOKafkaConsumer(
            bootstrap_servers=brokers, auto_offset_reset="earliest", fetch_max_wait_ms=50
        )
        running.append(consumer)
        await consumer.start()
        assigned(consumer, topic)
        return [await consumer.getone() for _ in range(count)]

    yield read
    for consumer in running:
        await consumer.stop()
