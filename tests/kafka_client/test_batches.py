"""The batch interface: every message carries the context of the batch's one span."""

from __future__ import annotations

import asyncio
from typing import NoReturn

import aiokafka
import pytest
from aiokafka.producer.message_accumulator import BatchBuilder

from filters.kafka.client import AIOKafkaProducer, request_context
from meshproxy.inprocess import Tracer
from meshproxy.trace.sampling import Sampler
from meshproxy.trace.span import Kind, Status
from tests.kafka_client.conftest import Producing, Reading, Spans, hurry
from tests.kafka_client.looking import (
    CAUSE,
    PARENT,
    TRACEPARENT,
    attributes,
    linked,
    named,
    title,
    values,
)

OTHER = f"00-{'2' * 32}-{'3' * 16}-01"


async def test_one_span_for_all_messages(
    producer: AIOKafkaProducer, spans: Spans, topic: str, reading: Reading
) -> None:
    batch = producer.create_batch()
    with request_context({"traceparent": TRACEPARENT}):
        assert batch.append(timestamp=None, key=None, value=b"1") is not None
        assert batch.append(timestamp=None, key=b"k", value=None, headers=[("a", b"b")])
    batch.append(timestamp=None, key=None, value=b"3", headers=None)
    batch.close()
    assert batch.closed()
    assert batch.append(timestamp=None, key=None, value=b"late") is None
    assert batch.record_count() == 3
    assert batch.size() > 3 * 55
    delivered = await (await producer.send_batch(batch, topic, partition=0))
    span = spans.one()
    assert title(span) == (f"send {topic}", Kind.PRODUCER)
    assert span.parent_id.hex() == PARENT
    assert linked(span) == []
    found = attributes(span)
    assert found["messaging.batch.message_count"] == 3
    assert found["messaging.destination.partition.id"] == "0"
    assert found["messaging.kafka.offset"] == delivered.offset
    records = await reading(topic, 3)
    assert {named(record).span_id for record in records} == {span.span_id}
    assert [record.value for record in records] == [b"1", None, b"3"]
    assert records[1].headers[0] == ("a", b"b")


async def test_what_else_was_current_is_linked(
    producer: AIOKafkaProducer, spans: Spans, topic: str
) -> None:
    batch = producer.create_batch()
    for traceparent in (TRACEPARENT, OTHER, OTHER):
        with request_context({"traceparent": traceparent}):
            batch.append(timestamp=None, key=None, value=b"v")
    await (await producer.send_batch(batch, topic, partition=0))
    span = spans.one()
    assert span.trace_id == CAUSE.trace_id
    assert linked(span) == [bytes.fromhex("3" * 16)]


async def test_contexts_that_are_there_are_kept_and_linked(
    producer: AIOKafkaProducer, spans: Spans, topic: str, reading: Reading
) -> None:
    headers = [("traceparent", TRACEPARENT.encode())]
    batch = producer.create_batch()
    batch.append(timestamp=None, key=None, value=b"v", headers=headers)
    batch.append(timestamp=None, key=None, value=b"v")
    await (await producer.send_batch(batch, topic, partition=0))
    span = spans.one()
    assert linked(span) == [CAUSE.span_id]
    carried, injected = await reading(topic, 2)
    assert carried.headers == tuple(headers) == (("traceparent", TRACEPARENT.encode()),)
    assert named(injected).span_id == span.span_id


async def test_what_is_sent_into_an_open_batch_keeps_its_own_context(
    producing: Producing, spans: Spans, topic: str, reading: Reading
) -> None:
    producer = await producing(linger_ms=60_000)
    batch = producer.create_batch()
    batch.append(timestamp=None, key=None, value=b"of the batch")
    in_batch = await producer.send_batch(batch, topic, partition=0)
    joined = await producer.send(topic, b"joined", partition=0)
    await hurry(producer)
    assert (await joined).offset == (await in_batch).offset + 1
    by_count = {attributes(s).get("messaging.batch.message_count"): s for s in spans.take()}
    one, other = await reading(topic, 2)
    assert named(one).span_id == by_count[1].span_id
    assert named(other).span_id == by_count[None].span_id


async def test_a_full_batch_refuses_as_ever(producing: Producing, topic: str) -> None:
    producer = await producing(max_batch_size=300)
    batch = producer.create_batch()
    assert batch.append(timestamp=None, key=None, value=b"v" * 400) is not None
    assert batch.append(timestamp=None, key=None, value=b"v") is None
    assert batch.record_count() == 1


async def test_a_builder_that_is_not_ours_has_a_span_too(
    producer: AIOKafkaProducer, spans: Spans, topic: str, reading: Reading
) -> None:
    batch = aiokafka.AIOKafkaProducer.create_batch(producer)
    batch.append(timestamp=None, key=None, value=b"v")
    await (await producer.send_batch(batch, topic, partition=0))
    assert title(spans.one()) == (f"send {topic}", Kind.CLIENT)
    (record,) = await reading(topic, 1)
    assert record.headers == ()


async def test_ours_fits_another_producer(
    producer: AIOKafkaProducer, brokers: str, topic: str, reading: Reading
) -> None:
    batch = producer.create_batch()
    assert isinstance(batch, BatchBuilder)
    batch.append(timestamp=None, key=None, value=b"v")
    async with aiokafka.AIOKafkaProducer(
        bootstrap_servers=brokers, enable_idempotence=True
    ) as plain:
        await (await plain.send_batch(batch, topic, partition=0))
    (record,) = await reading(topic, 1)
    assert record.value == b"v"


async def test_a_batch_that_cannot_be_sent_ends_its_span(
    producer: AIOKafkaProducer, spans: Spans, topic: str
) -> None:
    batch = producer.create_batch()
    batch.append(timestamp=None, key=None, value=b"v")
    with pytest.raises(AssertionError, match="Unrecognized partition"):
        await producer.send_batch(batch, topic, partition=99)
    assert attributes(spans.one())["error.type"] == "AssertionError"


async def test_waiting_for_a_batch_can_be_cancelled(
    producing: Producing, spans: Spans, topic: str
) -> None:
    producer = await producing(linger_ms=60_000)
    batch = producer.create_batch()
    batch.append(timestamp=None, key=None, value=b"v")
    delivery = await producer.send_batch(batch, topic, partition=0)
    delivery.cancel()
    await asyncio.sleep(0)
    assert spans.one().status == Status.ERROR


async def test_a_batch_that_is_sent_again_has_another_span(
    producer: AIOKafkaProducer, spans: Spans, topic: str, reading: Reading
) -> None:
    batch = producer.create_batch()
    batch.append(timestamp=None, key=None, value=b"v")
    with pytest.raises(AssertionError, match="Unrecognized partition"):
        await producer.send_batch(batch, topic, partition=99)
    failed = spans.one()
    with request_context({"traceparent": OTHER}):
        await (await producer.send_batch(batch, topic, partition=0))
    (record,) = await reading(topic, 1)
    assert named(record).span_id == failed.span_id
    again = spans.one()
    assert title(again) == (f"send {topic}", Kind.CLIENT)
    assert again.span_id != failed.span_id
    assert again.parent_id.hex() == "3" * 16
    assert linked(again) == [failed.span_id]


async def test_a_batch_that_is_left_to_the_sidecar_is_left_as_a_whole(
    behind_sidecar: AIOKafkaProducer, spans: Spans, topic: str, reading: Reading
) -> None:
    """Otherwise it had two owners, and two spans."""
    producer = behind_sidecar
    batch = producer.create_batch()
    batch.append(timestamp=None, key=None, value=b"without a cause")
    with request_context({"traceparent": TRACEPARENT}):
        batch.append(timestamp=None, key=None, value=b"with one")
        await (await producer.send_batch(batch, topic, partition=0))
    assert [values(record, "traceparent") for record in await reading(topic, 2)] == [[], []]
    assert spans.take() == []


async def test_a_batch_with_a_cause_is_not_left_to_the_sidecar(
    behind_sidecar: AIOKafkaProducer, spans: Spans, topic: str, reading: Reading
) -> None:
    producer = behind_sidecar
    batch = producer.create_batch()
    with request_context({"traceparent": TRACEPARENT}):
        batch.append(timestamp=None, key=None, value=b"with a cause")
    batch.append(timestamp=None, key=None, value=b"without")
    await (await producer.send_batch(batch, topic, partition=0))
    span = spans.one()
    assert title(span) == (f"send {topic}", Kind.PRODUCER)
    assert {named(record).span_id for record in await reading(topic, 2)} == {span.span_id}


async def test_tracing_that_fails_does_not_keep_messages_out(
    producing: Producing, topic: str, reading: Reading
) -> None:
    class Failing(Spans):
        def start(self) -> NoReturn:
            raise OSError("too many open files")

    producer = await producing(tracer=Tracer(Failing(), Sampler()))
    batch = producer.create_batch()
    assert batch.append(timestamp=None, key=None, value=b"v", headers=[("a", b"b")]) is not None
    await (await producer.send_batch(batch, topic, partition=0))
    (record,) = await reading(topic, 1)
    assert record.headers == (("a", b"b"),)
