"""Each way in which a service breaks a chain: told apart, mended, counted and shown."""

from __future__ import annotations

import pytest

from meshproxy.linking.gaps import ADVICE, Gap
from tests.e2e.mesh import Mesh, assert_no_wrong_link, assert_one_tree, calls
from tests.support.otlp import values

pytestmark = pytest.mark.asyncio(loop_scope="session")

CALLER = {
    "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    "tracestate": "a=1",
    "baggage": "user=1",
}
REQUESTS = 3


@pytest.mark.parametrize(
    ("manners", "gap", "evidence"),
    [
        ("nothing", "dropped", "only_in_flight"),
        ("echoes", "dropped", "request_id"),
        ("restarts", "restarted", "only_in_flight"),
        ("malforms", "malformed", "only_in_flight"),
        ("doubles", "duplicated", "only_in_flight"),
        ("no-tracestate", "tracestate-lost", "traceparent"),
        ("no-baggage", "baggage-lost", "traceparent"),
        ("unsamples", "unsampled", "traceparent"),
        ("b3", "format", "only_in_flight"),
    ],
)
async def test_a_break_is_mended_and_reported(
    mesh: Mesh, manners: str, gap: str, evidence: str
) -> None:
    """At B, which reads W3C only; so that B3 alone is a format that is not spoken."""
    before = await mesh.metric(mesh.b, "meshproxy_gaps_total", kind=gap)
    earlier = {row["kind"]: row["count"] for row in await rows(mesh, manners)}
    for _ in range(REQUESTS):
        spans = await mesh.one("threaded", manners, **CALLER)
        assert_no_wrong_link(spans, outside=CALLER["traceparent"])
        assert_one_tree(spans)
        assert {span.trace_state for span in spans} == {"a=1"}
        (call,) = calls(spans, of="b")
        found = values(call)
        assert (found["meshproxy.gap"], found["meshproxy.propagation"]) == (gap, "repaired")
        assert found["meshproxy.link.evidence"] == evidence
    (row,) = [row for row in await rows(mesh, manners) if row["kind"] == gap]
    assert row["count"] - earlier.get(gap, 0) == REQUESTS
    assert row["calls"] >= REQUESTS
    assert row["service"] == "b"
    assert row["route"] == f"GET /{manners}/{{id}}"
    assert row["evidence"][evidence] >= REQUESTS
    assert row["example_trace_id"] == call.trace_id.hex()
    assert row["advice"] == ADVICE[Gap(gap)]
    after = await mesh.metric(mesh.b, "meshproxy_gaps_total", kind=gap)
    assert after - before == REQUESTS


async def rows(mesh: Mesh, manners: str) -> list[dict[str, object]]:
    """The report of B on calls of its thread-based service."""
    found = await mesh.gaps(mesh.b, manners)
    return [row for row in found if row["destination"] == "threaded-after-b"]


async def test_a_stale_context_is_mended_from_the_second_request_on(mesh: Mesh) -> None:
    await mesh.one("threaded", "stale")
    for _ in range(REQUESTS):
        spans = await mesh.one("threaded", "stale")
        assert_no_wrong_link(spans)
        assert_one_tree(spans)
        assert {values(call)["meshproxy.gap"] for call in calls(spans)} == {"stale"}
    (row,) = [row for row in await rows(mesh, "stale") if row["kind"] == "stale"]
    assert row["evidence"] == {"only_in_flight": row["count"]}


async def test_services_that_do_it_right_are_not_reported(mesh: Mesh) -> None:
    for kind in ("threaded", "asyncio"):
        spans = await mesh.one(kind, "copies", **CALLER)
        assert_one_tree(spans)
        for call in calls(spans) + calls(spans, of="b"):
            assert values(call)["meshproxy.propagation"] == "ok"
            assert "meshproxy.gap" not in values(call)
    for sidecar in (mesh.a, mesh.b, mesh.c):
        assert await mesh.gaps(sidecar, "copies") == []


async def test_b3_alone_is_right_where_it_is_read(mesh: Mesh) -> None:
    spans = await mesh.one("asyncio", "b3", traceparent=CALLER["traceparent"], tracestate="a=1")
    assert {span.trace_state for span in spans} == {"a=1"}, "though B3 has no place for it"
    (call,) = calls(spans, of="a")
    assert values(call)["meshproxy.propagation"] == "ok"
    assert "meshproxy.gap" not in values(call)


async def test_metrics_tell_how_calls_were_linked(mesh: Mesh) -> None:
    async def linked(evidence: str) -> float:
        return await mesh.metric(mesh.a, "meshproxy_links_total", evidence=evidence)

    evidence = ("only_in_flight", "request_id", "traceparent", "ambiguous")
    before = [await linked(each) for each in evidence]
    mended = {"direction": "outbound", "result": "repaired"}
    repaired = await mesh.metric(mesh.a, "meshproxy_propagation_total", **mended)
    inbound = await mesh.metric(mesh.a, "meshproxy_propagation_total", direction="inbound")
    await mesh.one("threaded", "nothing")
    await mesh.one("threaded", "echoes")
    await mesh.one("asyncio", "copies")
    await mesh.together("asyncio", "nothing", 2)
    grown = [await linked(each) - old for each, old in zip(evidence, before, strict=True)]
    assert grown == [1, 1, 1, 2]
    assert await mesh.metric(mesh.a, "meshproxy_propagation_total", **mended) == repaired + 2
    after = await mesh.metric(mesh.a, "meshproxy_propagation_total", direction="inbound")
    assert after == inbound + 5
