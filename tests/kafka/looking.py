"""How tests look at the spans of messages."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.kafka.mock_cluster import MockCluster
from tests.kafka.relay import Relay
from tests.support.kafka_records import Record
from tests.support.kafka_spans import size
from tests.support.otlp import Collector, values
from tests.support.raw import PATIENCE

PRODUCER = Span.SpanKind.SPAN_KIND_PRODUCER
CONSUMER = Span.SpanKind.SPAN_KIND_CONSUMER
CLIENT = Span.SpanKind.SPAN_KIND_CLIENT
SERVER = Span.SpanKind.SPAN_KIND_SERVER


async def until(collector: Collector, enough: Callable[[], bool]) -> None:
    """Wait for spans until there are enough of them."""
    async with asyncio.timeout(PATIENCE):
        while not enough():
            await collector.wait_for(len(collector.spans) + 1)


def named(collector: Collector, name: str) -> list[Span]:
    return [span for span in collector.spans if span.name == name]


def ids(span: Span) -> str:
    """Trace and span as a traceparent names them."""
    return f"{span.trace_id.hex()}-{span.span_id.hex()}"


def assert_sent(spans: Sequence[Span], there: Sequence[Record], to: MockCluster | Relay) -> None:
    """Each record has the context of the one span that tells of it, as its broker stored it."""
    known = {ids(span): span for span in spans}
    assert len(known) == len(spans)
    told = dict.fromkeys(known, 0)
    for record in there:
        found = record.context[3:52]
        told[found] += 1
        attributes = values(known[found])
        first = attributes["messaging.kafka.offset"]
        assert isinstance(first, int)
        assert first <= record.offset < first + size(known[found])
        assert attributes["messaging.destination.partition.id"] == str(record.message.partition)
    assert told == {each: size(span) for each, span in known.items()}
    for span in spans:
        attributes = values(span)
        assert span.kind == PRODUCER
        assert attributes["messaging.system"] == "kafka"
        address = f"{attributes['server.address']}:{attributes['server.port']}"
        assert address in to.brokers.values()
