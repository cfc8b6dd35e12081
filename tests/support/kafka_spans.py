"""Spans of messages, and whether they tell what is in the topics."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.services.kit.kafka import Kafka
from tests.support.kafka_records import Record
from tests.support.otlp import Collector, values

PATIENCE = 15.0


async def spans_of(
    collector: Collector, operation: str, topic: str, count: int, *, again: bool = False
) -> list[Span]:
    """The spans of an operation on a topic, as soon as they stand for ``count`` messages.

    ``again``: they may stand for more, as a message is fetched again after a rebalance.
    """
    name = f"{operation} {topic}"
    try:
        async with asyncio.timeout(PATIENCE):
            while True:
                seen = len(collector.spans)
                found = [span for span in collector.spans if span.name == name]
                if sum(map(size, found)) >= count:
                    break
                await collector.wait_for(seen + 1, within=PATIENCE)
    except TimeoutError:
        told = [(span.name, size(span)) for span in collector.spans]
        raise AssertionError(f"of {count} messages: {told}") from None
    assert again or sum(map(size, found)) == count
    return found


def size(span: Span) -> int:
    """How many messages a span stands for."""
    count = values(span).get("messaging.batch.message_count", 1)
    assert isinstance(count, int)
    return count


def assert_sent(spans: Sequence[Span], records: Sequence[Record], cluster: Kafka) -> None:
    """Each record has the context of the one span that tells of it, as its broker stored it."""
    by_id = {span.span_id.hex(): span for span in spans}
    assert len(by_id) == len(spans)
    told = dict.fromkeys(by_id, 0)
    for record in records:
        _, trace, parent, flags = record.context.split("-")
        span = by_id[parent]
        told[parent] += 1
        assert span.trace_id.hex() == trace
        assert int(flags, 16) & 1
        attributes = values(span)
        first = attributes["messaging.kafka.offset"]
        assert isinstance(first, int)
        assert first <= record.offset < first + size(span)
        assert attributes["messaging.destination.partition.id"] == str(record.message.partition)
    assert told == {each: size(span) for each, span in by_id.items()}
    for span in spans:
        assert_described(span, cluster)
        assert span.kind == Span.SpanKind.SPAN_KIND_PRODUCER
        assert values(span)["messaging.operation.type"] == "send"


def assert_received(
    spans: Sequence[Span], sent: Sequence[Span], group: str, cluster: Kafka
) -> None:
    """Each span of a fetch is linked to all that sent what it brought, and no others."""
    known = {span.span_id: span.trace_id for span in sent}
    linked = {}
    for span in spans:
        assert_described(span, cluster)
        assert span.kind == Span.SpanKind.SPAN_KIND_CLIENT
        assert values(span)["messaging.operation.type"] == "receive"
        assert values(span).get("messaging.consumer.group.name", "") == group
        assert "meshproxy.gap" not in values(span)
        linked |= {link.span_id: link.trace_id for link in span.links}
    assert linked == known


def assert_described(span: Span, cluster: Kafka) -> None:
    """What every span of messaging says; the address is the broker's own."""
    attributes = values(span)
    assert attributes["messaging.system"] == "kafka"
    assert span.name.endswith(f" {attributes['messaging.destination.name']}")
    assert attributes["server.address"] == "localhost"
    port = attributes["server.port"]
    assert isinstance(port, int)
    assert cluster.node_at(port)
    assert span.start_time_unix_nano <= span.end_time_unix_nano
