"""Clients of Kafka other than librdkafka, through a sidecar: Java's own, aiokafka, kafka-python."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from tests.services.conftest import Brokered
from tests.services.kit import java
from tests.services.kit.kafka import Kafka
from tests.services.kit.programs import kafka202
from tests.services.kit.run import run
from tests.support.kafka_records import as_sent, by_partition, messages, numbered, produce, read
from tests.support.kafka_spans import assert_received, assert_sent, spans_of
from tests.support.otlp import Collector
from tests.support.process import SidecarProcess

pytestmark = pytest.mark.services

CLIENTS = Path(__file__).parent / "clients"
CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
TOOLS = "org.apache.kafka.tools"


def address(sidecar: SidecarProcess) -> str:
    """Where clients of Kafka find the sidecar."""
    return f"127.0.0.1:{sidecar.outbound[0]}"


# Java


async def test_java_with_all_codecs(kafka: Kafka, brokered: Brokered, collector: Collector) -> None:
    topic = kafka.topic("java-codecs", len(CODECS))
    sidecar = await brokered(kafka)
    found = await java.client("codecs", address(sidecar), topic)
    assert found == {codec: ["199", "200"] for codec in CODECS}
    there = await asyncio.to_thread(read, kafka.bootstrap(), topic)
    spans = await spans_of(collector, "send", topic, 1000)
    assert_sent(spans, there, kafka)
    assert_received(await spans_of(collector, "poll", topic, 1000), spans, "", kafka)


async def test_java_with_transactions(
    kafka: Kafka, brokered: Brokered, collector: Collector
) -> None:
    topic = kafka.topic("java-transactions", 2)
    sidecar = await brokered(kafka)
    found = await java.client("transactions", address(sidecar), topic)
    assert found == {"offset": ["7"], "committed": ["400"], "all": ["600"]}
    there = await asyncio.to_thread(
        read, kafka.bootstrap(), topic, isolation_level="read_uncommitted"
    )
    assert_sent(await spans_of(collector, "send", topic, 600), there, kafka)


async def test_java_in_a_share_group_is_told_that_there_are_none(
    kafka: Kafka, brokered: Brokered
) -> None:
    """Its brokers are named in answers that are not read, so the sidecar does not offer them."""
    topic = kafka.topic("java-share")
    sidecar = await brokered(kafka)
    await asyncio.to_thread(produce, address(sidecar), topic, numbered(10))
    assert await java.client("share", address(sidecar), topic) == {"share": ["unsupported"]}
    assert len(await asyncio.to_thread(read, address(sidecar), topic)) == 10


@pytest.mark.parametrize("codec", ["none", "zstd"])
async def test_the_console_producer_and_consumer(
    kafka: Kafka, brokered: Brokered, collector: Collector, codec: str
) -> None:
    topic = kafka.topic(f"console-{codec}")
    sidecar = await brokered(kafka)
    lines = [f"line {number} ünïcode" for number in range(200)]
    where = ("--bootstrap-server", address(sidecar), "--topic", topic)
    feed = "\n".join(lines).encode() + b"\n"
    await java.tool(f"{TOOLS}.ConsoleProducer", *where, f"--compression-codec={codec}", feed=feed)
    said = await java.tool(
        f"{TOOLS}.consumer.ConsoleConsumer",
        *where,
        *("--from-beginning", "--max-messages", "200", "--group", f"{topic}-group"),
        *("--formatter-property", "print.headers=true"),
    )
    shown = [line.split("\t") for line in said.splitlines()]
    assert [text for _, text in shown] == lines
    assert all(re.fullmatch(r"traceparent:00-[\w-]+(,tracestate:.+)?", each) for each, _ in shown)
    there = await asyncio.to_thread(read, kafka.bootstrap(), topic)
    spans = await spans_of(collector, "send", topic, 200)
    assert_sent(spans, there, kafka)
    received = await spans_of(collector, "poll", topic, 200)
    assert_received(received, spans, f"{topic}-group", kafka)


async def test_the_performance_tests(
    kafka: Kafka, brokered: Brokered, collector: Collector
) -> None:
    topic = kafka.topic("performance", 3)
    sidecar = await brokered(kafka)
    where = ("--bootstrap-server", address(sidecar), "--topic", topic)
    said = await java.tool(
        f"{TOOLS}.ProducerPerformance",
        *where,
        *("--num-records", "50000", "--record-size", "200", "--throughput", "-1"),
        *("--command-property", "acks=all", "compression.type=lz4"),
    )
    assert "50000 records sent" in said
    said = await java.tool(
        f"{TOOLS}.ConsumerPerformance", *where, "--num-records", "50000", "--hide-header"
    )
    assert int(said.split(", ")[4]) == 50000
    spans = await spans_of(collector, "send", topic, 50000)
    there = await asyncio.to_thread(read, kafka.bootstrap(), topic)
    assert all(each.message.value is not None and len(each.message.value) == 200 for each in there)
    assert_sent(spans, there, kafka)


async def test_brokers_are_all_found_behind_the_sidecar(kafka: Kafka, brokered: Brokered) -> None:
    """kafka-broker-api-versions.sh asks each broker what it can: each at a place of its own."""
    sidecar = await brokered(kafka)
    said = await java.tool(
        f"{TOOLS}.BrokerApiVersionsCommand", "--bootstrap-server", address(sidecar)
    )
    places = re.findall(r"^(\S+):(\d+) \(id: (\d)", said, re.MULTILINE)
    assert {int(node) for _, _, node in places} == set(kafka.brokers)
    assert not {int(port) for _, port, _ in places} & {
        port for each in kafka.brokers.values() for port in each.ports.values()
    }
    assert "Produce(0)" in said
    assert "ShareFetch(78): UNSUPPORTED" in said


async def test_the_older_console_on_the_older_broker(
    older_kafka: Kafka, brokered: Brokered, collector: Collector
) -> None:
    topic = older_kafka.topic("older-console")
    sidecar = await brokered(older_kafka)
    lines = [f"line {number}" for number in range(100)]
    where = ("--bootstrap-server", address(sidecar), "--topic", topic)
    version = older_kafka.version
    feed = "\n".join(lines).encode() + b"\n"
    await java.tool("kafka.tools.ConsoleProducer", *where, version=version, feed=feed)
    said = await java.tool(
        f"{TOOLS}.consumer.ConsoleConsumer",
        *(*where, "--from-beginning", "--max-messages", "100"),
        version=version,
    )
    assert said.splitlines() == lines
    there = await asyncio.to_thread(read, older_kafka.bootstrap(), topic)
    assert_sent(await spans_of(collector, "send", topic, 100), there, older_kafka)


# Python


@pytest.mark.parametrize("broker", ["kafka", "older_kafka"])
async def test_kafka_python_of_long_ago(
    request: pytest.FixtureRequest, brokered: Brokered, collector: Collector, broker: str
) -> None:
    cluster: Kafka = request.getfixturevalue(broker)
    topic = cluster.topic("kafka202", 2)
    sidecar = await brokered(cluster)
    script = (kafka202("python"), str(CLIENTS / "kafka202.py"))
    said = json.loads(await run(*script, address(sidecar), topic, "gzip"))
    assert said["offsets"] == [number // 2 for number in range(100)]
    expected = {f"key {number}": f"value {number} " * 20 for number in range(100)}
    assert {each["key"]: each["value"] for each in said["found"]} == expected
    names = {name for each in said["found"] for name in each["headers"]}
    assert names >= {"number", "traceparent"}
    there = await asyncio.to_thread(read, cluster.bootstrap(), topic)
    spans = await spans_of(collector, "send", topic, 100)
    assert_sent(spans, there, cluster)
    received = await spans_of(collector, "poll", topic, 100)
    assert_received(received, spans, topic, cluster)


@pytest.mark.parametrize("codec", [None, "gzip", "snappy", "lz4", "zstd"])
async def test_aiokafka(
    kafka: Kafka, brokered: Brokered, collector: Collector, codec: str | None
) -> None:
    topic = kafka.topic(f"aiokafka-{codec}", 3)
    sidecar = await brokered(kafka)
    # It sends no header without a value, and no message with neither key nor value.
    sent = [
        each._replace(headers=tuple((name, value or b"") for name, value in each.headers))
        for each in messages(350, 3)
        if each.key is not None or each.value is not None
    ]
    producer = AIOKafkaProducer(
        bootstrap_servers=address(sidecar), acks="all", compression_type=codec, linger_ms=20,
        enable_idempotence=True,
    )  # fmt: skip
    async with producer:
        waiting = [
            await producer.send(
                topic, each.value, each.key, each.partition, each.timestamp, list(each.headers)
            )
            for each in sent
        ]
        await asyncio.gather(*waiting)
    there = await asyncio.to_thread(read, kafka.bootstrap(), topic)
    assert as_sent(there) == by_partition(sent)
    spans = await spans_of(collector, "send", topic, len(sent))
    assert_sent(spans, there, kafka)
    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=address(sidecar), group_id=f"{topic}-group",
        auto_offset_reset="earliest",
    )  # fmt: skip
    async with consumer, asyncio.timeout(60):
        got = [await consumer.getone() for _ in sent]
    assert sorted((each.partition, each.offset) for each in got) == sorted(
        (each.message.partition, each.offset) for each in there
    )
    received = await spans_of(collector, "poll", topic, len(sent))
    assert_received(received, spans, f"{topic}-group", kafka)
