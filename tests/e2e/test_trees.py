"""Services that pass on nothing, or little: what becomes of their requests' traces."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Callable

import pytest
from aiohttp import ClientSession

from tests.e2e.apps import FOREIGN
from tests.e2e.mesh import (
    CLIENT,
    KINDS,
    SERVER,
    Mesh,
    assert_no_wrong_link,
    assert_one_tree,
    calls,
    chain,
    truth,
)
from tests.support.otlp import values
from tests.support.raw import Peer

pytestmark = pytest.mark.asyncio(loop_scope="session")

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
CROWD = 8


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("manners", "propagation", "evidence"),
    [
        ("nothing", "repaired", "only_in_flight"),
        ("echoes", "repaired", "request_id"),
        ("copies", "ok", "traceparent"),
    ],
)
async def test_one_request_is_one_tree(
    mesh: Mesh, kind: str, manners: str, propagation: str, evidence: str
) -> None:
    spans = await mesh.one(kind, manners, traceparent=PARENT, tracestate="a=1")
    assert_no_wrong_link(spans, outside=PARENT)
    root, *below = chain(spans)
    assert (root.trace_id.hex(), root.parent_span_id.hex()) == (PARENT[3:35], PARENT[36:52])
    assert [span.kind for span in (root, *below)] == [SERVER, CLIENT, SERVER, CLIENT, SERVER]
    assert {span.trace_state for span in spans} == {"a=1"}
    for span in spans:
        found = values(span)
        if span.kind == CLIENT:
            assert found["meshproxy.propagation"] == propagation
            assert found["meshproxy.link.evidence"] == evidence
        else:
            assert found["meshproxy.propagation"] == "ok"


@pytest.mark.parametrize("kind", KINDS)
async def test_a_crowd_without_evidence_is_not_guessed_about(mesh: Mesh, kind: str) -> None:
    spans = await mesh.together(kind, "nothing", CROWD)
    assert_no_wrong_link(spans)
    servers = {span.span_id: span for span in spans if span.kind == SERVER}
    for call in calls(spans):
        found = values(call)
        if found.get("meshproxy.link.evidence") in ("process", "thread"):
            continue  # the kernel tells; that it is right was asserted
        assert found["meshproxy.propagation"] == "ambiguous"
        assert not call.parent_span_id
        linked = [servers[link.span_id] for link in call.links]
        assert len(linked) == CROWD
        assert truth(call) in {truth(server) for server in linked}
        assert all(link.trace_id == servers[link.span_id].trace_id for link in call.links)
    assert len({call.trace_id for call in calls(spans)}) == CROWD


@pytest.mark.parametrize("kind", KINDS)
async def test_a_crowd_that_echoes_request_ids_is_linked_right(mesh: Mesh, kind: str) -> None:
    spans = await mesh.together(kind, "echoes", CROWD)
    assert_no_wrong_link(spans)
    for number in {truth(span) for span in spans}:
        assert_one_tree([span for span in spans if truth(span) == number])
    assert {values(call)["meshproxy.link.evidence"] for call in calls(spans)} == {"request_id"}


@pytest.mark.parametrize("kind", KINDS)
async def test_a_crowd_that_copies_headers_is_left_alone(mesh: Mesh, kind: str) -> None:
    spans = await mesh.together(kind, "copies", CROWD)
    assert_no_wrong_link(spans)
    for number in {truth(span) for span in spans}:
        assert_one_tree([span for span in spans if truth(span) == number])
    assert all("meshproxy.gap" not in values(span) for span in spans)


@pytest.mark.parametrize("manners", ["stale", "restarts", "malforms", "doubles", "unsamples"])
async def test_a_crowd_with_bad_manners_is_never_linked_wrong(mesh: Mesh, manners: str) -> None:
    await mesh.one("asyncio", manners)  # whose context is stale afterwards
    spans = await mesh.together("asyncio", manners, CROWD)
    assert_no_wrong_link(spans, outside=FOREIGN)


async def test_mixed_traffic_is_never_linked_wrong(mesh: Mesh) -> None:
    """Whoever is sure enough to link is right, whatever the load happens to be."""
    choice = random.Random(11)
    numbers = [mesh.number() for _ in range(120)]
    slots = asyncio.Semaphore(6)

    async def ask(session: ClientSession, number: int) -> None:
        async with slots:
            manners = choice.choice(["nothing", "echoes", "copies", "no-tracestate"])
            await mesh.ask(session, choice.choice(KINDS), f"/{manners}/{number}")

    async with ClientSession() as session:
        await asyncio.gather(*(ask(session, number) for number in numbers))
    spans = await mesh.spans(numbers)
    assert_no_wrong_link(spans)
    for call in [span for span in spans if span.kind == CLIENT]:
        found = values(call)
        if found["meshproxy.propagation"] == "ambiguous":
            assert "meshproxy.inbound.span_id" not in found
            assert len(call.links) >= 2
        else:
            assert "meshproxy.inbound.span_id" in found


async def test_work_for_a_client_that_left_is_not_taken_for_that_of_another(mesh: Mesh) -> None:
    """The service does not notice, and makes its call while another request is in flight."""
    service = mesh.services["a", "threaded"]
    service.gate = gate = threading.Barrier(2)
    left, stayed = mesh.number(), mesh.number()
    try:
        impatient = await Peer.connect(mesh.a.inbound[0])
        await impatient.send(f"GET /nothing/{left} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        await asyncio.to_thread(wait_until, lambda: gate.n_waiting == 1)
        impatient.reset()
        await mesh.spans([left], each=1)  # so the sidecar knows
        async with ClientSession() as session:
            await mesh.ask(session, "threaded", f"/nothing/{stayed}")
    finally:
        service.gate = None
    spans = await mesh.spans([left, stayed])
    assert_no_wrong_link(spans)
    assert len(calls(spans)) == 2


def wait_until(happened: Callable[[], bool]) -> None:
    while not happened():
        time.sleep(0.001)
