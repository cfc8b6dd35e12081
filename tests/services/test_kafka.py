"""Apache Kafka through a sidecar: what librdkafka sends and reads, and the spans of it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.services.conftest import Brokered
from tests.services.kit.kafka import PASSWORD, USER, Kafka, settle
from tests.support.kafka_records import (
    Message,
    Record,
    as_sent,
    by_partition,
    enqueue,
    messages,
    numbered,
    produce,
    read,
    record,
)
from tests.support.kafka_spans import assert_received, assert_sent, spans_of
from tests.support.otlp import Collector, values
from tests.support.process import SidecarProcess

pytestmark = pytest.mark.services

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
PATIENCE = 60.0


def address(sidecar: SidecarProcess) -> str:
    """Where clients of Kafka find the sidecar."""
    return f"127.0.0.1:{sidecar.outbound[0]}"


async def assert_all_sent(
    sent: list[Message], there: list[Record], collector: Collector, topic: str, cluster: Kafka
) -> list[Span]:
    """All of it is in the topic, with the contexts of its spans, which are returned."""
    assert as_sent(there) == by_partition(sent)
    spans = await spans_of(collector, "send", topic, len(sent))
    assert_sent(spans, there, cluster)
    return spans


@pytest.mark.parametrize("codec", CODECS)
async def test_every_record_is_there_with_the_context_of_its_span(
    kafka: Kafka, brokered: Brokered, collector: Collector, codec: str
) -> None:
    topic = kafka.topic(f"codec-{codec}", 3)
    sidecar = await brokered(kafka)
    sent = messages(600, 3)
    await asyncio.to_thread(
        produce, address(sidecar), topic, sent, compression_codec=codec, linger_ms=50
    )
    there = await asyncio.to_thread(read, kafka.bootstrap(), topic)
    spans = await assert_all_sent(sent, there, collector, topic, kafka)
    assert len(spans) < len(sent) / 10

    assert await asyncio.to_thread(read, address(sidecar), topic) == there
    assert_received(await spans_of(collector, "poll", topic, len(sent)), spans, "", kafka)


async def test_the_same_through_the_broker_of_the_version_before(
    older_kafka: Kafka, brokered: Brokered, collector: Collector
) -> None:
    topic = older_kafka.topic("older", 2)
    sidecar = await brokered(older_kafka)
    sent = messages(300, 2)
    for codec in CODECS:
        await asyncio.to_thread(
            produce, address(sidecar), topic, sent, compression_codec=codec, linger_ms=50
        )
    there = await asyncio.to_thread(read, older_kafka.bootstrap(), topic)
    spans = await assert_all_sent(sent * len(CODECS), there, collector, topic, older_kafka)
    assert await asyncio.to_thread(read, address(sidecar), topic) == there
    polled = await spans_of(collector, "poll", topic, len(there))
    assert_received(polled, spans, "", older_kafka)


async def test_a_span_for_each_record(
    kafka: Kafka, brokered: Brokered, collector: Collector
) -> None:
    topic = kafka.topic("per-record")
    sidecar = await brokered(kafka, kafka={"per_record": True, "consumer_spans": True})
    sent = messages(50)
    await asyncio.to_thread(produce, address(sidecar), topic, sent, linger_ms=50)
    there = await asyncio.to_thread(read, address(sidecar), topic)
    spans = await assert_all_sent(sent, there, collector, topic, kafka)
    assert len(spans) == len(sent)
    received = await spans_of(collector, "receive", topic, len(sent))
    parents = {values(span)["messaging.kafka.offset"]: span.span_id for span in spans}
    assert parents == {
        values(span)["messaging.kafka.offset"]: span.parent_span_id for span in received
    }


async def test_records_that_have_a_context_keep_it(
    kafka: Kafka, brokered: Brokered, collector: Collector
) -> None:
    topic = kafka.topic("carrying")
    sidecar = await brokered(kafka)
    own = ("traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
    sent = [
        Message(0, None, str(number).encode(), (own,) if number % 2 else ()) for number in range(20)
    ]
    await asyncio.to_thread(produce, address(sidecar), topic, sent, linger_ms=50)
    there = await asyncio.to_thread(read, kafka.bootstrap(), topic)
    assert len(there) == len(sent)
    for before, after in zip(sent, there, strict=True):
        if before.headers:
            assert after.message == before
        else:
            assert after.context != own[1].decode()


# Transactions


async def test_transactions_are_committed_and_aborted(
    kafka: Kafka, brokered: Brokered, collector: Collector
) -> None:
    topic = kafka.topic("transactions", 2)
    sidecar = await brokered(kafka)
    parts = [numbered(200, 2, size) for size in (50, 60, 70)]
    await asyncio.to_thread(_three_transactions, address(sidecar), topic, parts)
    everything = by_partition([each for part in parts for each in part])
    committed = by_partition(parts[0] + parts[2])
    for where in (kafka.bootstrap(), address(sidecar)):
        there = await asyncio.to_thread(read, where, topic, isolation_level="read_committed")
        assert as_sent(there) == committed
    there = await asyncio.to_thread(
        read, kafka.bootstrap(), topic, isolation_level="read_uncommitted"
    )
    assert as_sent(there) == everything
    assert_sent(await spans_of(collector, "send", topic, 600), there, kafka)


def _three_transactions(bootstrap: str, topic: str, parts: list[list[Message]]) -> None:
    """The second one is aborted, after its messages have reached the brokers."""
    producer = Producer(
        {"bootstrap.servers": bootstrap, "transactional.id": topic, "linger.ms": 20}
    )
    producer.init_transactions(PATIENCE)
    refused: list[object] = []
    for part in parts:
        producer.begin_transaction()
        for each in part:
            enqueue(producer, topic, each, refused)
        assert producer.flush(PATIENCE) == 0
        if part is parts[1]:
            producer.abort_transaction(PATIENCE)
        else:
            producer.commit_transaction(PATIENCE)
    assert not refused


async def test_consume_transform_produce(
    kafka: Kafka, brokered: Brokered, collector: Collector
) -> None:
    """Exactly once from one topic into another, also the part that is aborted and done again."""
    source, target = kafka.topic("source"), kafka.topic("target")
    sidecar = await brokered(kafka)
    sent = numbered(200)
    await asyncio.to_thread(produce, kafka.bootstrap(), source, sent)
    await asyncio.to_thread(_transform, address(sidecar), source, target, len(sent))
    there = await asyncio.to_thread(
        read, kafka.bootstrap(), target, isolation_level="read_committed"
    )
    assert [each.message.value for each in there] == [each.value for each in sent]


def _transform(bootstrap: str, source: str, target: str, count: int) -> None:
    options = {"bootstrap.servers": bootstrap}
    producer = Producer(options | {"transactional.id": target})
    consumer = Consumer(
        options | {"group.id": target, "auto.offset.reset": "earliest", "enable.auto.commit": False}
    )
    consumer.subscribe([source])
    producer.init_transactions(PATIENCE)
    done, aborted = 0, False
    while done < count:
        polled = consumer.consume(50, PATIENCE)
        assert polled
        producer.begin_transaction()
        for each in polled:
            producer.produce(target, record(each).message.value)
        position = consumer.position(consumer.assignment())
        producer.send_offsets_to_transaction(position, consumer.consumer_group_metadata())
        if done and not aborted:
            aborted = True
            producer.abort_transaction(PATIENCE)
            for each in consumer.committed(consumer.assignment(), PATIENCE):
                consumer.seek(each)
        else:
            producer.commit_transaction(PATIENCE)
            done += len(polled)
    assert aborted
    consumer.close()


async def test_an_idempotent_producer(
    kafka: Kafka, brokered: Brokered, collector: Collector
) -> None:
    topic = kafka.topic("idempotent", 2)
    sidecar = await brokered(kafka)
    sent = messages(1000, 2)
    await asyncio.to_thread(
        produce, address(sidecar), topic, sent, enable_idempotence=True, linger_ms=1
    )
    there = await asyncio.to_thread(read, kafka.bootstrap(), topic)
    await assert_all_sent(sent, there, collector, topic, kafka)


# Security: what the client says to authenticate goes to the broker as it is

PASSWORDS = {"sasl.username": USER, "sasl.password": PASSWORD}
MECHANISMS: dict[str, dict[str, Any]] = {
    "PLAIN": PASSWORDS,
    "SCRAM-SHA-256": PASSWORDS,
    "OAUTHBEARER": {
        "enable.sasl.oauthbearer.unsecure.jwt": True,
        "sasl.oauthbearer.config": f"principal={USER}",
    },
}


@pytest.mark.parametrize("listener", ["SASL_PLAINTEXT", "SASL_SSL"])
@pytest.mark.parametrize("mechanism", MECHANISMS)
async def test_sasl_passes_through(
    kafka: Kafka, brokered: Brokered, collector: Collector, listener: str, mechanism: str
) -> None:
    """The sidecar speaks TLS where the brokers want it; its client need not."""
    topic = kafka.topic(f"{listener}-{mechanism}", 3)
    route = {"upstream_tls": {"ca": str(kafka.ca)}} if listener == "SASL_SSL" else {}
    sidecar = await brokered(kafka, listener, **route)
    client = MECHANISMS[mechanism] | {
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": mechanism,
    }
    sent = messages(90, 3)
    await asyncio.to_thread(produce, address(sidecar), topic, sent, **client)
    there = await asyncio.to_thread(read, address(sidecar), topic, **client)
    await assert_all_sent(sent, there, collector, topic, kafka)


async def test_a_wrong_password_is_refused_by_the_broker(kafka: Kafka, brokered: Brokered) -> None:
    sidecar = await brokered(kafka, "SASL_PLAINTEXT")
    errors: asyncio.Queue[str] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    producer = Producer(
        {
            "bootstrap.servers": address(sidecar),
            "security.protocol": "SASL_PLAINTEXT",
            "sasl.mechanism": "PLAIN",
            "sasl.username": USER,
            "sasl.password": "wrong",
            "error_cb": lambda error: loop.call_soon_threadsafe(errors.put_nowait, error.name()),
        }
    )
    polling = asyncio.create_task(asyncio.to_thread(producer.poll, 10))
    async with asyncio.timeout(10):
        assert await errors.get() == "_AUTHENTICATION"
    await polling


async def test_tls_to_the_brokers(kafka: Kafka, brokered: Brokered, collector: Collector) -> None:
    topic = kafka.topic("tls", 3)
    sidecar = await brokered(kafka, "SSL", upstream_tls={"ca": str(kafka.ca)})
    sent = messages(300, 3)
    await asyncio.to_thread(produce, address(sidecar), topic, sent, linger_ms=20)
    there = await asyncio.to_thread(read, address(sidecar), topic)
    await assert_all_sent(sent, there, collector, topic, kafka)


# What others may do to topics


async def test_topics_are_administered_through_the_sidecar(
    kafka: Kafka, brokered: Brokered
) -> None:
    """Create, offsets by time, delete: requests that the sidecar does not read."""
    sidecar = await brokered(kafka)

    def administer() -> None:
        admin = AdminClient({"bootstrap.servers": address(sidecar)})
        settle(admin.create_topics([NewTopic("administered", 2, 3)]))
        produce(address(sidecar), "administered", numbered(10))
        consumer = Consumer({"bootstrap.servers": address(sidecar), "group.id": "offsets"})
        low, high = consumer.get_watermark_offsets(TopicPartition("administered", 0), PATIENCE)
        assert (low, high) == (0, 10)
        consumer.close()
        settle(admin.delete_topics(["administered"]))

    await asyncio.to_thread(administer)
