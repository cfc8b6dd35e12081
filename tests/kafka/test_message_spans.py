"""The spans of what is sent and received, and the gaps where messages come without context."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.kafka.bed import Sidecar, Through, stored
from tests.kafka.clients import AIOKAFKA, CLIENTS, Client
from tests.kafka.looking import CLIENT, CONSUMER, assert_sent, named, until
from tests.kafka.mock_cluster import PARTITIONS, MockCluster
from tests.support.kafka_records import numbered
from tests.support.kafka_spans import size, spans_of
from tests.support.otlp import Collector, values

clients = pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)


def linked(spans: Sequence[Span]) -> set[tuple[bytes, bytes]]:
    return {(link.trace_id, link.span_id) for span in spans for link in span.links}


@clients
async def test_one_span_for_each_batch_and_each_fetch(
    client: Client, cluster: MockCluster, sidecar: Sidecar, collector: Collector, topic: str
) -> None:
    messages = numbered(120, PARTITIONS)
    await client.produce(sidecar.address, topic, messages)
    sent = await spans_of(collector, "send", topic, len(messages))
    assert len(sent) < len(messages) / 4
    assert_sent(sent, await stored(cluster, topic), cluster)

    await client.read(sidecar.address, topic, len(messages))
    await until(collector, lambda: sum(map(size, named(collector, f"poll {topic}"))) >= 120)
    polls = named(collector, f"poll {topic}")
    assert linked(polls) == {(span.trace_id, span.span_id) for span in sent}
    for span in polls:
        assert span.kind == CLIENT
        assert "messaging.consumer.group.name" not in values(span)
        assert "meshproxy.gap" not in values(span)
    assert await counted(sidecar, topic, "send", "injected") == len(messages)
    assert await counted(sidecar, topic, "receive", "with_context") >= len(messages)


async def test_a_span_for_each_message(
    cluster: MockCluster, through: Through, collector: Collector, topic: str
) -> None:
    sidecar = await through(per_record=True, consumer_spans=True)
    messages = numbered(8, PARTITIONS)
    await AIOKAFKA.produce(sidecar.address, topic, messages)
    there = await stored(cluster, topic)
    await AIOKAFKA.read(sidecar.address, topic, len(there))
    sent = await spans_of(collector, "send", topic, len(messages))
    assert len(sent) == len(messages)
    assert_sent(sent, there, cluster)
    received = await spans_of(collector, "receive", topic, len(messages))
    assert {span.kind for span in received} == {CONSUMER}
    assert {place(span): (span.trace_id, span.parent_span_id) for span in received} == {
        place(span): (span.trace_id, span.span_id) for span in sent
    }


def place(span: Span) -> tuple[object, object]:
    """Partition and offset."""
    attributes = values(span)
    return attributes["messaging.destination.partition.id"], attributes["messaging.kafka.offset"]


async def test_messages_without_context_are_a_gap(
    cluster: MockCluster, sidecar: Sidecar, collector: Collector, topic: str
) -> None:
    await AIOKAFKA.produce(cluster.bootstrap, topic, numbered(5))
    await AIOKAFKA.read(sidecar.address, topic, 5)
    polls = await spans_of(collector, "poll", topic, 5)
    assert {values(span)["meshproxy.gap"] for span in polls} == {"consumer-lost"}
    assert linked(polls) == set()
    assert await counted(sidecar, topic, "receive", "without_context") == 5
    (gap,) = await gaps(sidecar, topic)
    assert (gap["kind"], gap["route"], gap["count"]) == ("consumer-lost", "(unknown group)", 5)
    traces = [span.trace_id.hex() for span in polls]
    assert set(gap["example_trace_ids"]) <= set(traces)


async def gaps(sidecar: Sidecar, topic: str) -> list[dict[str, Any]]:
    """The report's rows for a topic."""
    found = json.loads((await sidecar.get("/gaps"))[1])["gaps"]
    return [gap for gap in found if gap["destination"] == topic]


async def counted(sidecar: Sidecar, topic: str, operation: str, result: str) -> float:
    labels = {"destination": topic, "operation": operation, "result": result}
    return await sidecar.metric("meshproxy_messages_total", **labels)
