"""What the admin endpoints tell."""

from __future__ import annotations

import json
import re

from tests.support.fixtures import Start
from tests.support.inprocess import fetch
from tests.support.otlp import Collector
from tests.support.raw import App

TRACE = "0af7651916cd43dd8448eb211c80319c"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def request(path: str) -> bytes:
    return (
        f"GET {path} HTTP/1.1\r\nHost: a\r\ntraceparent: 00-{TRACE}-b7ad6b7169203331-01\r\n\r\n"
    ).encode()


async def test_the_endpoints_show_what_went_by(
    collector: Collector, start: Start, app: App
) -> None:
    proxy = await start(
        {
            "service": {"name": "cart"},
            "inbound": [{"upstream": f"127.0.0.1:{app.port}"}],
            "outbound": [{"upstream": f"127.0.0.1:{app.port}", "peer": "pricing"}],
            "export": [
                {"type": "otlp", "endpoint": collector.endpoint, "headers": {"k": "secret"}}
            ],
        }
    )
    client = await proxy.client(proxy.inbound[0])
    await client.send(request("/users/17?q=1"))
    upstream = await app.accept()
    await upstream.head()
    (row,) = json.loads((await proxy.get("/inflight"))[1])["requests"]
    assert (row["route"], row["trace_id"]) == ("GET /users/{id}", TRACE)

    call = await proxy.client(proxy.outbound[0])  # carries no context: a gap, and mended
    await call.send(b"GET /price HTTP/1.1\r\nHost: pricing\r\n\r\n")
    callee = await app.accept()
    assert TRACE.encode() in await callee.head()
    await callee.send(OK)
    await call.expect(OK)
    await upstream.send(OK)
    await client.expect(OK)
    await proxy.span()
    await proxy.span()

    shown = json.loads((await proxy.get("/spans"))[1])
    server, called = shown["spans"]
    assert (server["name"], server["kind"]) == ("GET /users/{id}", "SERVER")
    assert (called["name"], called["kind"]) == ("GET /price", "CLIENT")
    assert called["parent_span_id"] == server["span_id"]
    assert server["parent_span_id"] == "b7ad6b7169203331"
    (gap,) = json.loads((await proxy.get("/gaps"))[1])["gaps"]
    assert (gap["service"], gap["kind"], gap["destination"]) == ("cart", "dropped", "pricing")
    assert gap["example_trace_ids"] == [TRACE]
    assert json.loads((await proxy.get("/inflight"))[1])["requests"] == []

    status, config = await proxy.get("/config")
    assert status == 200
    assert json.loads(config)["service"]["name"] == "cart"
    assert "secret" not in config


async def test_metrics_are_prometheus_text(start: Start, app: App) -> None:
    proxy = await start({"inbound": [{"upstream": f"127.0.0.1:{app.port}"}]})
    client = await proxy.client()
    await client.send(request("/a"))
    upstream = await app.accept()
    await upstream.head()
    assert await proxy.metric("meshproxy_requests_in_flight") == 1
    await upstream.send(OK)
    await client.expect(OK)
    labels = {"direction": "inbound", "method": "GET", "route": "/a"}
    assert await proxy.metric("meshproxy_requests_total", status="200", **labels) == 1
    durations = "meshproxy_request_duration_seconds"
    assert await proxy.metric(f"{durations}_bucket", le="+Inf", **labels) == 1
    assert await proxy.metric(f"{durations}_count", **labels) == 1
    assert await proxy.metric("meshproxy_requests_in_flight") == 0
    assert await proxy.metric("meshproxy_connections") == 1
    assert await proxy.metric("meshproxy_build_info") == 1
    text = (await proxy.get("/metrics"))[1]
    for line in text.splitlines():
        assert re.fullmatch(r"# (HELP|TYPE) \w+ .+|\w+(\{.*\})? [-+0-9.einfa]+", line), line


async def test_health_shows_nothing_else(start: Start, app: App) -> None:
    proxy = await start({"inbound": [{"upstream": f"127.0.0.1:{app.port}"}]})
    health = proxy.sidecar.config.health
    assert health is not None
    port = int(health.listen.rpartition(":")[2])
    assert await fetch(port, "/healthz") == (200, "ok\n")
    assert await fetch(port, "/readyz") == (200, "ready\n")
    for path in ("/metrics", "/config", "/spans", "/quitquitquit"):
        assert (await fetch(port, path, "POST" if "quit" in path else "GET"))[0] == 404
    status, index = await proxy.get("/")
    assert status == 200
    assert "GET /metrics\n" in index
    assert "POST /quitquitquit\n" in index
