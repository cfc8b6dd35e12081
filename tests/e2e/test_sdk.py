"""Services that are instrumented with the OpenTelemetry SDK, among sidecars: one tree of both."""

from __future__ import annotations

import pytest
from aiohttp import ClientSession

from tests.e2e.mesh import (
    CLIENT,
    KINDS,
    SERVER,
    SPANS_WITH_SDK,
    Mesh,
    assert_no_wrong_link,
    assert_one_tree,
    calls,
    chain,
    truth,
)
from tests.support.otlp import values

pytestmark = pytest.mark.asyncio(loop_scope="session")

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.mark.parametrize("kind", KINDS)
async def test_the_tree_is_whole(mesh: Mesh, kind: str) -> None:
    spans = await mesh.one(kind, "sdk", SPANS_WITH_SDK, traceparent=PARENT, tracestate="a=1")
    assert_no_wrong_link(spans, outside=PARENT)
    assert [(span.kind, span.name.partition(" ")[0]) for span in chain(spans)] == [
        (SERVER, "GET"), (SERVER, "serve"), (CLIENT, "call"), (CLIENT, "GET"),
        (SERVER, "GET"), (SERVER, "serve"), (CLIENT, "call"), (CLIENT, "GET"),
        (SERVER, "GET"),
    ]  # fmt: skip
    assert {span.trace_state for span in spans} == {"a=1"}


@pytest.mark.parametrize("kind", KINDS)
async def test_a_crowd_of_them_raises_no_alarm(mesh: Mesh, kind: str) -> None:
    spans = await mesh.together(kind, "sdk", 8, SPANS_WITH_SDK)
    assert_no_wrong_link(spans)
    for number in {truth(span) for span in spans}:
        assert_one_tree([span for span in spans if truth(span) == number])
    for call in calls(spans) + calls(spans, of="b"):
        assert values(call)["meshproxy.propagation"] == "ok"
    for sidecar in (mesh.a, mesh.b):
        assert await mesh.gaps(sidecar, "sdk") == []


async def test_an_unsampled_trace_stays_unsampled(mesh: Mesh) -> None:
    """The SDK follows its parent, so it makes no spans either: nothing of it ever arrives."""
    unsampled = await mesh.metric(mesh.c, "meshproxy_spans_total", result="not_sampled")
    before = mesh.number()
    async with ClientSession() as session:
        await mesh.ask(session, "asyncio", f"/sdk/{before}", traceparent=PARENT[:-1] + "0")
    await mesh.one("asyncio", "sdk", SPANS_WITH_SDK)
    assert not [span for span in mesh.collector.spans if truth(span) == before]
    after = await mesh.metric(mesh.c, "meshproxy_spans_total", result="not_sampled")
    assert after == unsampled + 1
