"""Telemetry loses to traffic: a backend that is away costs no request; every span is counted."""

from __future__ import annotations

import json
from typing import Any

import pytest

from meshproxy.export import retry
from tests.support.fixtures import Start
from tests.support.inprocess import InProcess
from tests.support.otlp import Collector, values
from tests.support.raw import App, Peer

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A minute's outage within a second."""
    monkeypatch.setattr(retry, "FIRST_DELAY", 0.02)
    monkeypatch.setattr(retry, "MAX_DELAY", 0.1)


async def ask(client: Peer, upstream: Peer, count: int) -> None:
    for _ in range(count):
        await client.send(GET)
        await upstream.head()
        await upstream.send(OK)
        await client.expect(OK)


async def exporter(proxy: InProcess) -> dict[str, Any]:
    (stats,) = json.loads((await proxy.get("/spans"))[1])["exporters"]
    return dict(stats)


async def failed(proxy: InProcess, times: int) -> None:
    """Wait until so many attempts to send have failed, while traffic goes on."""
    while (await exporter(proxy))["failures"] < times:
        pass


async def begin(start: Start, app: App, collector: Collector, **settings: Any) -> InProcess:
    export = {"type": "otlp", "endpoint": collector.endpoint} | settings
    return await start({"inbound": [{"upstream": f"127.0.0.1:{app.port}"}], "export": [export]})


async def test_a_backend_that_is_away_for_a_while_costs_nothing(
    collector: Collector, start: Start, app: App
) -> None:
    proxy = await begin(start, app, collector, queue={"interval": "10ms"})
    client = await proxy.client()
    await client.send(GET)
    upstream = await app.accept()
    await upstream.head()
    await upstream.send(OK)
    await client.expect(OK)
    (span,) = await collector.wait_for(1)
    assert span.name == "GET /"
    assert values(span)["http.response.status_code"] == 200
    await collector.stop()
    await ask(client, upstream, 30)
    await failed(proxy, 3)
    await ask(client, upstream, 30)
    await collector.start()
    spans = await collector.wait_for(61)
    assert len({span.span_id for span in spans}) == 61
    stats = await exporter(proxy)
    assert stats["dropped"] == {}


async def test_what_does_not_fit_is_dropped_and_counted(
    collector: Collector, start: Start, app: App
) -> None:
    proxy = await begin(
        start, app, collector, queue={"size": 10, "batch": 5, "interval": "10ms"}, retry_for="10s"
    )
    await collector.stop()
    client = await proxy.client()
    await client.send(GET)
    upstream = await app.accept()
    await upstream.head()
    await upstream.send(OK)
    await client.expect(OK)
    await failed(proxy, 1)
    await ask(client, upstream, 49)
    await collector.start()
    stats = await exporter(proxy)
    while stats["queued"]:
        stats = await exporter(proxy)
    dropped = sum(stats["dropped"].values())
    assert stats["sent"] + dropped == 50
    assert dropped >= 30
    assert len(collector.spans) == stats["sent"]
    assert "meshproxy_spans_dropped_total" in (await proxy.get("/metrics"))[1]
