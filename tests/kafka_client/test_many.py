"""getmany, and the spans of batches that are processed together."""

from __future__ import annotations

import pytest
from aiokafka.structs import ConsumerRecord

from filters.kafka.client import (
    AIOKafkaProducer,
    current,
    process,
    process_batch,
    request_context,
)
from meshproxy.trace.span import Kind, Span, Status
from tests.kafka_client.conftest import Consuming, Spans
from tests.kafka_client.looking import CAUSE, TRACEPARENT, attributes, linked, title


@pytest.fixture
async def sent(producer: AIOKafkaProducer, spans: Spans, topic: str) -> list[Span]:
    """The spans of four messages in two partitions."""
    for number in range(4):
        await producer.send_and_wait(topic, b"%d" % number, partition=number // 2)
    return spans.take()


async def test_one_span_a_call_with_links(
    consuming: Consuming, sent: list[Span], spans: Spans, topic: str
) -> None:
    consumer = await consuming(topic, group_id="workers")
    with request_context({"traceparent": TRACEPARENT}):
        records = {}
        while not records:
            records = await consumer.getmany(timeout_ms=1000)
        assert current.get() is not None
    span = spans.one()  # none for calls that gave nothing
    assert title(span) == (f"poll {topic}", Kind.CLIENT)
    assert span.parent_id == CAUSE.span_id
    ((tp, messages),) = records.items()
    by_offset = {(n // 2, n % 2): each.span_id for n, each in enumerate(sent)}
    assert linked(span) == [by_offset[tp.partition, m.offset] for m in messages]
    found = attributes(span)
    assert found["messaging.batch.message_count"] == len(messages)
    assert found["messaging.destination.partition.id"] == "0"
    assert found["messaging.operation.type"] == "receive"
    assert found["messaging.consumer.group.name"] == "workers"


async def test_a_poll_that_gives_nothing_makes_no_span(
    consuming: Consuming, spans: Spans, topic: str
) -> None:
    consumer = await consuming(topic)
    assert await consumer.getmany() == {}
    assert spans.take() == []


async def poll_all(consuming: Consuming, topic: str, spans: Spans) -> list[ConsumerRecord]:
    consumer = await consuming(topic, 0, 1, group_id="workers")
    found: list[ConsumerRecord] = []
    while len(found) < 4:
        for records in (await consumer.getmany(timeout_ms=1000)).values():
            found += records
    spans.take()
    return found


async def test_one_of_many_is_processed(
    consuming: Consuming, producer: AIOKafkaProducer, sent: list[Span], spans: Spans, topic: str
) -> None:
    for message in await poll_all(consuming, topic, spans):
        with process(message):
            await producer.send_and_wait(f"out-{topic}", b"v")
        assert current.get() is None
        child, span = spans.take()
        assert title(span) == (f"process {topic}", Kind.CONSUMER)
        assert child.parent_id == span.span_id
        assert span.parent_id == sent[int(message.value)].span_id
        assert attributes(span)["messaging.consumer.group.name"] == "workers"


async def test_a_batch_is_processed(
    consuming: Consuming, producer: AIOKafkaProducer, sent: list[Span], spans: Spans, topic: str
) -> None:
    records = await poll_all(consuming, topic, spans)

    async def handle() -> None:
        with process_batch(iter(records)):
            await producer.send_and_wait(f"out-{topic}", b"v")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk"):
        await handle()
    child, span = spans.take()
    assert title(span) == (f"process {topic}", Kind.CONSUMER)
    assert (child.trace_id, child.parent_id) == (span.trace_id, span.span_id)
    assert span.parent_id == b""
    assert sorted(linked(span)) == sorted(each.span_id for each in sent)
    assert (span.status, attributes(span)["error.type"]) == (Status.ERROR, "OSError")
    assert attributes(span)["messaging.batch.message_count"] == 4
    assert "messaging.destination.partition.id" not in attributes(span)


async def test_what_getmany_gave_is_a_batch(
    consuming: Consuming, sent: list[Span], spans: Spans, topic: str
) -> None:
    consumer = await consuming(topic, 1)
    records = {}
    while not records:
        records = await consumer.getmany(timeout_ms=1000)
    poll = spans.one()
    with process_batch(records):
        pass
    span = spans.one()
    assert linked(span) == linked(poll)
    assert attributes(span)["messaging.destination.partition.id"] == "1"


async def test_single_messages_that_become_a_batch_have_one_span(
    consuming: Consuming, sent: list[Span], spans: Spans, topic: str
) -> None:
    consumer = await consuming(topic)
    with request_context({"traceparent": TRACEPARENT}):
        messages = [await consumer.getone() for _ in range(2)]
        with process_batch(messages):
            pass
        await consumer.stop()
    span = spans.one()
    assert span.parent_id == CAUSE.span_id
    assert linked(span) == [each.span_id for each in sent[:2]]


async def test_a_batch_of_several_topics(
    consuming: Consuming, producer: AIOKafkaProducer, sent: list[Span], spans: Spans, topic: str
) -> None:
    await producer.send_and_wait(f"other-{topic}", b"v", partition=0)
    records = await poll_all(consuming, topic, spans)
    records.append(await (await consuming(f"other-{topic}")).getone())
    with process_batch(records):
        pass
    span = spans.one()
    assert span.shape.name == "process"
    assert "messaging.destination.name" not in attributes(span)


async def test_a_batch_of_the_same_producer_span_is_linked_once(
    consuming: Consuming, producer: AIOKafkaProducer, spans: Spans, topic: str
) -> None:
    batch = producer.create_batch()
    for _ in range(3):
        batch.append(timestamp=None, key=None, value=b"v")
    await (await producer.send_batch(batch, topic, partition=0))
    sent = spans.one()
    consumer = await consuming(topic)
    while not await consumer.getmany(timeout_ms=1000):
        pass
    assert linked(spans.one()) == [sent.span_id]


async def test_behind_the_sidecar_polls_are_its_to_tell(
    consuming: Consuming, sent: list[Span], spans: Spans, topic: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("MESHPROXY_KAFKA_SIDECAR", "1")
    records = await poll_all(consuming, topic, spans)
    assert spans.take() == []
    with process(records[0]):
        pass
    assert title(spans.one()) == (f"process {topic}", Kind.CONSUMER)
