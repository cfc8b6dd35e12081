"""When the spans of messages end, whatever the application does or leaves undone."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider

from filters.kafka.client import AIOKafkaProducer, current, process, process_batch
from meshproxy.inprocess import Tracer
from meshproxy.trace.span import Kind, Span
from tests.kafka_client.conftest import Consuming, Spans
from tests.kafka_client.looking import attributes, linked, said_by_us
from tests.support.raw import PATIENCE

SDK = TracerProvider().get_tracer("tests")


@pytest.fixture
async def sent(producer: AIOKafkaProducer, spans: Spans, topic: str) -> list[Span]:
    """The spans of three messages in partition 0."""
    for number in range(3):
        await producer.send_and_wait(topic, b"%d" % number, partition=0)
    return spans.take()


def current_id() -> bytes:
    """The span that is current."""
    found = current.get()
    return found.context.span_id if found is not None else b""


def offsets(found: list[Span]) -> list[int]:
    return [attributes(span)["messaging.kafka.offset"] for span in found]


async def test_at_the_end_of_the_process_all_are_finished(
    consuming: Consuming, sent: list[Span], spans: Spans, tracer: Tracer, topic: str
) -> None:
    consumer = await consuming(topic)
    kept = [await consumer.getone(), await consumer.getone()]
    assert spans.take() == []
    tracer.end()
    assert sorted(offsets(spans.take())) == [message.offset for message in kept]
    await consumer.stop()
    assert spans.take() == []


async def test_a_loop_that_waits_does_not_hold_the_last_one_for_ever(
    consuming: Consuming, sent: list[Span], spans: Spans, topic: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("filters.kafka.client.handing.HOLD_FOR", 0.001)
    all_finished = asyncio.Event()
    offer = spans.offer

    def note(span: Span) -> None:
        offer(span)
        if len(spans.finished) == 3:
            all_finished.set()

    monkeypatch.setattr(spans, "offer", note)
    consumer = await consuming(topic)

    async def loop() -> None:
        async for _ in consumer:
            pass

    task = asyncio.create_task(loop())
    async with asyncio.timeout(PATIENCE):
        await all_finished.wait()
    assert not task.done()
    assert offsets(spans.take()) == [0, 1, 2]
    await consumer.stop()
    await task
    assert spans.take() == []


async def test_where_another_task_stops_the_consumer_the_loop_leaves_its_message(
    consuming: Consuming, sent: list[Span], spans: Spans, topic: str
) -> None:
    consumer = await consuming(topic)
    working, stopped = asyncio.Event(), asyncio.Event()
    seen: list[bytes] = []

    async def loop() -> None:
        async for _ in consumer:
            seen.append(current_id())
            working.set()
            await stopped.wait()
            seen.append(current_id())
        seen.append(current_id())

    task = asyncio.create_task(loop())
    await working.wait()
    await consumer.stop()
    stopped.set()
    await task
    inside = spans.one().span_id
    assert seen == [inside, inside, b""]


async def test_two_consumers_in_turn(
    consuming: Consuming, producer: AIOKafkaProducer, sent: list[Span], spans: Spans, topic: str
) -> None:
    for _ in range(3):
        await producer.send_and_wait(f"other-{topic}", b"v", partition=0)
    spans.take()
    consumers = [await consuming(topic), await consuming(f"other-{topic}")]
    for _ in range(3):
        for consumer in consumers:
            await consumer.getone()
    last = current_id()
    await consumers[0].stop()
    assert current_id() == last
    await consumers[1].stop()
    assert current_id() == b""
    assert len(spans.take()) == 6


async def test_tasks_that_have_ended_are_noticed_among_many(
    consuming: Consuming, producer: AIOKafkaProducer, spans: Spans, tracer: Tracer, topic: str
) -> None:
    for _ in range(12):
        await producer.send_and_wait(topic, b"v", partition=0)
    spans.take()
    consumer = await consuming(topic)
    kept = await asyncio.gather(*[consumer.getone() for _ in range(6)])
    for _ in range(6):
        await consumer.getone()
    by_now = tracer.now_ns()
    ended = {message.offset for message in kept}
    await consumer.stop()
    for span in spans.take():
        assert (span.end_ns <= by_now) or attributes(span)["messaging.kafka.offset"] not in ended


async def test_a_message_that_others_name_keeps_its_span_in_a_batch(
    consuming: Consuming, producer: AIOKafkaProducer, sent: list[Span], spans: Spans, topic: str
) -> None:
    consumer = await consuming(topic)
    messages = []
    async for message in consumer:
        messages.append(message)
        if message.offset == 0:
            await producer.send_and_wait(f"audit-{topic}", b"seen", partition=0)
        if message.offset == 1:
            SDK.start_span("of OpenTelemetry").end()
        if message.offset == 2:
            break
    audit = spans.one()
    with process_batch(messages):
        pass
    assert current_id() == b""  # what is sent now is a part of none of them
    await consumer.stop()
    first, second, batch = spans.take()
    assert audit.parent_id == first.span_id
    assert offsets([first, second]) == [0, 1]
    assert linked(batch) == [first.span_id, second.span_id, *(span.span_id for span in sent)]


async def test_a_message_that_is_used_by_its_task_after_the_batch_keeps_its_span(
    consuming: Consuming, producer: AIOKafkaProducer, sent: list[Span], spans: Spans, topic: str
) -> None:
    consumer = await consuming(topic)
    batch_done = asyncio.Event()

    async def handle() -> None:
        await batch_done.wait()
        await producer.send_and_wait(f"late-{topic}", b"v", partition=0)

    message = await consumer.getone()
    task = asyncio.create_task(handle())
    with process_batch([message]):
        pass
    batch_done.set()
    await task
    await consumer.stop()
    del message
    batch, late, own = spans.take()
    assert batch.shape.kind is Kind.CONSUMER
    assert late.parent_id == own.span_id


async def test_a_tracer_that_fails_does_no_harm_at_the_end_either(
    consuming: Consuming, sent: list[Span], spans: Spans, topic: str,
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    consumer = await consuming(topic)
    message = await consumer.getone()

    def broken(*_: Any) -> None:
        raise RuntimeError("a mistake")

    monkeypatch.setattr(spans, "start", broken)
    monkeypatch.setattr(spans, "offer", broken)
    with process(message), process(message), process_batch([message]):
        value = message.value
    for missing in ("next", "end"):
        monkeypatch.setattr(consumer._hands, missing, broken)
    assert (value, (await consumer.getone()).offset) == (b"0", 1)
    assert await consumer.getmany(timeout_ms=1000)
    await consumer.stop()
    said = said_by_us(caplog)
    assert {record.exc_info is not None for record in said} == {True}
    assert {record.name for record in said} == {"filters.kafka.client.spans"}


async def test_errors_of_the_application_pass(consuming: Consuming, topic: str) -> None:
    with pytest.raises(TypeError), process_batch(5):  # type: ignore[arg-type]
        pass
