"""Each way in which a service breaks a chain: told apart, mended, counted and shown."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from meshproxy import cli
from meshproxy.linking.gaps import ADVICE, TELLING, UNKNOWN, Gap
from tests.e2e.bed import CROWD, Bed, Headers, Lay, trace_of
from tests.e2e.mesh import Mesh, assert_no_wrong_link, assert_one_tree, calls
from tests.e2e.services import WAYS, Sdk, Wrong
from tests.support.otlp import values

in_mesh = pytest.mark.asyncio(loop_scope="session")

CALLER = {
    "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    "tracestate": "a=1",
    "baggage": "user=1",
}
REQUESTS = 3


@in_mesh
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
    assert row["example_trace_ids"][0] == call.trace_id.hex()
    assert row["advice"].startswith(ADVICE[Gap(gap)])
    after = await mesh.metric(mesh.b, "meshproxy_gaps_total", kind=gap)
    assert after - before == REQUESTS


async def rows(mesh: Mesh, manners: str) -> list[dict[str, Any]]:
    """The report of B on calls of its thread-based service."""
    found = await mesh.gaps(mesh.b, manners)
    return [row for row in found if row["destination"] == "threaded-after-b"]


@in_mesh
async def test_a_stale_context_is_mended_from_the_second_request_on(mesh: Mesh) -> None:
    await mesh.one("threaded", "stale")
    for _ in range(REQUESTS):
        spans = await mesh.one("threaded", "stale")
        assert_no_wrong_link(spans)
        assert_one_tree(spans)
        assert {values(call)["meshproxy.gap"] for call in calls(spans)} == {"stale"}
    (row,) = [row for row in await rows(mesh, "stale") if row["kind"] == "stale"]
    assert row["evidence"] == {"only_in_flight": row["count"]}


@in_mesh
async def test_services_that_do_it_right_are_not_reported(mesh: Mesh) -> None:
    for kind in ("threaded", "asyncio"):
        spans = await mesh.one(kind, "copies", **CALLER)
        assert_one_tree(spans)
        for call in calls(spans) + calls(spans, of="b"):
            assert values(call)["meshproxy.propagation"] == "ok"
            assert "meshproxy.gap" not in values(call)
    for sidecar in (mesh.a, mesh.b, mesh.c):
        assert await mesh.gaps(sidecar, "copies") == []


@in_mesh
async def test_b3_alone_is_right_where_it_is_read(mesh: Mesh) -> None:
    spans = await mesh.one("asyncio", "b3", traceparent=CALLER["traceparent"], tracestate="a=1")
    assert {span.trace_state for span in spans} == {"a=1"}, "though B3 has no place for it"
    (call,) = calls(spans, of="a")
    assert values(call)["meshproxy.propagation"] == "ok"
    assert "meshproxy.gap" not in values(call)


@in_mesh
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


ROUTE = "GET /orders/{id}"
W3C_ONLY = {"propagation": {"extract": ["tracecontext"]}}
IN_ITS_TRACE = {"tracestate-lost", "baggage-lost", "unsampled"}
"""Kinds where the call's own context tells the request."""


@pytest.mark.parametrize("kind", WAYS)
class TestEachWay:
    """In front of a service with one fault, kinds are not mixed up, whatever is in flight."""

    async def test_alone(self, lay: Lay, kind: str) -> None:
        bed = await lay(Wrong(kind), **W3C_ONLY)
        for number in range(REQUESTS + 1):  # the first leaves a context that is stale afterwards
            await bed.ask(number)
        (row,) = await bed.gaps()
        assert (row["kind"], row["route"], row["destination"]) == (kind, ROUTE, "pricing")
        assert row["count"] == REQUESTS + (kind != "stale")
        assert row["calls"] == REQUESTS + 1
        bed.assert_in_their_traces("pricing")

    async def test_in_a_crowd(self, lay: Lay, kind: str) -> None:
        bed = await lay(Wrong(kind), **W3C_ONLY)
        await bed.ask(0)
        await bed.crowd()
        found = await bed.gaps()
        assert {(row["kind"], row["destination"]) for row in found} == {(kind, "pricing")}
        assert sum(row["count"] for row in found) == CROWD + (kind != "stale")
        routes = {row["route"] for row in found}
        assert routes <= ({ROUTE} if kind in IN_ITS_TRACE else {ROUTE, UNKNOWN})
        assert all(row["count"] <= row["calls"] <= CROWD + 1 for row in found)
        if kind in IN_ITS_TRACE:
            bed.assert_in_their_traces("pricing")

    async def test_in_a_crowd_that_echoes_request_ids(self, lay: Lay, kind: str) -> None:
        bed = await lay(Wrong(kind, echo=True), **W3C_ONLY)
        await bed.ask(0)
        await bed.crowd()
        (row,) = await bed.gaps()
        assert (row["kind"], row["route"], row["destination"]) == (kind, ROUTE, "pricing")
        assert row["count"] == CROWD + (kind != "stale")
        evidence = "traceparent" if kind in IN_ITS_TRACE else "request_id"
        assert row["evidence"] == {evidence: row["count"]}
        bed.assert_in_their_traces("pricing")

    async def test_metrics_tell_where(self, lay: Lay, kind: str) -> None:
        bed = await lay(Wrong(kind, echo=True), **W3C_ONLY)
        await bed.ask(0)
        await bed.ask(1)
        where = {"route": ROUTE, "destination": "pricing"}
        count = await bed.metric("meshproxy_gaps_total", kind=kind, **where)
        assert count == 1 + (kind != "stale")


async def test_the_command_shows_it(lay: Lay, capsys: pytest.CaptureFixture[str]) -> None:
    bed = await lay(Wrong("dropped"))
    for number in range(TELLING):
        await bed.ask(number)
    assert await asyncio.to_thread(cli.main, ["gaps", "--sidecar", bed.admin]) == 0
    titles, row, _, _, *note = capsys.readouterr().out.splitlines()
    assert titles.startswith("SERVICE")
    assert row.split() == [
        "cart", *ROUTE.split(), "pricing", "dropped", f"{TELLING}/{TELLING}", "100%",
        "only_in_flight", str(TELLING), "[1]",
    ]  # fmt: skip
    assert note[0].startswith(f"[1] dropped: {ADVICE[Gap.DROPPED][:40]}")
    assert trace_of(TELLING - 1) in "".join(note)


async def test_the_name_of_the_service_follows_a_reload(lay: Lay) -> None:
    bed = await lay(Wrong("dropped"))
    await bed.ask(1)
    await bed.rename("basket")
    await bed.ask(2)
    (row,) = await bed.gaps()
    assert (row["service"], row["count"]) == ("basket", 2)


async def test_when_it_happened(lay: Lay) -> None:
    bed = await lay(Wrong("dropped"))
    before = time.time_ns()
    await bed.ask(1)
    between = time.time_ns()
    await bed.ask(2)
    (row,) = await bed.gaps()
    assert before <= row["first_seen_ns"] <= between <= row["last_seen_ns"] <= time.time_ns()


async def test_faults_in_a_crowd_are_told_apart(lay: Lay) -> None:
    """Each request meets another fault, and some of them none."""
    ways = dict(enumerate([Wrong(kind, echo=True) for kind in WAYS], 1))
    right = Sdk(calls=["pricing"])

    async def service(bed: Bed, number: int, came: Headers) -> None:
        await ways.get(number % 100, right)(bed, number, came)

    bed = await lay(service, **W3C_ONLY)
    for number in ways:
        await bed.ask(number)
    await bed.crowd(count=len(ways) + 4, first=101)
    found = {row["kind"]: row for row in await bed.gaps()}
    assert {kind: row["count"] for kind, row in found.items()} == {
        kind: 2 - (kind == "stale") for kind in WAYS
    }
    for kind, row in found.items():
        assert (row["route"], row["calls"]) == (ROUTE, 2 * len(ways) + 4)
        number = 101 + [*WAYS].index(kind)
        assert row["example_trace_ids"][0] == trace_of(number)
    bed.assert_in_their_traces("pricing")


@pytest.mark.parametrize("kind", ["dropped", "restarted"])
async def test_a_wrong_route_among_right_ones_is_found(lay: Lay, kind: str) -> None:
    """Half of a crowd is right, which is no excuse for the other half."""
    right, wrong = Sdk(calls=["pricing"]), Wrong(kind)

    async def service(bed: Bed, number: int, came: Headers) -> None:
        await (wrong if number > CROWD // 2 else right)(bed, number, came)

    bed = await lay(service)
    await bed.ask(1, route="orders")
    await bed.crowd(route=lambda number: "legacy" if number > CROWD // 2 else "orders")
    found = await bed.gaps()
    assert {(row["kind"], row["destination"]) for row in found} == {(kind, "pricing")}
    assert sum(row["count"] for row in found) == CROWD // 2
    assert ROUTE not in {row["route"] for row in found}


async def test_some_calls_of_a_route_are_found_by_the_ids_that_they_echo(lay: Lay) -> None:
    """As where work hops to another thread now and then."""
    right, wrong = Sdk(calls=["pricing"]), Wrong("dropped", echo=True)

    async def service(bed: Bed, number: int, came: Headers) -> None:
        await (right if number % 4 else wrong)(bed, number, came)

    bed = await lay(service)
    for number in range(4 * TELLING):
        await bed.ask(number)
    (row,) = await bed.gaps()
    assert (row["kind"], row["route"], row["share"]) == ("dropped", ROUTE, 0.25)
    assert "a hop to a thread pool" in row["advice"]
