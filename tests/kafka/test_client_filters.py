"""The client filters behind the wire filter: each message has one span of either, not of both."""

from __future__ import annotations

import aiokafka
import pytest

from filters.kafka.client import AIOKafkaConsumer, AIOKafkaProducer, process
from meshproxy.inprocess import Tracer, request_context
from meshproxy.inprocess.settings import BEHIND_SIDECAR
from meshproxy.trace.sampling import Sampler
from meshproxy.trace.span import Kind, Span
from tests.kafka.bed import Sidecar, stored
from tests.kafka.clients import POLL_MS
from tests.kafka.looking import PRODUCER, assert_sent, ids, named
from tests.kafka.mock_cluster import MockCluster
from tests.support.kafka_spans import spans_of
from tests.support.otlp import Collector

TRACE = "0af7651916cd43dd8448eb211c80319c"
COUNT = 10


class Finished:
    """The spans that the application itself has made."""

    def __init__(self) -> None:
        self.spans: list[Span] = []

    def start(self) -> None:
        """Nothing to start."""

    def offer(self, span: Span) -> None:
        self.spans.append(span)

    def ids(self, kind: Kind) -> list[str]:
        """Their ids, as in a traceparent."""
        assert {span.shape.kind for span in self.spans} == {kind}
        return [f"{span.trace_id.hex()}-{span.span_id.hex()}" for span in self.spans]


@pytest.fixture
def made() -> Finished:
    return Finished()


@pytest.fixture(autouse=True)
def behind_sidecar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(BEHIND_SIDECAR, "1")


async def send(sidecar: Sidecar, made: Finished, topic: str) -> None:
    async with AIOKafkaProducer(
        bootstrap_servers=sidecar.address, tracer=Tracer(made, Sampler())
    ) as producer:
        for number in range(COUNT):
            await producer.send_and_wait(topic, b"%d" % number, partition=0)


async def test_what_a_request_causes_has_a_span_by_the_client(
    cluster: MockCluster, sidecar: Sidecar, collector: Collector, made: Finished, topic: str
) -> None:
    with request_context({"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}):
        await send(sidecar, made, topic)
    contexts = [each.context for each in await stored(cluster, topic)]
    assert [each[3:52] for each in contexts] == made.ids(Kind.PRODUCER)
    assert {each[3:35] for each in contexts} == {TRACE}
    carried = {"destination": topic, "result": "carried"}
    assert await sidecar.metric("meshproxy_messages_total", **carried) == COUNT
    assert named(collector, f"send {topic}") == []


async def test_what_has_no_cause_is_left_to_the_sidecar(
    cluster: MockCluster, sidecar: Sidecar, collector: Collector, made: Finished, topic: str
) -> None:
    await send(sidecar, made, topic)
    sent = await spans_of(collector, "send", topic, COUNT)
    assert_sent(sent, await stored(cluster, topic), cluster)
    assert made.spans == []


async def test_messages_are_received_by_the_one_and_processed_by_the_other(
    sidecar: Sidecar, collector: Collector, made: Finished, topic: str
) -> None:
    await send(sidecar, made, topic)
    consumer = AIOKafkaConsumer(
        bootstrap_servers=sidecar.address,
        tracer=Tracer(made, Sampler()),
        auto_offset_reset="earliest",
        fetch_max_wait_ms=POLL_MS,
    )
    async with consumer:
        consumer.assign([aiokafka.TopicPartition(topic, 0)])
        for _ in range(COUNT):
            with process(await consumer.getone()):
                pass
    await spans_of(collector, "poll", topic, COUNT)
    sent = {ids(span) for span in collector.spans if span.kind == PRODUCER}
    assert len(made.ids(Kind.CONSUMER)) == COUNT
    assert {f"{each.trace_id.hex()}-{each.parent_id.hex()}" for each in made.spans} == sent
