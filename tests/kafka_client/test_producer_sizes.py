"""What is added to a message never costs the message: sizes that producers and brokers allow."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import MessageSizeTooLargeError
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.structs import ConsumerRecord

from filters.kafka.client import AIOKafkaProducer
from filters.kafka.client.headers import Header
from meshproxy.trace.span import Status
from tests.kafka_client.conftest import Producing, Reading, Spans, hurry
from tests.kafka_client.looking import TRACEPARENT, attributes, said_by_us, values

LONG = 60_000
"""Milliseconds for which a message lingers so that nothing is sent before a test asks for it."""

CARRIED = ("traceparent", TRACEPARENT.encode())


class Broker:
    """Between a producer and its brokers: refuses batches of more than ``most`` bytes."""

    def __init__(self, producer: AIOKafkaProducer, most: int) -> None:
        self.most = most
        self.refusals = 0
        self._send = producer.client.send
        producer.client.send = self._answer

    async def _answer(self, node: int, request: Any, **how: Any) -> Any:
        if isinstance(request, ProduceRequest):
            ((topic, ((partition, batch),)),) = request._topics
            if len(batch) > self.most:
                self.refusals += 1
                error = (partition, MessageSizeTooLargeError.errno, -1, -1)
                return SimpleNamespace(API_VERSION=2, topics=[(topic, [error])])
        return await self._send(node, request, **how)


async def send(producer: AIOKafkaProducer, topic: str, size: int, *headers: Header) -> None:
    await producer.send_and_wait(topic, b"v" * size, partition=0, headers=headers)


def traced(records: list[ConsumerRecord]) -> list[tuple[int, bool]]:
    """The sizes of messages, and whether they carry a context."""
    return [(len(each.value), bool(values(each, "traceparent"))) for each in records]


async def test_a_message_that_has_no_room_for_a_context_is_sent_without(
    producing: Producing, topic: str, reading: Reading
) -> None:
    serialised: list[bytes] = []

    def serialise(value: bytes) -> bytes:
        serialised.append(value)
        return value

    producer = await producing(max_request_size=250, value_serializer=serialise)
    await send(producer, topic, 150, ("a", b"b"))
    (record,) = await reading(topic, 1)
    assert record.headers == (("a", b"b"),)
    assert len(serialised) == 1
    with pytest.raises(MessageSizeTooLargeError):
        await send(producer, topic, 300)


@pytest.mark.parametrize("settings", [{}, {"enable_idempotence": True}])
async def test_a_message_that_the_broker_refuses_is_sent_again_without_a_context(
    settings: dict[str, Any],
    producing: Producing, spans: Spans, topic: str, reading: Reading,
) -> None:  # fmt: skip
    producer = await producing(**settings)
    broker = Broker(producer, 1000)
    await send(producer, topic, 100)
    await send(producer, topic, 900, ("a", b"b"))
    await send(producer, topic, 100)
    records = await reading(topic, 3)
    assert traced(records) == [(100, True), (900, False), (100, True)]
    assert records[1].headers == (("a", b"b"),)
    assert broker.refusals == 1
    found = spans.take()
    assert [attributes(span)["messaging.kafka.offset"] for span in found] == [0, 1, 2]
    assert {span.status for span in found} == {Status.UNSET}


async def test_a_batch_that_the_broker_refuses_keeps_its_order_and_what_it_holds(
    producing: Producing, topic: str, reading: Reading
) -> None:
    producer = await producing(linger_ms=LONG)
    broker = Broker(producer, 600)
    sent = [b"%d" % number for number in range(9)]
    headers: list[Header] = [("a", b"b"), ("nothing", None)]
    deliveries = [
        await producer.send(topic, value, b"k", 0, timestamp_ms=1000 + at, headers=headers)
        for at, value in enumerate(sent)
    ]
    await hurry(producer)
    assert [(await each).offset for each in deliveries] == list(range(9))
    records = await reading(topic, 9)
    assert [record.value for record in records] == sent
    assert [record.timestamp for record in records] == list(range(1000, 1009))
    assert {(record.key, record.headers) for record in records} == {(b"k", tuple(headers))}
    assert broker.refusals == 1
    await producer.send(topic, b"alone", partition=0)
    await hurry(producer)
    assert traced(await reading(topic, 10))[9:] == [(5, True)]


async def test_a_batch_of_the_batch_interface_is_sent_again_as_well(
    producer: AIOKafkaProducer, spans: Spans, topic: str, reading: Reading
) -> None:
    Broker(producer, 1000)
    batch = producer.create_batch()
    batch.append(timestamp=None, key=None, value=b"v" * 900)
    await (await producer.send_batch(batch, topic, partition=0))
    assert traced(await reading(topic, 1)) == [(900, False)]
    assert spans.one().status == Status.UNSET


async def test_what_is_too_large_anyway_fails(
    producer: AIOKafkaProducer, spans: Spans, topic: str
) -> None:
    broker = Broker(producer, 1000)
    with pytest.raises(MessageSizeTooLargeError):
        await send(producer, topic, 1100)
    assert broker.refusals == 2
    assert spans.one().status == Status.ERROR
    with pytest.raises(MessageSizeTooLargeError):
        await send(producer, topic, 500, CARRIED, ("filling", bytes(500)))
    assert broker.refusals == 3


async def test_after_a_refusal_messages_as_large_are_sent_without_a_context(
    producer: AIOKafkaProducer, topic: str, reading: Reading, caplog: pytest.LogCaptureFixture
) -> None:
    broker = Broker(producer, 1000)
    for size in (900, 899, 901, 500):
        await send(producer, topic, size)
    expected = [(900, False), (899, False), (901, False), (500, True)]
    assert traced(await reading(topic, 4)) == expected
    assert broker.refusals == 1
    (learnt,) = said_by_us(caplog)
    assert learnt.levelno == logging.WARNING
    broker.most = 5000  # an administrator has noticed
    await send(producer, topic, 2000)
    await send(producer, topic, 900)
    assert traced(await reading(topic, 6))[4:] == [(2000, False), (900, True)]
    await send(producer, f"other-{topic}", 900)
    assert traced(await reading(f"other-{topic}", 1)) == [(900, True)]
