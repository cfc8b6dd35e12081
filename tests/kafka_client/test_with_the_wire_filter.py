"""Both halves at once: every message has one context and one span that sent it."""

from __future__ import annotations

import pytest

from filters.kafka.client import request_context
from meshproxy.trace.span import Kind
from tests.kafka_client.conftest import Consuming, Producing, Spans
from tests.kafka_client.looking import PARENT, TRACE, TRACEPARENT, named, title
from tests.support.fixtures import Start, app, ports, start

__all__ = ["app", "ports", "start"]


async def test_no_duplicates(
    producing: Producing, consuming: Consuming, brokers: str, start: Start, topic: str,
    spans: Spans, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("MESHPROXY_KAFKA_SIDECAR", "1")
    broker = brokers.partition(",")[0]
    proxy = await start({"outbound": [{"upstream": broker, "protocol": "kafka"}]})
    bootstrap = f"127.0.0.1:{proxy.outbound[0]}"
    producer = await producing(bootstrap_servers=bootstrap)
    with request_context({"traceparent": TRACEPARENT}):
        await producer.send_and_wait(topic, b"with a cause", partition=0)
    ours = spans.one()
    assert (ours.trace_id.hex(), ours.parent_id.hex()) == (TRACE, PARENT)
    assert proxy.no_span()
    await producer.send_and_wait(topic, b"without", partition=0)
    theirs = await proxy.span()
    assert title(theirs) == (f"send {topic}", Kind.PRODUCER)
    assert spans.take() == []
    await producer.stop()

    consumer = await consuming(topic, bootstrap_servers=bootstrap, group_id=f"group-{topic}")
    for sent in (ours, theirs):
        message = await consumer.getone()
        assert named(message).span_id == sent.span_id
        del message
    await consumer.commit()  # ends the messages' being in flight for the sidecar
    await consumer.stop()
    processed = spans.take()
    assert [span.parent_id for span in processed] == [ours.span_id, theirs.span_id]
    assert {title(span) for span in processed} == {(f"process {topic}", Kind.CONSUMER)}
    assert {(await proxy.span()).shape.name} == {f"poll {topic}"}
