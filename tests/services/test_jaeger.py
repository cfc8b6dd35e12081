"""A real backend: what Jaeger shows of a request through two sidecars, and after it was away."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest

from tests.services.conftest import exporter
from tests.services.kit.daemon import Daemons
from tests.services.kit.jaeger import Jaeger, attributes, start_jaeger
from tests.services.kit.origin import Origin
from tests.support.fixtures import Spawn
from tests.support.process import SidecarProcess

pytestmark = pytest.mark.services

OUTSIDE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Shop:
    """Two services, each with its sidecar: ``shop`` calls ``stock`` and passes on no header."""

    def __init__(self, shop: SidecarProcess, stock: SidecarProcess) -> None:
        self.shop = shop
        self.stock = stock

    async def ask(self, session: aiohttp.ClientSession, what: str, **headers: str) -> str:
        """One request to the shop, which asks stock for ``what``; returns the trace id."""
        call = f"http://127.0.0.1:{self.shop.outbound[0]}/{what}"
        url = f"http://127.0.0.1:{self.shop.inbound[0]}/call"
        async with session.get(url, params={"url": call}, headers=headers) as response:
            await response.read()
        return await self.trace_id()

    async def trace_id(self) -> str:
        """The trace of the last request."""
        spans = json.loads((await self.shop.get("/spans"))[1])["spans"]
        return str(spans[0]["trace_id"])


@pytest.fixture
async def jaeger(daemons: Daemons) -> AsyncIterator[Jaeger]:
    jaeger = await start_jaeger(daemons)
    yield jaeger
    await jaeger.daemon.kill()  # it would take its time to end well


async def open_shop(spawn: Spawn, origin: Origin, export: dict[str, Any], **more: Any) -> Shop:
    app = f"127.0.0.1:{origin.port}"
    stock = await spawn(
        {"service": {"name": "stock"}, "inbound": [{"upstream": app}], "export": [export]}
    )
    shop = await spawn(
        {
            "service": {"name": "shop", "version": "2.4.1"},
            "inbound": [{"upstream": app}],
            "outbound": [{"upstream": f"127.0.0.1:{stock.inbound[0]}", "peer": "stock"}],
            "export": [export],
            **more,
        }
    )
    return Shop(shop, stock)


def by_kind(spans: list[dict[str, Any]]) -> Callable[[str, int], dict[str, Any]]:
    return lambda service, kind: next(
        span for span in spans if span["service"] == service and int(span["kind"]) == kind
    )


SERVER, CLIENT = 2, 3

RETRY = 30.0
"""Seconds within which an exporter has noticed that its backend is back."""


async def test_the_whole_tree(
    jaeger: Jaeger, spawn: Spawn, origin: Origin, session: aiohttp.ClientSession
) -> None:
    shop = await open_shop(spawn, origin, exporter(jaeger.endpoint))
    trace_id = await shop.ask(session, "nothing/7")
    spans = await jaeger.spans(trace_id, 3)
    find = by_kind(spans)
    root, call, last = find("shop", SERVER), find("shop", CLIENT), find("stock", SERVER)
    assert not root.get("parentSpanId")
    assert call["parentSpanId"] == root["spanId"]
    assert last["parentSpanId"] == call["spanId"]
    assert attributes(root)["meshproxy.propagation"] == "root"
    assert attributes(call)["meshproxy.propagation"] == "repaired"
    assert attributes(call)["peer.service"] == "stock"
    assert attributes(call)["http.response.status_code"] == "404"
    assert attributes(call)["error.type"] == "404"
    assert int(call["status"]["code"]) == 2
    assert not last.get("status", {}).get("code")
    assert attributes(last)["url.path"] == "/nothing/7"
    assert attributes(last)["meshproxy.propagation"] == "ok"
    assert int(root["startTimeUnixNano"]) <= int(call["startTimeUnixNano"])
    assert int(call["endTimeUnixNano"]) <= int(root["endTimeUnixNano"])


async def test_links(
    jaeger: Jaeger, spawn: Spawn, origin: Origin, session: aiohttp.ClientSession
) -> None:
    """At an edge a trace begins anew, with a link to the one outside."""
    edge = {"propagation": {"trust": "edge"}}
    shop = await open_shop(spawn, origin, exporter(jaeger.endpoint), **edge)
    trace_id = await shop.ask(session, "number/1", traceparent=OUTSIDE)
    assert trace_id != OUTSIDE[3:35]
    root = by_kind(await jaeger.spans(trace_id, 3))("shop", SERVER)
    assert [(link["traceId"], link["spanId"]) for link in root["links"]] == [
        (OUTSIDE[3:35], OUTSIDE[36:52])
    ]


async def test_spans_wait_for_a_backend_that_is_away(
    jaeger: Jaeger, spawn: Spawn, origin: Origin, session: aiohttp.ClientSession
) -> None:
    shop = await open_shop(spawn, origin, exporter(jaeger.endpoint))
    await jaeger.spans(await shop.ask(session, "number/0"), 3)
    await jaeger.daemon.kill()
    traces = [await shop.ask(session, f"number/{number}") for number in range(10)]
    for sidecar in (shop.shop, shop.stock):
        await sidecar.logged("exporter_failing")
    await jaeger.start()
    for trace_id in traces:
        await jaeger.spans(trace_id, 3)
    for sidecar in (shop.shop, shop.stock):
        counts = await spans_counted(sidecar)
        assert counts.get("dropped", 0) == 0
        assert counts["failed"] > 0


async def test_spans_that_find_no_place_are_counted(
    jaeger: Jaeger, spawn: Spawn, origin: Origin, session: aiohttp.ClientSession
) -> None:
    small = {**exporter(jaeger.endpoint), "queue": {"size": 20, "batch": 5, "interval": "50ms"}}
    shop = await open_shop(spawn, origin, small)
    await jaeger.daemon.kill()
    for number in range(100):
        await shop.ask(session, f"number/{number}")
    counts = await spans_counted(shop.shop)
    assert counts["dropped"] > 0
    await jaeger.start()
    for sidecar in (shop.shop, shop.stock):
        await sidecar.logged("exporter_recovered", within=RETRY)
    await jaeger.spans(await shop.ask(session, "number/1000"), 3)
    counts = await spans_counted(shop.shop)
    assert counts["sent"] + counts["dropped"] + counts["queued"] == 202


async def spans_counted(sidecar: SidecarProcess) -> dict[str, int]:
    """What the exporter says of itself in /metrics; ``dropped`` for all reasons together."""
    names = {
        "meshproxy_spans_sent_total": "sent",
        "meshproxy_spans_dropped_total": "dropped",
        "meshproxy_export_failures_total": "failed",
        "meshproxy_spans_queued": "queued",
    }
    counts: dict[str, int] = {}
    for line in (await sidecar.get("/metrics"))[1].splitlines():
        name = names.get(line.partition("{")[0])
        if name:
            counts[name] = counts.get(name, 0) + int(float(line.rpartition(" ")[2]))
    return counts
