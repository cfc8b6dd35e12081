"""What spans, headers and counters say of how a call was linked, and of what it may belong to."""

from __future__ import annotations

import pytest

from meshproxy.config.model import Config, Linking
from meshproxy.linking.judge import MAX_CANDIDATES
from meshproxy.trace.span import AttributeValue, Span
from tests.filters.bench import MILLISECOND, OTHER_PARENT, Bench, Message, attributes

UUIDS = [f"7f3d9a52-1c4e-4b8a-9f00-2a6c1d3e5b{number:02x}" for number in range(0x40, 0x50)]
TRACEPARENT = "00-{0.trace_id}-{0.span_id}-01"


@pytest.fixture
def bench() -> Bench:
    return Bench()


def practise(bench: Bench, times: int, *paths: str, route: str = "orders") -> None:
    """One request after another makes these calls, each after 3 to 9 ms."""
    for number in range(times):
        request = bench.inbound(line=f"GET /{route} HTTP/1.1")
        for path in paths:
            bench.pass_time((2 + number % 7) * MILLISECOND)
            bench.outbound(line=f"GET /{path} HTTP/1.1").end(after_ms=1)
        bench.pass_time(2 * MILLISECOND)
        request.end(after_ms=1)
        bench.pass_time(20 * MILLISECOND)
    bench.stats.links.clear()


def linked(call: Message) -> tuple[object, object, object, object]:
    """Propagation, evidence, confidence and the SERVER span that a call was linked to."""
    found = call.attributes()
    return (
        found["meshproxy.propagation"],
        found.get("meshproxy.link.evidence"),
        found.get("meshproxy.link.confidence"),
        found.get("meshproxy.inbound.span_id"),
    )


def links(span: Span) -> list[tuple[str, dict[str, AttributeValue]]]:
    return [(each.context.span_id.hex(), dict(each.attributes)) for each in span.links]


# Linked


def test_a_request_id(bench: Bench) -> None:
    one, _ = bench.inbound(), bench.inbound()
    call = bench.outbound(f"x-request-id: {one.value('x-request-id')}")
    assert call.trace_id == one.trace_id
    assert linked(call) == ("repaired", "request_id", 0.999, one.span_id)
    assert bench.stats.links == {"request_id": 1}


def test_content_of_the_path(bench: Bench) -> None:
    one, _ = (bench.inbound(line=f"GET /orders/{word} HTTP/1.1") for word in UUIDS[:2])
    call = bench.outbound(line=f"GET /prices?order={UUIDS[0]} HTTP/1.1")
    assert call.trace_id == one.trace_id
    propagation, evidence, confidence, span_id = linked(call)
    assert (propagation, evidence, span_id) == ("repaired", "content", one.span_id)
    assert isinstance(confidence, float)
    assert 0.99 <= confidence < 0.999
    assert bench.stats.links == {"content": 1}
    assert not bench.spans[-1].links


def test_content_of_an_answer(bench: Bench) -> None:
    """What one call's answer tells is repeated by the next call."""
    bench.inbound(), bench.outbound()
    bench.inbound(), bench.outbound()
    one, two = bench.inbound(), bench.inbound()
    first = bench.outbound(f"x-request-id: {two.value('x-request-id')}")
    first.end(201, f"Location: /carts/{UUIDS[3]}")
    assert linked(bench.outbound(line=f"GET /carts/{UUIDS[3]} HTTP/1.1"))[3] == two.span_id
    assert linked(bench.outbound(f"x-request-id: {one.value('x-request-id')}"))[3] == one.span_id


def test_the_only_request_in_flight(bench: Bench) -> None:
    request = bench.inbound()
    call = bench.outbound()
    assert linked(call) == ("repaired", "only_in_flight", 0.998, request.span_id)
    assert bench.stats.links == {"only_in_flight": 1}


def test_the_call_graph(bench: Bench) -> None:
    practise(bench, 150, "prices", route="orders")
    practise(bench, 150, "stocks", route="carts")
    orders, carts = (bench.inbound(line=f"GET /{route} HTTP/1.1") for route in ("orders", "carts"))
    bench.pass_time(4 * MILLISECOND)
    calls = [bench.outbound(line=f"GET /{path} HTTP/1.1") for path in ("stocks", "prices")]
    for call, request in zip(calls, (carts, orders), strict=True):
        propagation, evidence, _, span_id = linked(call)
        assert (propagation, evidence, span_id) == ("repaired", "call_graph", request.span_id)
    assert bench.stats.links == {"call_graph": 2}


def test_timing(bench: Bench) -> None:
    practise(bench, 150, "prices")
    bench.inbound(line="GET /orders HTTP/1.1")
    bench.pass_time(300 * MILLISECOND)
    due = bench.inbound(line="GET /orders HTTP/1.1")
    bench.pass_time(4 * MILLISECOND)
    call = bench.outbound(line="GET /prices HTTP/1.1")
    propagation, evidence, confidence, span_id = linked(call)
    assert (propagation, evidence, span_id) == ("repaired", "timing", due.span_id)
    assert isinstance(confidence, float)
    assert 0.99 <= confidence <= 0.998
    assert bench.stats.links == {"timing": 1}


def test_a_context_that_is_right(bench: Bench) -> None:
    one, _ = bench.inbound(), bench.inbound()
    call = bench.outbound(
        "traceparent: " + TRACEPARENT.format(one), f"tracestate: {one.value('tracestate')}"
    )
    assert linked(call) == ("ok", "traceparent", 1.0, one.span_id)
    assert bench.stats.links == {"traceparent": 1}


# Not linked


def test_candidates_are_ranked_by_confidence(bench: Bench) -> None:
    practise(bench, 20, "prices", route="orders")
    practise(bench, 20, "stocks", route="carts")
    orders, carts = (bench.inbound(line=f"GET /{route} HTTP/1.1") for route in ("orders", "carts"))
    bench.pass_time(4 * MILLISECOND)
    call = bench.outbound(line="GET /prices HTTP/1.1")
    span = call.span()
    found = links(span)
    assert [span_id for span_id, _ in found] == [orders.span_id, carts.span_id]
    assert [each["link.rank"] for _, each in found] == [1, 2]
    confidences = [each["link.confidence"] for _, each in found]
    assert all(isinstance(each, float) for each in confidences)
    assert confidences == sorted(confidences, reverse=True)  # type: ignore[type-var]
    assert {each["link.evidence"] for _, each in found} <= {"call_graph", "timing"}
    assert attributes(span)["meshproxy.propagation"] == "ambiguous"
    assert "meshproxy.link.evidence" not in attributes(span)
    assert bench.stats.links == {"ambiguous": 1}


def test_the_links_lead_to_the_server_spans_of_the_candidates(bench: Bench) -> None:
    requests = [bench.inbound() for _ in range(3)]
    call = bench.outbound()
    span = call.span()
    assert call.trace_id == span.trace_id.hex()
    assert call.trace_id not in {each.trace_id for each in requests}, "a fresh trace"
    servers = [request.span() for request in requests]
    assert {(each.context.trace_id, each.context.span_id) for each in span.links} == {
        (each.trace_id, each.span_id) for each in servers
    }


def test_what_goes_on_below_an_ambiguous_call_stays_whole(bench: Bench) -> None:
    bench.inbound(), bench.inbound()
    call = bench.outbound()
    assert call.trace_id == call.span().trace_id.hex()
    assert call.flags & 1


def test_a_crowd_is_linked_to_its_newest(bench: Bench) -> None:
    requests = [bench.inbound() for _ in range(200)]
    found = links(bench.outbound().span())
    assert [span_id for span_id, _ in found] == [
        each.span_id for each in requests[: -MAX_CANDIDATES - 1 : -1]
    ]
    assert [each["link.rank"] for _, each in found] == list(range(1, MAX_CANDIDATES + 1))


def test_content_that_is_not_certain_shows_in_the_links(bench: Bench) -> None:
    bench.inbound(), bench.inbound()
    bench.outbound()
    holders = [bench.inbound(line=f"GET /orders/{UUIDS[0]} HTTP/1.1") for _ in range(2)]
    found = links(bench.outbound(line=f"GET /prices/{UUIDS[0]} HTTP/1.1").span())
    assert {span_id for span_id, _ in found[:2]} == {each.span_id for each in holders}
    shares = [each["link.confidence"] for _, each in found]
    assert len(shares) == 4
    assert isinstance(shares[1], float)
    assert isinstance(shares[2], float)
    assert shares[1] > 5 * shares[2]


def test_a_carried_context_comes_after_the_candidates(bench: Bench) -> None:
    over = bench.inbound()
    over.end()
    bench.inbound(), bench.inbound()
    found = links(bench.outbound("traceparent: " + TRACEPARENT.format(over)).span())
    assert len(found) == 3
    assert found[-1] == (over.span_id, {"link.evidence": "carried"})
    assert [each.get("link.rank") for _, each in found] == [1, 2, None]


@pytest.mark.parametrize("in_flight", [0, 1, 2])
def test_a_poller_is_linked_to_no_request(bench: Bench, in_flight: int) -> None:
    for _ in range(30):
        bench.outbound(line="GET /poll HTTP/1.1").end()
        bench.pass_time(1000 * MILLISECOND)
    for _ in range(in_flight):
        bench.inbound()
    found = bench.outbound(line="GET /poll HTTP/1.1").attributes()
    assert "meshproxy.inbound.span_id" not in found
    assert "meshproxy.gap" not in found
    assert bench.gap_kinds() == {}


# Contradictions


def test_the_context_of_one_request_and_the_id_of_another(bench: Bench) -> None:
    one, two = bench.inbound(), bench.inbound()
    call = bench.outbound(
        "traceparent: " + TRACEPARENT.format(one), f"x-request-id: {two.value('x-request-id')}"
    )
    span = call.span()
    assert call.trace_id not in {one.trace_id, two.trace_id}
    assert attributes(span)["meshproxy.propagation"] == "ambiguous"
    assert "meshproxy.gap" not in attributes(span)
    assert "meshproxy.inbound.span_id" not in attributes(span)
    candidates = [(span_id, each["link.evidence"], each["link.rank"])
                  for span_id, each in links(span) if "link.rank" in each]  # fmt: skip
    assert candidates == [(one.span_id, "traceparent", 1), (two.span_id, "request_id", 2)]
    assert bench.stats.links == {"contradiction": 1}
    assert bench.gap_kinds() == {}


def test_the_id_of_one_request_and_the_content_of_another(bench: Bench) -> None:
    one, two = (bench.inbound(line=f"GET /orders/{word} HTTP/1.1") for word in UUIDS[:2])
    call = bench.outbound(
        f"x-request-id: {one.value('x-request-id')}", line=f"GET /prices/{UUIDS[1]} HTTP/1.1"
    )
    span = call.span()
    found = {(span_id, each["link.evidence"]) for span_id, each in links(span)}
    assert found == {(one.span_id, "request_id"), (two.span_id, "content")}
    assert attributes(span)["meshproxy.propagation"] == "ambiguous"
    assert bench.stats.links == {"contradiction": 1}
    assert bench.gap_kinds() == {"dropped": 1}


def test_a_contradiction_is_counted_once_for_each_call(bench: Bench) -> None:
    one, two = bench.inbound(), bench.inbound()
    headers = [f"{name}: {each.value('x-request-id')}"
               for name, each in (("x-request-id", one), ("x-correlation-id", two))]  # fmt: skip
    bench.outbound(*headers).end()
    assert bench.stats.links == {"ambiguous": 1}, "ids of two requests only narrow the choice"
    for _ in range(3):
        bench.outbound("traceparent: " + TRACEPARENT.format(one), headers[1]).end()
    assert bench.stats.links["contradiction"] == 3


# The threshold


def test_the_threshold_of_the_configuration_counts() -> None:
    daring = Bench(Config(linking=Linking(threshold=0.5)))
    practise(daring, 3, "prices")
    daring.inbound(line="GET /orders HTTP/1.1")
    daring.pass_time(300 * MILLISECOND)
    due = daring.inbound(line="GET /orders HTTP/1.1")
    daring.pass_time(4 * MILLISECOND)
    found = daring.outbound(line="GET /prices HTTP/1.1").attributes()
    assert found["meshproxy.inbound.span_id"] == due.span_id
    confidence = found["meshproxy.link.confidence"]
    assert isinstance(confidence, float)
    assert 0.5 <= confidence < 0.99


def test_certain_evidence_of_a_foreign_trace_links_all_the_same(bench: Bench) -> None:
    one, _ = bench.inbound(), bench.inbound()
    call = bench.outbound(
        f"traceparent: {OTHER_PARENT}", f"x-request-id: {one.value('x-request-id')}"
    )
    assert linked(call) == ("repaired", "request_id", 0.999, one.span_id)
    (link,) = links(bench.spans[-1])
    assert link == (OTHER_PARENT[36:52], {"link.evidence": "carried"})
    assert bench.gap_kinds() == {"restarted": 1}
