"""What is sent carries its context, and has a span that ends with the broker's answer."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer as Plain
from aiokafka.errors import NotLeaderForPartitionError

from filters.kafka.client import AIOKafkaProducer, current, request_context
from meshproxy.inprocess import Tracer
from meshproxy.trace.sampling import Sampler
from meshproxy.trace.span import Kind, Status
from tests.kafka_client.conftest import Producing, Reading, Spans, hurry
from tests.kafka_client.looking import (
    CAUSE,
    PARENT,
    TRACE,
    TRACEPARENT,
    attributes,
    linked,
    named,
    title,
    values,
)

REQUEST = {"Traceparent": TRACEPARENT, "baggage": "tenant=a", "tracestate": "v=1"}
LONG = 60_000
"""Milliseconds for which a message lingers so that nothing is sent before a test is over."""


async def test_a_message_belongs_to_the_request_that_is_handled(
    producer: AIOKafkaProducer, spans: Spans, topic: str, reading: Reading
) -> None:
    with request_context(REQUEST):
        sent = await producer.send_and_wait(topic, b"v", key=b"k", partition=0)
    span = spans.one()
    assert title(span) == (f"send {topic}", Kind.PRODUCER)
    assert (span.trace_id.hex(), span.parent_id.hex()) == (TRACE, PARENT)
    assert span.parent_remote
    (record,) = await reading(topic, 1)
    assert named(record).span_id == span.span_id
    assert values(record, "tracestate") == [b"v=1"]
    assert values(record, "baggage") == [b"tenant=a"]
    assert (record.key, record.value) == (b"k", b"v")
    found = attributes(span)
    broker = (found.pop("server.address"), found.pop("server.port"))
    assert broker in {(each.host, each.port) for each in producer.client.cluster.brokers()}
    assert found == {
        "messaging.system": "kafka",
        "messaging.client.id": producer.client._client_id,
        "messaging.operation.name": "send",
        "messaging.operation.type": "send",
        "messaging.destination.name": topic,
        "messaging.destination.partition.id": "0",
        "messaging.kafka.offset": sent.offset,
        "messaging.kafka.message.key": "k",
    }


async def test_a_message_without_cause_starts_a_trace(
    producer: AIOKafkaProducer, spans: Spans, topic: str, reading: Reading
) -> None:
    await producer.send_and_wait(topic, b"v", partition=0)
    span = spans.one()
    assert span.parent_id == b""
    (record,) = await reading(topic, 1)
    assert named(record).trace_id == span.trace_id
    assert named(record).sampled
    assert values(record, "baggage") == []


async def test_the_callers_headers_stay_as_they_are(
    producer: AIOKafkaProducer, topic: str, reading: Reading
) -> None:
    """A list that is used again and again must not gather contexts."""
    headers: list[tuple[str, bytes | None]] = [("schlüssel", "ä".encode()), ("nothing", None)]
    given = list(headers)
    for _ in range(3):
        await producer.send_and_wait(topic, b"v", partition=0, headers=headers)
    assert headers == given
    records = await reading(topic, 3)
    assert [list(record.headers[:2]) for record in records] == [given] * 3
    assert len({named(record).span_id for record in records}) == 3


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("traceparent", TRACEPARENT.encode()),
        ("Traceparent", TRACEPARENT.encode()),
        ("b3", f"{TRACE}-{PARENT}-1".encode()),
    ],
)
async def test_a_context_that_is_there_is_kept(
    key: str, value: bytes,
    producer: AIOKafkaProducer, spans: Spans, topic: str, reading: Reading,
) -> None:  # fmt: skip
    with request_context({"traceparent": f"00-{TRACE}-{'1' * 16}-01"}):
        await producer.send_and_wait(topic, b"v", partition=0, headers=[(key, value)])
    (record,) = await reading(topic, 1)
    assert record.headers == ((key, value),)
    span = spans.one()
    assert title(span) == (f"send {topic}", Kind.CLIENT)
    assert span.parent_id.hex() == "1" * 16
    assert linked(span) == [CAUSE.span_id]


async def test_a_context_that_is_malformed_is_not_ours_to_replace(
    producer: AIOKafkaProducer, spans: Spans, topic: str, reading: Reading
) -> None:
    await producer.send_and_wait(topic, b"v", partition=0, headers=[("traceparent", b"?")])
    (record,) = await reading(topic, 1)
    assert record.headers == (("traceparent", b"?"),)
    assert linked(spans.one()) == []


async def test_baggage_alone_is_no_context_and_is_not_doubled(
    producer: AIOKafkaProducer, topic: str, reading: Reading
) -> None:
    with request_context(REQUEST):
        await producer.send_and_wait(topic, b"v", partition=0, headers=[("baggage", b"own=1")])
    (record,) = await reading(topic, 1)
    assert values(record, "baggage") == [b"own=1"]
    assert named(record).trace_id == CAUSE.trace_id


async def test_the_span_ends_with_the_delivery_not_before(
    producing: Producing, spans: Spans, topic: str
) -> None:
    producer = await producing(linger_ms=LONG)
    delivery = await producer.send(topic, b"v", partition=0)
    assert spans.take() == []
    await hurry(producer)
    assert attributes(spans.one())["messaging.kafka.offset"] == (await delivery).offset


async def test_a_delivery_that_fails_makes_an_error(
    producing: Producing, spans: Spans, topic: str
) -> None:
    producer = await producing(linger_ms=LONG)
    delivery = await producer.send(topic, b"v", partition=0)
    delivery.set_exception(NotLeaderForPartitionError())
    with pytest.raises(NotLeaderForPartitionError):
        await delivery
    await asyncio.sleep(0)  # a future tells its callbacks in the loop's next turn
    span = spans.one()
    assert span.status == Status.ERROR
    assert attributes(span)["error.type"] == "NOT_LEADER_FOR_PARTITION"
    assert span.events[0].name == "exception"


async def test_asyncio_still_tells_of_errors_that_nobody_looks_at(
    producing: Producing, spans: Spans, topic: str
) -> None:
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, what: told.append(what))
    producer = await producing(linger_ms=LONG)
    delivery = await producer.send(topic, b"v", partition=0)
    delivery.set_exception(NotLeaderForPartitionError())
    await asyncio.sleep(0)
    assert len(spans.take()) == 1
    producer._message_accumulator._batches.clear()  # holds the future, too
    del delivery
    gc.collect()
    assert [what["message"] for what in told] == ["Future exception was never retrieved"]


async def test_waiting_for_a_delivery_can_be_cancelled(
    producing: Producing, spans: Spans, topic: str
) -> None:
    producer = await producing(linger_ms=LONG)
    delivery = await producer.send(topic, b"v", partition=0)
    delivery.cancel()
    await asyncio.sleep(0)
    span = spans.one()
    assert span.status == Status.ERROR
    assert attributes(span)["error.type"] == "asyncio.exceptions.CancelledError"


async def test_send_that_raises_ends_the_span(
    producing: Producing, spans: Spans, topic: str
) -> None:
    def refuse(value: object) -> bytes:
        raise ValueError("not serialisable")

    producer = await producing(value_serializer=refuse)
    with pytest.raises(ValueError, match="not serialisable"):
        await producer.send(topic, b"v")
    span = spans.one()
    assert (span.status, span.status_message) == (Status.ERROR, "not serialisable")
    assert attributes(span)["error.type"] == "ValueError"
    with pytest.raises(AssertionError):
        await producer.send(topic)
    assert attributes(spans.one())["error.type"] == "AssertionError"


async def test_send_that_is_cancelled_ends_the_span(
    producing: Producing, spans: Spans, topic: str
) -> None:
    producer = await producing()
    waiting = asyncio.ensure_future(producer.send(topic, b"v"))  # for the topic's metadata
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    span = spans.one()
    assert attributes(span)["error.type"] == "asyncio.exceptions.CancelledError"


async def test_without_acknowledgement_the_offset_is_unknown(
    producing: Producing, spans: Spans, topic: str
) -> None:
    producer = await producing(acks=0)
    assert await producer.send_and_wait(topic, b"v", partition=0) is None
    span = spans.one()
    assert span.status == Status.UNSET
    assert "messaging.kafka.offset" not in attributes(span)


async def test_serialisers_run_once(producing: Producing, topic: str) -> None:
    seen: list[str] = []

    def serialise(value: str) -> bytes:
        seen.append(value)
        return value.encode()

    producer = await producing(key_serializer=serialise, value_serializer=serialise)
    await producer.send_and_wait(topic, "value", key="key")
    assert sorted(seen) == ["key", "value"]
    seen.clear()
    batch = producer.create_batch()
    batch.append(timestamp=None, key="key", value="value")
    await (await producer.send_batch(batch, topic, partition=0))
    assert sorted(seen) == ["key", "value"]


@pytest.mark.parametrize(
    ("value", "written", "tombstone"),
    [(None, None, True), (None, b"null", False), ("deleted", None, True), ("v", b"v", False)],
)
async def test_a_tombstone_is_what_arrives_as_one(
    value: str | None, written: bytes | None, tombstone: bool,
    producing: Producing, spans: Spans, topic: str,
) -> None:  # fmt: skip
    producer = await producing(value_serializer=lambda _: written)
    await producer.send_and_wait(topic, value, key=b"k")
    found = attributes(spans.one())
    assert found.get("messaging.kafka.message.tombstone", False) is tombstone


@pytest.mark.parametrize(
    ("key", "text"), [(b"k", "k"), ("k", "k"), (17, "17"), (b"\xff", None), (1.5, None)]
)
async def test_a_key_is_shown_if_it_has_a_text(
    key: Any, text: str | None, producing: Producing, spans: Spans, topic: str
) -> None:
    producer = await producing(key_serializer=lambda key: repr(key).encode())
    await producer.send_and_wait(topic, None, key=key)
    found = attributes(spans.one())
    assert found.get("messaging.kafka.message.key") == text
    assert found["messaging.kafka.message.tombstone"] is True


async def test_what_is_not_sampled_says_so_and_makes_no_span(
    producing: Producing, spans: Spans, topic: str, reading: Reading
) -> None:
    producer = await producing(tracer=Tracer(spans, Sampler(0.0)))
    await producer.send_and_wait(topic, b"root", partition=0)
    with request_context({"traceparent": TRACEPARENT[:-1] + "0"}):
        await producer.send_and_wait(topic, b"child", partition=0)
    with request_context({"traceparent": TRACEPARENT}):
        await producer.send_and_wait(topic, b"sampled", partition=0)
    assert spans.one().trace_id.hex() == TRACE
    records = await reading(topic, 3)
    assert [named(record).sampled for record in records] == [False, False, True]


async def test_transactions(producing: Producing, spans: Spans, topic: str) -> None:
    producer = await producing(transactional_id=f"tx-{topic}")
    async with producer.transaction():
        await producer.send_and_wait(topic, b"one", partition=0)
        batch = producer.create_batch()
        batch.append(timestamp=None, key=None, value=b"two")
        await (await producer.send_batch(batch, topic, partition=1))
    assert [title(span) for span in spans.take()] == [(f"send {topic}", Kind.PRODUCER)] * 2

    async def abort() -> None:
        async with producer.transaction():
            await producer.send_and_wait(topic, b"three", partition=0)
            raise LookupError

    with pytest.raises(LookupError):
        await abort()
    assert spans.one().status == Status.UNSET


async def test_behind_the_sidecar_what_has_no_cause_is_left_to_it(
    behind_sidecar: AIOKafkaProducer, spans: Spans, topic: str, reading: Reading
) -> None:
    producer = behind_sidecar
    await producer.send_and_wait(topic, b"left", partition=0)
    batch = producer.create_batch()
    batch.append(timestamp=None, key=None, value=b"left")
    await (await producer.send_batch(batch, topic, partition=0))
    assert spans.take() == []
    with request_context(REQUEST):
        await producer.send_and_wait(topic, b"ours", partition=0)
    assert spans.one().trace_id.hex() == TRACE
    left, in_batch, ours = await reading(topic, 3)
    assert left.headers == in_batch.headers == ()
    assert named(ours).trace_id.hex() == TRACE


async def test_a_tracer_that_fails_does_no_harm(
    producing: Producing, topic: str, reading: Reading
) -> None:
    def random(count: int) -> bytes:
        raise OSError("no randomness")

    producer = await producing(tracer=Tracer(Spans(), Sampler(), random=random))
    await producer.send_and_wait(topic, b"v", partition=0, headers=[("a", b"b")])
    (record,) = await reading(topic, 1)
    assert (record.value, record.headers) == (b"v", (("a", b"b"),))


async def test_it_is_a_producer_of_aiokafka(producer: AIOKafkaProducer, topic: str) -> None:
    assert isinstance(producer, Plain)
    assert await producer.partitions_for(topic)
    assert current.get() is None
