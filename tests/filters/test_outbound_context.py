"""What a call is given, whatever the service sent with it; and which gaps that shows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshproxy.config.model import Config, Linking, Propagation, Sampling
from meshproxy.filter import Failure
from meshproxy.linking.inflight import ABANDONED_NS
from meshproxy.trace import traceparent
from tests.filters.bench import (
    MILLISECOND,
    OTHER_PARENT,
    PARENT,
    TRACE_ID,
    UNSAMPLED_PARENT,
    Bench,
    Message,
    attributes,
)

CALLER = (f"traceparent: {PARENT}", "tracestate: a=1", "baggage: user=1")
B3 = "b3: 80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1"
SDK_SPAN = "1122334455667788"


def child_of(request: Message, flags: str = "01") -> str:
    """The traceparent of a span that the service's own SDK made within a request."""
    return f"traceparent: 00-{request.trace_id}-{SDK_SPAN}-{flags}"


def verdict(bench: Bench, call: Message) -> tuple[object, object, object]:
    """Propagation, gap and evidence; and the gap is counted just when it is on the span."""
    found = call.attributes()
    gap = found.get("meshproxy.gap")
    assert bench.gap_kinds() == ({gap: 1} if gap else {})
    return found["meshproxy.propagation"], gap, found.get("meshproxy.link.evidence")


# Services that do it right raise no alarm


def test_a_service_with_its_own_sdk() -> None:
    bench = Bench()
    request = bench.inbound(*CALLER)
    call = bench.outbound(child_of(request), "tracestate: a=1", "baggage: user=1")
    span = call.span()
    assert span.parent_id.hex() == SDK_SPAN, "its own span stands between, and stays there"
    assert span.parent_remote
    assert call.trace_id == TRACE_ID
    assert (call.value("tracestate"), call.value("baggage")) == ("a=1", "user=1")
    found = attributes(span)
    assert found["meshproxy.propagation"] == "ok"
    assert found["meshproxy.link.evidence"] == "traceparent"
    assert found["meshproxy.link.confidence"] == 1.0
    assert found["meshproxy.inbound.span_id"] == request.span_id
    assert bench.gap_kinds() == {}
    assert not span.links


def test_a_service_that_copies_the_headers() -> None:
    bench = Bench()
    request = bench.inbound(*CALLER)
    copied = [
        f"traceparent: {request.traceparent}",
        f"tracestate: {request.value('tracestate')}",
        f"baggage: {request.value('baggage')}",
    ]
    call = bench.outbound(*copied)
    assert call.exchange.trace is not None
    assert verdict(bench, call) == ("ok", None, "traceparent")
    assert bench.spans[-1].parent_id.hex() == request.span_id


def test_a_service_that_copies_headers_among_many_requests() -> None:
    bench = Bench()
    requests = [bench.inbound() for _ in range(20)]
    for request in reversed(requests):
        call = bench.outbound(
            f"traceparent: {request.traceparent}", f"tracestate: {request.value('tracestate')}"
        )
        assert call.span().parent_id.hex() == request.span_id
    assert bench.gap_kinds() == {}


def test_one_trace_that_comes_in_twice_at_a_time() -> None:
    """A caller's parallel calls: by its trace alone a call could belong to either."""
    bench = Bench()
    one = bench.inbound(f"traceparent: {PARENT}")
    two = bench.inbound(f"traceparent: {PARENT}")
    copied = bench.outbound(f"traceparent: {two.traceparent}").attributes()
    assert copied["meshproxy.inbound.span_id"] == two.span_id
    own = bench.outbound(child_of(one)).attributes()
    assert "meshproxy.inbound.span_id" not in own, "either of the two may have made it"
    assert own["meshproxy.propagation"] == "ok"
    assert bench.gap_kinds() == {}


def test_background_work_without_context() -> None:
    bench = Bench()
    call = bench.outbound()
    assert verdict(bench, call) == ("root", None, None)
    assert bench.spans[-1].parent_id == b""
    assert call.flags == 0x03


def test_background_work_with_a_trace_of_its_own() -> None:
    bench = Bench()
    call = bench.outbound(f"traceparent: {OTHER_PARENT}")
    assert verdict(bench, call) == ("ok", None, "traceparent")
    assert bench.spans[-1].parent_id.hex() == OTHER_PARENT[36:52]


@pytest.mark.parametrize("others", [0, 1, 2])
def test_work_of_the_sdk_that_goes_on_after_the_answer(others: int) -> None:
    bench = Bench()
    request = bench.inbound()
    request.end()
    for _ in range(others):
        bench.inbound()
    call = bench.outbound(child_of(request))
    assert call.trace_id == request.trace_id
    assert verdict(bench, call) == ("ok", None, "traceparent")


def test_health_checks_and_requests_without_calls() -> None:
    bench = Bench()
    for path in ("/healthz", "/readyz", "/orders"):
        bench.inbound(line=f"GET {path} HTTP/1.1").end()
    assert bench.gaps.rows("cart") == []


def test_a_wrong_format_beside_the_right_one_is_no_gap() -> None:
    bench = Bench()
    request = bench.inbound()
    call = bench.outbound(child_of(request), "tracestate: ot=th:0", "b3: nonsense")
    assert verdict(bench, call) == ("ok", None, "traceparent")


def test_a_service_that_speaks_another_format_has_no_place_for_tracestate() -> None:
    bench = Bench()
    request = bench.inbound(*CALLER)
    call = bench.outbound(f"b3: {request.trace_id}-{SDK_SPAN}-1", "baggage: user=1")
    assert call.value("tracestate") == "a=1"
    assert call.value("b3") == f"{call.trace_id}-{call.span_id}-1"
    assert verdict(bench, call) == ("ok", None, "traceparent")


# Each kind of gap


@pytest.mark.parametrize(
    ("headers", "gap"),
    [
        ([], "dropped"),
        (["tracestate: a=1"], "dropped"),
        (["X-Request-Id: something-else"], "dropped"),
        ([f"traceparent: {OTHER_PARENT}"], "restarted"),
        ([B3], "restarted"),
        (["traceparent: 00-xyz"], "malformed"),
        ([f"traceparent: {PARENT.upper()}"], "malformed"),
        (["traceparent: 00-" + "0" * 32 + "-00f067aa0ba902b7-01"], "malformed"),
        (["b3: nonsense"], "malformed"),
        ([f"traceparent: {OTHER_PARENT}"] * 2, "duplicated"),
        ([f"traceparent: {PARENT}", f"traceparent: {OTHER_PARENT}"], "duplicated"),
    ],
)
def test_what_the_only_request_in_flight_mends(headers: list[str], gap: str) -> None:
    bench = Bench()
    request = bench.inbound(*CALLER)
    call = bench.outbound(*headers)
    assert (call.trace_id, call.value("tracestate")) == (TRACE_ID, "a=1")
    assert call.value("baggage") == "user=1"
    assert verdict(bench, call) == ("repaired", gap, "only_in_flight")
    assert bench.spans[-1].parent_id.hex() == request.span_id


def test_only_a_format_that_is_not_read() -> None:
    bench = Bench(Config(propagation=Propagation(extract=("tracecontext",))))
    bench.inbound()
    assert verdict(bench, bench.outbound(B3)) == ("repaired", "format", "only_in_flight")


def test_without_a_request_in_flight_the_format_still_shows() -> None:
    bench = Bench(Config(propagation=Propagation(extract=("tracecontext",))))
    assert verdict(bench, bench.outbound(B3)) == ("unlinked", "format", None)


def test_a_header_of_an_earlier_request() -> None:
    bench = Bench()
    earlier = bench.inbound()
    earlier.end()
    now = bench.inbound()
    call = bench.outbound(f"traceparent: {earlier.traceparent}")
    assert verdict(bench, call) == ("repaired", "stale", "only_in_flight")
    span = bench.spans[-1]
    assert span.parent_id.hex() == now.span_id
    (link,) = span.links
    assert link.context.span_id.hex() == earlier.span_id
    assert dict(link.attributes) == {"link.evidence": "carried"}


def test_a_header_of_an_earlier_request_among_several() -> None:
    bench = Bench()
    earlier = bench.inbound()
    earlier.end()
    requests = [bench.inbound(), bench.inbound()]
    call = bench.outbound(f"traceparent: {earlier.traceparent}")
    assert call.trace_id not in {each.trace_id for each in (earlier, *requests)}
    assert verdict(bench, call) == ("ambiguous", "stale", None)


def test_a_trace_of_its_own_among_several_is_left_to_it() -> None:
    bench = Bench()
    bench.inbound(), bench.inbound()
    call = bench.outbound(f"traceparent: {OTHER_PARENT}")
    assert call.trace_id == OTHER_PARENT[3:35], "nothing here contradicts it"
    assert verdict(bench, call) == ("ambiguous", "restarted", None)
    span = bench.spans[-1]
    assert span.parent_id.hex() == OTHER_PARENT[36:52]
    assert span.parent_remote


def test_a_lost_tracestate_is_put_back() -> None:
    bench = Bench()
    request = bench.inbound(*CALLER)
    call = bench.outbound(child_of(request), "baggage: user=1")
    assert call.value("tracestate") == "a=1"
    assert verdict(bench, call) == ("repaired", "tracestate-lost", "traceparent")
    assert bench.spans[-1].parent_id.hex() == SDK_SPAN


def test_an_illegal_tracestate_is_a_lost_one() -> None:
    bench = Bench()
    request = bench.inbound(*CALLER)
    call = bench.outbound(child_of(request), "tracestate: A=1", "baggage: user=1")
    assert verdict(bench, call) == ("repaired", "tracestate-lost", "traceparent")


def test_a_tracestate_that_the_service_changed_is_its_own() -> None:
    bench = Bench()
    request = bench.inbound(*CALLER)
    call = bench.outbound(child_of(request), "tracestate: own=2,a=1", "baggage: user=1")
    assert call.value("tracestate") == "own=2,a=1"
    assert verdict(bench, call) == ("ok", None, "traceparent")


def test_lost_baggage_is_put_back() -> None:
    bench = Bench()
    request = bench.inbound(*CALLER)
    call = bench.outbound(child_of(request), "tracestate: a=1")
    assert call.value("baggage") == "user=1"
    assert verdict(bench, call) == ("repaired", "baggage-lost", "traceparent")


def test_a_flipped_sampled_flag_is_flipped_back() -> None:
    bench = Bench()
    request = bench.inbound(*CALLER)
    call = bench.outbound(child_of(request, "00"), "tracestate: a=1", "baggage: user=1")
    assert call.flags & 1
    assert verdict(bench, call) == ("repaired", "unsampled", "traceparent")


def test_a_service_may_sample_what_its_caller_did_not() -> None:
    bench = Bench()
    request = bench.inbound(f"traceparent: {UNSAMPLED_PARENT}")
    call = bench.outbound(child_of(request, "01"))
    assert call.flags & 1
    assert verdict(bench, call) == ("ok", None, "traceparent")


# Linking


@pytest.mark.parametrize(
    "name", ["x-request-id", "X-Correlation-Id", "x-amzn-requestid", "x-ms-request-id"]
)
def test_an_echoed_request_id_links_among_many(name: str) -> None:
    bench = Bench()
    requests = [bench.inbound(f"traceparent: {PARENT}"), *(bench.inbound() for _ in range(5))]
    for request in reversed(requests):
        call = bench.outbound(f"{name}: {request.value('x-request-id')}")
        span = call.span()
        assert span.parent_id.hex() == request.span_id
        assert attributes(span)["meshproxy.link.evidence"] == "request_id"
        assert attributes(span)["meshproxy.link.confidence"] == 0.999
    assert bench.gap_kinds() == {"dropped": 6}


def test_other_ids_that_came_in_link_as_well() -> None:
    bench = Bench()
    requests = [bench.inbound(f"X-Correlation-Id: order-{n}") for n in range(3)]
    call = bench.outbound("X-Correlation-Id: order-1")
    assert call.span().parent_id.hex() == requests[1].span_id
    for request in requests:
        request.end()
    assert verdict_of(bench.outbound("X-Correlation-Id: order-1")) == "root"


def verdict_of(call: Message) -> object:
    return call.attributes()["meshproxy.propagation"]


def test_one_id_in_two_headers_is_one_id() -> None:
    bench = Bench()
    request = bench.inbound("X-Request-Id: a", "X-Correlation-Id: a")
    bench.inbound()
    assert bench.outbound("X-Request-Id: a").span().parent_id.hex() == request.span_id
    request.end()
    assert len(bench.inflight) == 1


def test_an_id_that_two_requests_share_does_not_decide() -> None:
    bench = Bench()
    bench.inbound("X-Request-Id: same"), bench.inbound("X-Request-Id: same")
    assert verdict_of(bench.outbound("X-Request-Id: same")) == "ambiguous"


def test_ids_of_two_requests_do_not_decide() -> None:
    bench = Bench()
    bench.inbound("X-Request-Id: a"), bench.inbound("X-Request-Id: b")
    call = bench.outbound("X-Request-Id: a", "X-Correlation-Id: b")
    assert verdict_of(call) == "ambiguous"


def test_when_unsure_nothing_is_guessed() -> None:
    bench = Bench()
    requests = [bench.inbound() for _ in range(12)]
    call = bench.outbound()
    span = call.span()
    assert call.trace_id == span.trace_id.hex()
    assert call.trace_id not in {request.trace_id for request in requests}
    assert span.parent_id == b""
    found = attributes(span)
    assert found["meshproxy.propagation"] == "ambiguous"
    assert "meshproxy.link.evidence" not in found
    assert "meshproxy.inbound.span_id" not in found
    newest = [request.span_id for request in reversed(requests)][:8]
    assert [link.context.span_id.hex() for link in span.links] == newest
    assert [dict(link.attributes) for link in span.links] == [
        {"link.rank": rank, "link.evidence": "timing", "link.confidence": 0.0833}
        for rank in range(1, 9)
    ]


def test_past_the_limit_being_alone_means_nothing() -> None:
    bench = Bench(limit=1)
    known, unknown = bench.inbound(), bench.inbound()
    assert verdict_of(bench.outbound()) == "ambiguous"
    known.end()
    assert verdict_of(bench.outbound()) == "unlinked", "there is one, but nobody knows which"
    unknown.end()
    assert verdict_of(bench.outbound()) == "root"
    bench.inbound()
    assert verdict_of(bench.outbound()) == "repaired"


@pytest.mark.parametrize("kind", ["client_gone", "response_timeout", "stream_timeout"])
def test_work_for_nobody_is_not_taken_for_that_of_another(kind: str) -> None:
    """Of a client that left, or did not wait any longer, the service knows nothing."""
    bench = Bench()
    left = bench.inbound()
    left.end(0, failure=Failure(kind, ""))
    bench.inbound()
    assert verdict_of(bench.outbound()) == "ambiguous"
    echo = bench.outbound(f"x-request-id: {left.value('x-request-id')}")
    assert echo.span().parent_id.hex() == left.span_id
    copied = bench.outbound(
        f"traceparent: {left.traceparent}", f"tracestate: {left.value('tracestate')}"
    )
    assert copied.span().parent_id.hex() == left.span_id
    assert bench.gap_kinds() == {"dropped": 2}


def test_work_for_nobody_ends_some_day() -> None:
    bench = Bench()
    bench.inbound().end(0, failure=Failure("client_gone", ""))
    bench.pass_time(ABANDONED_NS + 5 * MILLISECOND)
    bench.inbound()
    assert verdict_of(bench.outbound()) == "repaired"


def test_a_service_that_did_not_get_or_dropped_a_request_does_not_work_on_it() -> None:
    bench = Bench()
    for kind in ("connect_refused", "upstream_reset"):
        bench.inbound().end(502, failure=Failure(kind, ""), answered=False)
    bench.inbound()
    assert verdict_of(bench.outbound()) == "repaired"


def test_evidence_below_the_threshold_is_not_acted_upon() -> None:
    bench = Bench(Config(linking=Linking(threshold=0.999)))
    request = bench.inbound()
    assert verdict_of(bench.outbound()) == "ambiguous"
    echo = bench.outbound(f"x-request-id: {request.value('x-request-id')}")
    assert verdict_of(echo) == "repaired"


def test_a_mended_call_is_sampled_as_its_cause_is() -> None:
    bench = Bench()
    bench.inbound(f"traceparent: {UNSAMPLED_PARENT}")
    call = bench.outbound()
    assert not call.flags & 1
    assert call.end() is None
    failing = bench.outbound()
    assert failing.span(500).trace_id.hex() == TRACE_ID


def test_a_call_that_starts_a_trace_is_sampled_for_itself() -> None:
    never = Bench(Config(sampling=Sampling(default=0.0)))
    assert never.outbound().end() is None
    assert never.outbound().end(404) is not None, "an error, from the client's side"


# One context, whatever came

HEADERS = st.sampled_from(
    [
        f"traceparent: {PARENT}",
        f"TRACEPARENT: {OTHER_PARENT}",
        "Traceparent: 00-bad",
        "traceparent:",
        "traceparent: " + "0" * 5000,
        "tracestate: a=1",
        "tracestate: A=1",
        "tracestate: " + ",".join(f"k{n}=v" for n in range(40)),
        "baggage: a=1,b=2",
        "baggage: ,,,=",
        B3,
        "b3: 0",
        "b3: d",
        "X-B3-TraceId: 80f198ee56343ba864fe8b2a57d3eff7",
        "X-B3-SpanId: e457b5a2e4d86bd1",
        "x-b3-flags: 1",
        "uber-trace-id: 1:2:0:1",
        "uberctx-user: bob",
        "X-Amzn-Trace-Id: Root=1-5759e988-bd862e3fe1be46a994272793",
        "X-Cloud-Trace-Context: 105445aa7843bc8bf206b12000100000/1;o=1",
        "x-datadog-trace-id: 7",
        "x-datadog-parent-id: 8",
        "x-datadog-sampling-priority: -1",
        "sw8: 1-YQ==-Yg==-3-c3Zj-aW5zdA==-L2VuZA==-cGVlcg==",
        "ot-tracer-traceid: 1",
        "X-Request-Id: one",
        "X-Request-Id:",
        "X-Correlation-Id: two",
        "Connection: traceparent",
        "X-Other: kept",
    ]
)
FORMATS = ("tracecontext", "b3", "b3multi", "jaeger", "xray", "gcp", "datadog", "skywalking", "ot")


@given(
    sent=st.lists(HEADERS, max_size=12),
    came=st.lists(HEADERS, max_size=4),
    in_flight=st.integers(0, 3),
    extract=st.lists(st.sampled_from(FORMATS), unique=True),
    inject=st.lists(st.sampled_from(FORMATS[1:]), unique=True),
)
def test_a_message_carries_one_traceparent_whatever_came(
    sent: list[str], came: list[str], in_flight: int, extract: list[str], inject: list[str]
) -> None:
    propagation = Propagation(
        extract=tuple(extract),  # type: ignore[arg-type]
        inject=("tracecontext", *inject),  # type: ignore[arg-type]
    )
    bench = Bench(Config(propagation=propagation))
    requests = [bench.inbound(*came) for _ in range(in_flight)]
    call = bench.outbound(*sent)
    for message in (*requests, call):
        assert message.exchange.trace is not None
        context = traceparent.parse(message.traceparent.encode())
        assert context is not None
        span = message.end()
        trace = message.exchange.trace
        assert (context.trace_id, context.span_id) == (trace.trace_id, trace.span_id)
        assert span is None or span.span_id == context.span_id
        assert len(message.values("tracestate")) <= 1
        assert len(message.values("baggage")) <= 1
        for value in message.values("b3"):
            assert value.split("-")[1] == context.span_id.hex()
        assert len(message.values("x-b3-spanid")) <= 1
    assert call.lines.count("X-Other: kept") == sent.count("X-Other: kept")
    assert len(bench.inflight) == 0
