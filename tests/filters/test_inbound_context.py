"""What the service is given for what came in: parents, sampling, trust, request ids."""

from __future__ import annotations

import pytest

from meshproxy.config.model import Config, Match, Propagation, Sampling, SamplingRule
from meshproxy.trace.sampling import randomness, threshold
from tests.filters.bench import (
    OTHER_PARENT,
    PARENT,
    SPAN_ID,
    TRACE_ID,
    UNSAMPLED_PARENT,
    Bench,
    attributes,
)


def ratio(default: float, **more: object) -> Config:
    return Config(sampling=Sampling(default=default, **more))  # type: ignore[arg-type]


def test_the_service_sees_the_server_span_as_its_parent() -> None:
    message = Bench().inbound(f"traceparent: {PARENT}", "tracestate: a=1,b=2")
    span = message.span()
    assert message.traceparent == f"00-{TRACE_ID}-{span.span_id.hex()}-01"
    assert message.span_id != SPAN_ID
    assert message.value("tracestate") == "a=1,b=2"
    assert span.tracestate == "a=1,b=2"


def test_without_a_context_a_trace_starts() -> None:
    message = Bench().inbound()
    span = message.span()
    assert attributes(span)["meshproxy.propagation"] == "root"
    assert span.parent_id == b""
    assert message.flags == 0x03, "sampled, and random as we mint all of the id"


@pytest.mark.parametrize("flags", ["00", "01", "02", "03"])
def test_flags_are_continued(flags: str) -> None:
    message = Bench().inbound(f"traceparent: {PARENT[:-2]}{flags}")
    assert f"{message.flags:02x}" == flags


def test_a_trace_id_that_we_did_not_mint_is_not_called_random() -> None:
    message = Bench().inbound("X-Amzn-Trace-Id: Root=1-5759e988-bd862e3fe1be46a994272793")
    assert message.trace_id == "5759e988bd862e3fe1be46a994272793"
    assert message.flags == 0x01
    assert message.span().parent_id == b""


@pytest.mark.parametrize(
    ("headers", "gap"),
    [
        ([f"traceparent: {PARENT.upper()}"], "malformed"),
        (["traceparent: 00-" + "0" * 32 + "-00f067aa0ba902b7-01"], "malformed"),
        (["traceparent:"], "malformed"),
        (["b3: nonsense"], "malformed"),
        ([f"traceparent: {PARENT}", f"Traceparent: {OTHER_PARENT}"], "duplicated"),
        ([f"traceparent: {PARENT}"] * 2, "duplicated"),
    ],
)
def test_a_context_that_does_not_count_starts_a_trace(headers: list[str], gap: str) -> None:
    message = Bench().inbound(*headers, "tracestate: a=1")
    span = message.span()
    found = attributes(span)
    assert (found["meshproxy.propagation"], found["meshproxy.gap"]) == ("unlinked", gap)
    assert message.trace_id not in (TRACE_ID, OTHER_PARENT[3:35])
    assert message.value("tracestate") == "ot=th:0", "ours, and nothing of theirs"
    assert span.parent_id == b""


def test_two_contexts_are_linked_though_neither_is_continued() -> None:
    span = Bench().inbound(f"traceparent: {PARENT}", f"traceparent: {OTHER_PARENT}").span()
    assert [link.context.trace_id.hex() for link in span.links] == [TRACE_ID, OTHER_PARENT[3:35]]


def test_a_format_that_is_not_read_is_told_apart_from_nothing() -> None:
    config = Config(propagation=Propagation(extract=("tracecontext",)))
    message = Bench(config).inbound("b3: 80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1")
    found = message.attributes()
    assert (found["meshproxy.propagation"], found["meshproxy.gap"]) == ("unlinked", "format")
    assert message.values("b3") == [], "what it says is not what we say"


def test_only_baggage_is_no_gap() -> None:
    message = Bench().inbound("baggage: a=1")
    found = message.attributes()
    assert found["meshproxy.propagation"] == "root"
    assert "meshproxy.gap" not in found
    assert message.value("baggage") == "a=1"


def test_formats_that_disagree_are_linked() -> None:
    span = (
        Bench()
        .inbound(
            f"traceparent: {PARENT}", "b3: 80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1"
        )
        .span()
    )
    assert span.trace_id.hex() == TRACE_ID
    assert [link.context.span_id.hex() for link in span.links] == ["e457b5a2e4d86bd1"]


def test_all_formats_that_came_in_go_out_saying_the_same() -> None:
    message = Bench().inbound(
        "b3: 80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1",
        "X-B3-TraceId: 80f198ee56343ba864fe8b2a57d3eff7",
        "X-B3-SpanId: e457b5a2e4d86bd1",
        "X-B3-Sampled: 1",
        "uber-trace-id: 80f198ee56343ba864fe8b2a57d3eff7:e457b5a2e4d86bd1:0:1",
        "X-Cloud-Trace-Context: 80f198ee56343ba864fe8b2a57d3eff7/16453819474850114513;o=1",
    )
    trace_id, span_id = message.trace_id, message.span_id
    assert trace_id == "80f198ee56343ba864fe8b2a57d3eff7"
    assert message.value("b3") == f"{trace_id}-{span_id}-1"
    assert message.value("x-b3-traceid") == trace_id
    assert message.value("x-b3-spanid") == span_id
    assert message.value("uber-trace-id").split(":")[:2] == [trace_id, span_id]
    assert message.value("x-cloud-trace-context") == f"{trace_id}/{int(span_id, 16)};o=1"
    assert message.span().parent_id.hex() == "e457b5a2e4d86bd1"


def test_other_lines_stay_as_they_were() -> None:
    lines = ["X-a: 1", "ACCEPT:  */*", f"TraceParent: {PARENT}", "x-A: 2"]
    sent = Bench().inbound(*lines).lines
    assert sent[:4] == ["Host: cart:8080", "X-a: 1", "ACCEPT:  */*", "x-A: 2"]


def test_baggage_goes_on_within_its_limits() -> None:
    members = [f"k{n}={'v' * 100}" for n in range(100)]
    message = Bench().inbound(*(f"baggage: {member}" for member in members))
    kept = message.value("baggage").split(",")
    assert kept == members[: len(kept)]
    assert len(kept) == 64


# Request ids


def test_a_request_id_is_minted_when_there_is_none() -> None:
    bench = Bench()
    ids = {bench.inbound().value("x-request-id") for _ in range(10)}
    assert len(ids) == 10
    assert all(len(each) == 32 for each in ids)


def test_a_request_id_is_kept() -> None:
    assert Bench().inbound("X-REQUEST-ID: abc").lines.count("X-REQUEST-ID: abc") == 1


def test_an_empty_request_id_is_replaced() -> None:
    assert len(Bench().inbound("X-Request-Id:").value("x-request-id")) == 32


def test_other_correlation_ids_pass_untouched() -> None:
    message = Bench().inbound("X-Correlation-Id: abc")
    assert message.value("x-correlation-id") == "abc"
    assert message.value("x-request-id") != "abc"


# Trust


def test_at_an_edge_the_trace_starts_anew_with_a_link_to_the_one_outside() -> None:
    message = Bench().inbound(
        f"traceparent: {PARENT}", "tracestate: a=1", "baggage: x=1", trust="edge"
    )
    span = message.span()
    assert message.trace_id == span.trace_id.hex() != TRACE_ID
    assert message.value("tracestate") == "ot=th:0", "ours, and nothing of theirs"
    assert message.values("baggage") == []
    assert span.parent_id == b""
    assert [(link.context.trace_id.hex(), link.context.span_id.hex()) for link in span.links] == [
        (TRACE_ID, SPAN_ID)
    ]
    assert attributes(span)["meshproxy.propagation"] == "root"


@pytest.mark.parametrize(
    "header",
    [
        f"traceparent: {PARENT}",
        "b3: 80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-d",
        "b3: 1",
        "X-B3-Flags: 1",
    ],
)
def test_at_an_edge_a_forged_sampled_is_ignored(header: str) -> None:
    message = Bench(ratio(0.0)).inbound(header, trust="edge")
    assert not message.flags & 1
    assert message.end() is None
    assert message.values("b3") == message.values("x-b3-flags") == []


def test_at_an_edge_an_unsampled_caller_hides_nothing() -> None:
    assert Bench().inbound(f"traceparent: {UNSAMPLED_PARENT}", trust="edge").end() is not None


def test_at_an_edge_a_broken_context_is_the_outsiders_affair() -> None:
    found = Bench().inbound("traceparent: x", trust="edge").attributes()
    assert found["meshproxy.propagation"] == "root"
    assert "meshproxy.gap" not in found


# Sampling


def test_the_callers_decision_is_followed() -> None:
    assert Bench(ratio(0.0)).inbound(f"traceparent: {PARENT}").end() is not None
    assert Bench(ratio(1.0)).inbound(f"traceparent: {UNSAMPLED_PARENT}").end() is None


def test_an_unsampled_request_still_carries_a_context() -> None:
    message = Bench(ratio(0.0)).inbound()
    assert message.flags == 0x02
    assert message.end() is None


def test_errors_are_exported_although_not_sampled() -> None:
    bench = Bench(ratio(0.0))
    message = bench.inbound()
    span = message.span(500)
    assert span.span_id.hex() == message.span_id
    assert span.flags & 1 == 0, "the trace as a whole is not sampled"
    assert bench.inbound().end(404) is None
    assert bench.stats.spans == {"error": 1, "not_sampled": 1}


def test_errors_are_not_exported_when_only_sampled_ones_are_wanted() -> None:
    assert Bench(ratio(0.0, errors="sampled")).inbound().end(500) is None


def test_the_decision_is_the_consistent_one() -> None:
    bench = Bench(ratio(0.25))
    kept = 0
    for _ in range(400):
        message = bench.inbound()
        expected = randomness(bytes.fromhex(message.trace_id)) >= threshold(0.25)
        assert (message.end() is not None) is expected is bool(message.flags & 1)
        assert message.values("tracestate") == (["ot=th:c"] if expected else [])
        kept += expected
    assert 60 < kept < 140


def rule(ratio: float | None = None, drop: bool = False, **match: object) -> SamplingRule:
    return SamplingRule(match=Match(**match), ratio=ratio, drop=drop)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("matching", "line", "headers"),
    [
        (rule(1.0, path="/a/*"), "GET /a/42 HTTP/1.1", []),
        (rule(1.0, route="GET /a/{id}"), "GET /a/42 HTTP/1.1", []),
        (rule(1.0, method="POST"), "POST /x HTTP/1.1", []),
        (rule(1.0, headers={"X-Debug": "*"}), "GET /x HTTP/1.1", ["x-debug: yes"]),
    ],
)
def test_rules_look_at_path_route_method_and_headers(
    matching: SamplingRule, line: str, headers: list[str]
) -> None:
    bench = Bench(ratio(0.0, rules=(matching,)))
    assert bench.inbound(*headers, line=line).end() is not None
    assert bench.inbound(line="GET /other HTTP/1.1").end() is None


DROP = ratio(1.0, rules=(rule(drop=True, path="/healthz"),))


def test_a_dropped_request_has_no_span_not_even_as_an_error() -> None:
    bench = Bench(DROP)
    assert bench.inbound(line="GET /healthz HTTP/1.1").end(500) is None
    assert bench.inbound(line="GET /readyz HTTP/1.1").end(500) is not None


def test_a_dropped_request_passes_the_callers_context_on() -> None:
    message = Bench(DROP).inbound(
        f"traceparent: {PARENT}", "tracestate: a=1", line="GET /healthz HTTP/1.1"
    )
    assert message.traceparent == PARENT, "no span of ours stands between"
    assert message.value("tracestate") == "a=1"


def test_a_dropped_request_without_context_gets_an_unsampled_one() -> None:
    bench = Bench(DROP)
    probe = bench.inbound(line="GET /healthz HTTP/1.1")
    assert probe.flags & 1 == 0
    call = bench.outbound()
    assert call.trace_id == probe.trace_id
    assert call.end() is None, "no probe's calls fill the traces"


def test_a_call_within_a_dropped_request_belongs_to_the_callers_span() -> None:
    bench = Bench(DROP)
    bench.inbound(f"traceparent: {PARENT}", line="GET /healthz HTTP/1.1")
    span = bench.outbound().span()
    assert (span.trace_id.hex(), span.parent_id.hex()) == (TRACE_ID, SPAN_ID)


def test_messages_are_counted_by_what_was_made_of_their_context() -> None:
    bench = Bench()
    for headers in ((), (f"traceparent: {PARENT}",), ("traceparent: x",)):
        bench.inbound(*headers).end()
    assert bench.stats.propagation == {
        ("inbound", "root"): 1,
        ("inbound", "ok"): 1,
        ("inbound", "unlinked"): 1,
    }
