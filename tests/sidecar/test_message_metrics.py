"""Messages and what happens on Kafka connections are counted, by bounded labels."""

from __future__ import annotations

import pytest

from meshproxy import stats
from meshproxy.linking.inflight import Cause
from meshproxy.trace.context import SpanContext
from tests.support.fixtures import Start
from tests.support.raw import App


async def test_messages_and_events_are_shown(start: Start, app: App) -> None:
    proxy = await start({"outbound": [{"upstream": f"127.0.0.1:{app.port}"}]})
    counters = proxy.sidecar.stats
    counters.message("send", "orders", "injected", 3)
    counters.message("send", "orders", "injected")
    counters.message("receive", "orders", "root")
    counters.kafka["frame_too_large", "produce"] += 2
    name = "meshproxy_messages_total"
    assert await proxy.metric(name, operation="send", destination="orders", result="injected") == 4
    assert await proxy.metric(name, operation="receive", destination="orders", result="root") == 1
    name = "meshproxy_kafka_events_total"
    assert await proxy.metric(name, event="frame_too_large", detail="produce") == 2


async def test_messages_in_flight_are_no_requests(start: Start, app: App) -> None:
    proxy = await start({"outbound": [{"upstream": f"127.0.0.1:{app.port}"}]})
    sidecar = proxy.sidecar
    cause = Cause(SpanContext(b"\1" * 16, b"\1" * 8), "receive orders", 0)
    sidecar.inflight.add(cause)
    sidecar.stats.messages_in_flight += 1
    assert await proxy.metric("meshproxy_messages_in_flight") == 1
    assert await proxy.metric("meshproxy_requests_in_flight") == 0
    sidecar.inflight.remove(cause)


def test_topics_without_end_share_one_series(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stats, "MAX_SERIES", 3)
    counters = stats.Stats()
    for number in range(10):
        counters.message("send", f"topic-{number}", "injected", 2)
    counters.message("send", "topic-0", "injected")
    assert len(counters.messages) == 4
    assert counters.messages["send", stats.OTHER, "injected"] == 14
    assert counters.messages["send", "topic-0", "injected"] == 3
