"""Hooks by the names of Kafka's Java client."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from aiokafka.errors import NotLeaderForPartitionError
from aiokafka.structs import ConsumerRecord, RecordMetadata, TopicPartition

from filters.kafka.client import (
    AIOKafkaProducer,
    ConsumerInterceptor,
    ProducerInterceptor,
    ProducerRecord,
)
from tests.kafka_client.conftest import Consuming, Producing, Reading, Spans
from tests.kafka_client.looking import TRACEPARENT, said_by_us


class Telling(ProducerInterceptor, ConsumerInterceptor):
    def __init__(self) -> None:
        self.told: list[Any] = []

    def on_send(self, record: ProducerRecord) -> ProducerRecord:
        self.told.append(record.value)
        return replace(record, headers=[*record.headers, ("by", b"hook")])

    def on_acknowledgement(
        self, metadata: RecordMetadata | None, error: BaseException | None
    ) -> None:
        self.told.append(metadata.offset if metadata else error)

    def on_consume(self, records: Mapping[TopicPartition, Sequence[ConsumerRecord]]) -> None:
        for messages in records.values():
            self.told += [message.value for message in messages]

    def on_commit(self, offsets: Mapping[TopicPartition, Any] | None) -> None:
        self.told.append(offsets)


class Failing(ProducerInterceptor, ConsumerInterceptor):
    def on_send(self, record: ProducerRecord) -> ProducerRecord:
        raise RuntimeError("on_send")

    def on_acknowledgement(self, *_: object) -> None:
        raise RuntimeError("on_acknowledgement")

    def on_consume(self, *_: object) -> None:
        raise RuntimeError("on_consume")

    def on_commit(self, *_: object) -> None:
        raise RuntimeError("on_commit")


class Carrying(ProducerInterceptor):
    def on_send(self, record: ProducerRecord) -> ProducerRecord:
        return replace(record, topic=f"re-{record.topic}", headers=[CARRIED])


class Forgetful(ProducerInterceptor):
    """Changes a record in vain."""

    def on_send(self, record: ProducerRecord) -> Any:
        replace(record, value=b"changed")


class Bare(ProducerInterceptor):
    def on_send(self, record: ProducerRecord) -> ProducerRecord:
        return replace(record, headers=None)  # type: ignore[arg-type]


CARRIED = ("traceparent", TRACEPARENT.encode())


async def test_a_producer_tells(producing: Producing, topic: str, reading: Reading) -> None:
    telling = Telling()
    producer = await producing(interceptors=[telling])
    headers: list[tuple[str, bytes | None]] = [("a", b"b")]
    await producer.send_and_wait(topic, b"v", partition=0, headers=headers)
    assert telling.told == [b"v", 0]
    assert headers == [("a", b"b")]
    (record,) = await reading(topic, 1)
    assert record.headers[:2] == (("a", b"b"), ("by", b"hook"))


async def test_errors_are_told(producing: Producing, topic: str) -> None:
    telling = Telling()
    producer = await producing(interceptors=[telling], linger_ms=60_000)
    delivery = await producer.send(topic, b"v", partition=0)
    error = NotLeaderForPartitionError()
    delivery.set_exception(error)
    await asyncio.sleep(0)  # a future tells its callbacks in the loop's next turn
    assert telling.told == [b"v", error]
    with pytest.raises(NotLeaderForPartitionError):
        await delivery
    with pytest.raises(AssertionError):
        await producer.send(topic)
    assert isinstance(telling.told[-1], AssertionError)


async def test_what_a_hook_puts_in_is_kept(
    producing: Producing, topic: str, reading: Reading
) -> None:
    producer = await producing(interceptors=[Carrying()])
    await producer.send_and_wait(topic, b"v", partition=0)
    (record,) = await reading(f"re-{topic}", 1)
    assert record.headers == (CARRIED,)


async def test_a_consumer_tells(
    consuming: Consuming, producer: AIOKafkaProducer, topic: str
) -> None:
    for value in (b"1", b"2"):
        await producer.send_and_wait(topic, value, partition=0)
    telling = Telling()
    consumer = await consuming(topic, interceptors=[telling], group_id=f"group-{topic}")
    await consumer.getone()
    await consumer.getmany(timeout_ms=1000)
    await consumer.commit()
    offsets = {TopicPartition(topic, 0): 1}
    await consumer.commit(offsets)
    assert telling.told == [b"1", b"2", None, offsets]


async def test_hooks_that_fail_do_no_harm(
    producing: Producing, consuming: Consuming, spans: Spans, topic: str
) -> None:
    telling = Telling()
    producer = await producing(interceptors=[Failing(), telling])
    await producer.send_and_wait(topic, b"v", partition=0)
    assert telling.told == [b"v", 0]
    consumer = await consuming(topic, interceptors=[Failing()], group_id=f"group-{topic}")
    assert (await consumer.getone()).value == b"v"
    await consumer.commit()
    await consumer.stop()
    assert [span.shape.name for span in spans.take()] == [f"send {topic}", f"process {topic}"]


async def test_a_hook_that_gives_no_record_changes_nothing(
    producing: Producing, topic: str, reading: Reading, caplog: pytest.LogCaptureFixture
) -> None:
    producer = await producing(interceptors=[Forgetful(), Telling()])
    for _ in range(2):
        await producer.send_and_wait(topic, b"v", partition=0)
    for record in await reading(topic, 2):
        assert (record.value, record.headers[0]) == (b"v", ("by", b"hook"))
    (complaint,) = said_by_us(caplog)
    assert complaint.levelno == logging.ERROR
    assert "Forgetful" in complaint.getMessage()


async def test_a_hook_may_take_all_headers_away(
    producing: Producing, topic: str, reading: Reading
) -> None:
    producer = await producing(interceptors=[Bare()])
    await producer.send_and_wait(topic, b"v", partition=0, headers=[("a", b"b")])
    (record,) = await reading(topic, 1)
    assert "a" not in dict(record.headers)


async def test_hooks_may_come_from_any_iterable(producing: Producing, topic: str) -> None:
    telling = Telling()
    producer = await producing(interceptors=(each for each in [telling]))
    await producer.send_and_wait(topic, b"v", partition=0)
    assert telling.told == [b"v", 0]
