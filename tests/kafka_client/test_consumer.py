"""Messages handed out one by one: what is current, and the spans of their processing."""

from __future__ import annotations

import asyncio
import contextvars
import copy
import gc
import pickle
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import aiokafka
import pytest
from aiokafka.structs import ConsumerRecord

from filters.kafka.client import (
    AIOKafkaConsumer,
    AIOKafkaProducer,
    current,
    process,
    request_context,
)
from meshproxy.trace.span import Kind, Span, Status
from tests.kafka_client.conftest import Consuming, Spans
from tests.kafka_client.looking import CAUSE, TRACEPARENT, attributes, title


@pytest.fixture
async def sent(producer: AIOKafkaProducer, spans: Spans, topic: str) -> list[Span]:
    """The spans of three messages in partition 0."""
    for number in range(3):
        await producer.send_and_wait(topic, b"%d" % number, key=b"k", partition=0)
    return spans.take()


def current_id() -> bytes:
    """The span that is current."""
    found = current.get()
    return found.context.span_id if found is not None else b""


async def test_a_loop_is_within_the_span_of_its_message(
    consuming: Consuming, producer: AIOKafkaProducer, sent: list[Span], spans: Spans, topic: str
) -> None:
    consumer = await consuming(topic, group_id="workers")
    done: list[Span] = []
    handled = 0
    async for message in consumer:
        done += [span for span in spans.take() if span.shape.kind is Kind.CONSUMER]
        assert len(done) == handled  # the one before ended when this one was asked for
        await asyncio.sleep(0)
        inside = current_id()
        await producer.send_and_wait(f"out-{topic}", message.value)
        child = spans.one()
        assert (child.trace_id, child.parent_id) == (sent[handled].trace_id, inside)
        assert not child.parent_remote
        handled += 1
        if handled == 3:
            break
    await consumer.stop()
    assert current_id() == b""
    done += spans.take()
    assert [title(span) for span in done] == [(f"process {topic}", Kind.CONSUMER)] * 3
    assert [span.parent_id for span in done] == [span.span_id for span in sent]
    found = attributes(done[1])
    assert found.pop("server.port") > 0
    assert found == {
        "messaging.system": "kafka",
        "messaging.client.id": consumer._client._client_id,
        "messaging.consumer.group.name": "workers",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": topic,
        "messaging.destination.partition.id": "0",
        "messaging.kafka.offset": 1,
        "messaging.kafka.message.key": "k",
        "server.address": "127.0.0.1",
    }


async def test_a_span_lasts_until_the_next_message_is_asked_for(
    consuming: Consuming, sent: list[Span], spans: Spans, topic: str
) -> None:
    consumer = await consuming(topic)
    message = await consumer.getone()
    first = current_id()
    assert (first != b"", spans.take()) == (True, [])
    message = await consumer.getone()
    assert current_id() not in (first, b"")
    assert spans.one().span_id == first
    await consumer.stop()
    assert spans.one().span_id not in (first, b"")
    del message


async def test_what_was_current_before_comes_back(
    consuming: Consuming, sent: list[Span], topic: str
) -> None:
    consumer = await consuming(topic)
    with request_context({"traceparent": TRACEPARENT}):
        await consumer.getone()
        assert current_id() != CAUSE.span_id
        await consumer.getmany()
        assert current_id() == CAUSE.span_id
        await consumer.getone()
    assert current_id() == b""  # the block ends what began in it
    await consumer.stop()
    assert current_id() == b""


async def test_through_a_generator(
    consuming: Consuming, sent: list[Span], spans: Spans, topic: str
) -> None:
    consumer = await consuming(topic)

    async def values() -> AsyncIterator[tuple[bytes, bytes]]:
        async for message in consumer:
            yield message.value, current_id()

    generator = values()
    async for _, inside in generator:
        assert current_id() == inside != b""
        break
    closing = contextvars.copy_context()
    await asyncio.get_running_loop().create_task(generator.aclose(), context=closing)
    await consumer.stop()
    assert spans.one().span_id == inside


async def test_each_task_has_its_own_message(
    consuming: Consuming, sent: list[Span], spans: Spans, topic: str
) -> None:
    consumer = await consuming(topic)
    asked, may_end = asyncio.Event(), asyncio.Event()

    async def slow() -> bytes:
        message = await consumer.getone()
        asked.set()
        inside = current_id()
        await may_end.wait()
        assert current_id() == inside
        assert message.offset == 0
        return inside

    task = asyncio.create_task(slow())
    await asked.wait()
    assert current_id() == b""
    await consumer.getone()
    await consumer.getone()
    assert [attributes(span)["messaging.kafka.offset"] for span in spans.take()] == [1]
    may_end.set()
    inside = await task
    await consumer.stop()
    ended = {attributes(span)["messaging.kafka.offset"]: span for span in spans.take()}
    assert set(ended) == {0, 2}
    assert ended[0].span_id == inside


async def test_asking_in_a_task_of_its_own(
    consuming: Consuming, sent: list[Span], spans: Spans, topic: str
) -> None:
    """As `asyncio.wait_for` does before Python 3.12: there, nothing becomes current here."""
    consumer = await consuming(topic)
    first = await asyncio.create_task(consumer.getone())
    assert (current_id(), spans.take()) == (b"", [])
    with process(first):
        inside = current_id()
    assert spans.one().span_id == inside
    second = await asyncio.create_task(consumer.getone())
    await asyncio.create_task(consumer.getone())
    del second
    assert attributes(spans.one())["messaging.kafka.offset"] == 1


async def test_process_carries_on_with_the_same_span(
    consuming: Consuming, sent: list[Span], spans: Spans, topic: str
) -> None:
    consumer = await consuming(topic)
    handed = []

    def handle(message: ConsumerRecord) -> None:
        with process(message):
            assert current_id() == handed[-1]
            raise KeyError("no such order")

    async for message in consumer:
        handed.append(current_id())
        with pytest.raises(KeyError):
            handle(message)
        if len(handed) == 3:
            break
    await consumer.stop()
    processed = spans.take()
    assert [span.span_id for span in processed] == handed
    assert {span.status for span in processed} == {Status.ERROR}
    assert attributes(processed[0])["error.type"] == "KeyError"
    assert dict(processed[0].events[0].attributes)["exception.message"] == "'no such order'"


async def test_process_in_another_task_makes_no_second_span(
    consuming: Consuming, sent: list[Span], spans: Spans, topic: str
) -> None:
    consumer = await consuming(topic)
    may_begin = asyncio.Event()

    async def handle(message: ConsumerRecord) -> None:
        await may_begin.wait()
        with process(message):
            await asyncio.sleep(0)

    tasks = []
    async for message in consumer:
        tasks.append(asyncio.create_task(handle(message)))
        if len(tasks) == 3:
            break
    assert spans.take() == []
    may_begin.set()
    await asyncio.gather(*tasks)
    await consumer.stop()
    offsets = [attributes(span)["messaging.kafka.offset"] for span in spans.take()]
    assert sorted(offsets) == [0, 1, 2]


async def test_processing_again_is_another_span(
    consuming: Consuming, sent: list[Span], spans: Spans, topic: str
) -> None:
    consumer = await consuming(topic)
    message = await consumer.getone()
    for _ in range(2):
        with process(message):
            pass
    once, again = spans.take()
    assert once.span_id != again.span_id
    assert once.parent_id == again.parent_id == sent[0].span_id


async def test_messages_that_are_kept_do_not_keep_their_spans_for_ever(
    consuming: Consuming, producer: AIOKafkaProducer, spans: Spans, topic: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("filters.kafka.client.handing.MOST_HELD", 2)
    for _ in range(5):
        await producer.send_and_wait(topic, b"v", partition=0)
    spans.take()
    consumer = await consuming(topic)
    kept = [await consumer.getone() for _ in range(5)]
    assert [attributes(span)["messaging.kafka.offset"] for span in spans.take()] == [0, 1]
    await consumer.stop()
    assert len(spans.take()) == len(kept) - 2


async def test_an_error_that_ends_the_consumer_is_told(
    consuming: Consuming, sent: list[Span], spans: Spans, topic: str
) -> None:
    consumer = await consuming(topic)

    async def consume() -> None:
        async with AsyncExitStack() as stack:
            stack.push_async_exit(consumer)
            async for _ in consumer:
                raise LookupError

    with pytest.raises(LookupError):
        await consume()
    span = spans.one()
    assert span.status == Status.ERROR
    assert attributes(span)["error.type"] == "LookupError"


async def test_a_message_without_context_is_a_root(
    consuming: Consuming, brokers: str, spans: Spans, topic: str
) -> None:
    async with aiokafka.AIOKafkaProducer(bootstrap_servers=brokers) as plain:
        headers = [("schlüssel", None), ("traceparent", None), ("Ünï", b"\xff")]
        await plain.send_and_wait(topic, None, key=b"gone", partition=0, headers=headers)
    consumer = await consuming(topic)
    message = await consumer.getone()
    assert message.headers == tuple(headers)
    await consumer.stop()
    span = spans.one()
    assert span.parent_id == b""
    assert attributes(span)["messaging.kafka.message.tombstone"] is True


async def test_of_several_contexts_the_last_counts(
    consuming: Consuming, brokers: str, spans: Spans, topic: str
) -> None:
    headers = [("traceparent", f"00-{n * 32}-{n * 16}-01".encode()) for n in "123"]
    async with aiokafka.AIOKafkaProducer(bootstrap_servers=brokers) as plain:
        await plain.send_and_wait(topic, b"v", partition=0, headers=headers)
    consumer = await consuming(topic)
    await consumer.getone()
    await consumer.stop()
    assert spans.one().parent_id.hex() == "3" * 16


async def test_baggage_goes_on(
    consuming: Consuming, producer: AIOKafkaProducer, topic: str
) -> None:
    with request_context({"traceparent": TRACEPARENT, "baggage": "tenant=a"}):
        await producer.send_and_wait(topic, b"v", partition=0)
    consumer = await consuming(topic)
    await consumer.getone()
    await producer.send_and_wait(topic, b"v", partition=0)
    second = await consumer.getone()
    assert ("baggage", b"tenant=a") in second.headers


async def test_a_deserialiser_that_fails_fails_as_ever(
    consuming: Consuming, sent: list[Span], spans: Spans, topic: str
) -> None:
    def deserialise(value: bytes) -> int:
        if value == b"1":
            raise ValueError("not this one")
        return int(value)

    consumer = await consuming(topic, value_deserializer=deserialise)
    assert (await consumer.getone()).value == 0
    with pytest.raises(ValueError, match="not this one"):
        await consumer.getone()
    assert current_id() == b""
    assert len(spans.take()) == 1
    consumer.seek(aiokafka.TopicPartition(topic, 0), 2)
    assert (await consumer.getone()).value == 2


async def test_records_stay_plain(consuming: Consuming, sent: list[Span], topic: str) -> None:
    consumer = await consuming(topic)
    message = await consumer.getone()
    assert pickle.loads(pickle.dumps(message)) == copy.deepcopy(message) == message
    assert set(vars(message)) == set(ConsumerRecord.__dataclass_fields__)


async def test_a_tracer_that_fails_does_no_harm(
    consuming: Consuming, sent: list[Span], topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    consumer = await consuming(topic)

    def broken(*_: Any) -> None:
        raise RuntimeError("a mistake")

    monkeypatch.setattr(consumer._hands, "give", broken)
    monkeypatch.setattr(consumer._hands, "note", broken)
    assert (await consumer.getone()).offset == 0
    ((messages,)) = (await consumer.getmany(timeout_ms=1000)).values()
    assert messages[0].offset == 1


async def test_it_is_a_consumer_of_aiokafka(consuming: Consuming, topic: str) -> None:
    consumer = await consuming(topic)
    assert isinstance(consumer, aiokafka.AIOKafkaConsumer)
    assert isinstance(consumer, AIOKafkaConsumer)
    assert consumer.assignment() == {aiokafka.TopicPartition(topic, 0)}
    gc.collect()
