"""Three Kafka clients, used alike: each sends messages, and reads what is in a topic."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import aiokafka
import kafka

from tests.kafka.mock_cluster import PARTITIONS
from tests.support import kafka_records as records
from tests.support.kafka_records import Message

MOCK = (2, 3)
"""The version of Apache Kafka that kafka-python must take the mock brokers for: it begins with a
newer ApiVersions request otherwise, and what they say of that is not well-formed."""

POLL_MS = 50
"""How long a broker waits for more before it answers a fetch."""


class Client:
    """Sends to and reads from a topic, by way of ``bootstrap``."""

    name = ""

    def able(self, sent: Sequence[Message]) -> list[Message]:
        """Those of the messages that this client can send."""
        return [each for each in sent if each.key is not None or each.value is not None]

    async def produce(
        self,
        bootstrap: str,
        topic: str,
        sent: Sequence[Message],
        codec: str = "none",
        idempotent: bool = False,
    ) -> None:
        """Send all; returns when all are acknowledged."""
        raise NotImplementedError  # fmt: skip

    async def read(self, bootstrap: str, topic: str, count: int) -> list[Message]:
        """So many messages of all partitions from their beginnings; no group."""
        raise NotImplementedError


class Librdkafka(Client):
    name = "confluent-kafka"

    async def produce(
        self, bootstrap: str, topic: str, sent: Sequence[Message], codec: str = "none",
        idempotent: bool = False,
    ) -> None:  # fmt: skip
        settings = {"compression.type": codec, "linger.ms": 20, "enable.idempotence": idempotent}
        await asyncio.to_thread(records.produce, bootstrap, topic, sent, **settings)

    async def read(self, bootstrap: str, topic: str, count: int) -> list[Message]:
        found = await asyncio.to_thread(records.read, bootstrap, topic)
        assert len(found) == count
        return [each.message for each in found]


class AioKafka(Client):
    name = "aiokafka"

    async def produce(
        self, bootstrap: str, topic: str, sent: Sequence[Message], codec: str = "none",
        idempotent: bool = False,
    ) -> None:  # fmt: skip
        async with aiokafka.AIOKafkaProducer(
            bootstrap_servers=bootstrap,
            compression_type=None if codec == "none" else codec,
            linger_ms=20,
            enable_idempotence=idempotent,
        ) as producer:
            waiting = [
                await producer.send(
                    topic, each.value, each.key, each.partition, each.timestamp, list(each.headers)
                )
                for each in sent
            ]
            await asyncio.gather(*waiting)

    async def read(self, bootstrap: str, topic: str, count: int) -> list[Message]:
        async with aiokafka.AIOKafkaConsumer(
            bootstrap_servers=bootstrap, auto_offset_reset="earliest", fetch_max_wait_ms=POLL_MS
        ) as consumer:
            consumer.assign([aiokafka.TopicPartition(topic, each) for each in range(PARTITIONS)])
            return [_message(await consumer.getone()) for _ in range(count)]


class KafkaPython(Client):
    name = "kafka-python"

    def able(self, sent: Sequence[Message]) -> list[Message]:
        return [
            each
            for each in super().able(sent)
            if all(value is not None for _, value in each.headers)
        ]

    async def produce(
        self, bootstrap: str, topic: str, sent: Sequence[Message], codec: str = "none",
        idempotent: bool = False,
    ) -> None:  # fmt: skip
        settings = {
            "compression_type": None if codec == "none" else codec,
            "enable_idempotence": idempotent,
            "linger_ms": 20,
        }
        await asyncio.to_thread(self._produce, bootstrap, topic, sent, settings)

    def _produce(
        self, bootstrap: str, topic: str, sent: Sequence[Message], settings: dict[str, Any]
    ) -> None:
        producer = kafka.KafkaProducer(bootstrap_servers=bootstrap, api_version=MOCK, **settings)
        try:
            waiting = [
                producer.send(
                    topic,
                    value=each.value,
                    key=each.key,
                    headers=list(each.headers),
                    partition=each.partition,
                    timestamp_ms=each.timestamp,
                )
                for each in sent
            ]
            producer.flush()
            for future in waiting:
                future.get(records.PATIENCE)
        finally:
            producer.close()

    async def read(self, bootstrap: str, topic: str, count: int) -> list[Message]:
        return await asyncio.to_thread(self._read, bootstrap, topic, count)

    def _read(self, bootstrap: str, topic: str, count: int) -> list[Message]:
        consumer = kafka.KafkaConsumer(
            bootstrap_servers=bootstrap,
            api_version=MOCK,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=POLL_MS,
        )
        try:
            consumer.assign([kafka.TopicPartition(topic, each) for each in range(PARTITIONS)])
            return [_message(next(consumer)) for _ in range(count)]
        finally:
            consumer.close()


def _message(record: Any) -> Message:
    """A record of aiokafka or kafka-python, which look alike."""
    return Message(
        record.partition, record.key, record.value, tuple(record.headers), record.timestamp
    )


LIBRDKAFKA = Librdkafka()
AIOKAFKA = AioKafka()
KAFKA_PYTHON = KafkaPython()
CLIENTS = (AIOKAFKA, LIBRDKAFKA, KAFKA_PYTHON)
