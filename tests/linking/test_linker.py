"""What a call is linked to, and what is made of the context that it carries."""

from __future__ import annotations

import pytest

from meshproxy.linking.call import Decision
from meshproxy.linking.gaps import ADVICE, Gap
from meshproxy.linking.inflight import ABANDONED_NS, Cause
from meshproxy.trace.context import SpanContext
from tests.linking.bench import MILLISECOND, SECOND, Service, context, uuid


def child_of(cause: Cause, span: int = 77, flags: int = 1, tracestate: str = "") -> SpanContext:
    """The context of a span that the service's own SDK made within a request."""
    return SpanContext(cause.context.trace_id, span.to_bytes(8, "big"), flags, tracestate)


def verdict(decision: Decision) -> tuple[str, Gap | None, str]:
    return decision.propagation, decision.gap, decision.evidence


@pytest.fixture
def service() -> Service:
    return Service()


# A context that is right


def test_a_call_with_the_context_of_a_request_belongs_to_it(service: Service) -> None:
    _, two, _ = service.requests(3)
    carried = child_of(two)
    decision = service.call(carrying=carried)
    assert (decision.cause, decision.parent, decision.confidence) == (two, carried, 1.0)
    assert verdict(decision) == ("ok", None, "traceparent")


def test_a_service_that_passes_contexts_on_is_not_followed(service: Service) -> None:
    causes = service.requests(5)
    for cause in causes:
        service.wait(1)
        decision = service.call(carrying=child_of(cause))
        service.answer(decision)
        assert decision.made is None
    assert [cause.track for cause in causes] == [None] * 5


def test_the_first_call_without_context_wakes_the_linker_for_a_minute(service: Service) -> None:
    one, two = service.requests(2)
    service.call()
    assert one.track is not None
    assert two.track is not None
    service.wait(59_000)
    assert service.request().track is not None
    service.wait(1_000)
    assert service.request().track is None


@pytest.mark.parametrize(
    ("flags", "tracestate", "baggage", "gap"),
    [
        (1, "a=1", b"user=1", None),
        (0, "a=1", b"user=1", Gap.UNSAMPLED),
        (1, "", b"user=1", Gap.TRACESTATE_LOST),
        (1, "a=1", b"", Gap.BAGGAGE_LOST),
    ],
)
def test_a_context_that_is_right_may_have_lost_something(
    service: Service, flags: int, tracestate: str, baggage: bytes, gap: Gap | None
) -> None:
    cause = service.request(tracestate="a=1", baggage=b"user=1")
    carried = child_of(cause, flags=flags, tracestate=tracestate)
    decision = service.call(carrying=carried, baggage=baggage)
    assert (decision.parent, decision.cause) == (carried, cause)
    assert verdict(decision) == ("repaired" if gap else "ok", gap, "traceparent")


def test_a_trace_that_came_in_twice_names_the_request_only_by_its_span(service: Service) -> None:
    one, two = service.request(trace=9), service.request(trace=9)
    assert service.call(carrying=two.context).cause is two
    decision = service.call(carrying=child_of(one))
    assert (decision.cause, decision.propagation) == (None, "ok")
    service.end(two)
    assert service.call(carrying=child_of(one)).cause is one


def test_a_trace_is_over_when_its_last_request_is(service: Service) -> None:
    one, again, _ = service.request(trace=9), service.request(trace=9), service.request()
    service.end(one)
    assert service.call(carrying=one.context).propagation == "ok"
    service.end(again)
    assert service.call(carrying=again.context).gap is Gap.STALE


# A context that is of no request in flight


def test_work_without_any_request_keeps_its_own_context(service: Service) -> None:
    decision = service.call(carrying=context(99, 1))
    assert decision.parent == context(99, 1)
    assert verdict(decision) == ("ok", None, "traceparent")


@pytest.mark.parametrize("others", [0, 1, 2])
def test_work_that_outlived_its_request_keeps_its_trace(service: Service, others: int) -> None:
    over = service.request()
    service.end(over)
    service.requests(others)
    carried = child_of(over)
    decision = service.call(carrying=carried)
    assert (decision.parent, decision.cause) == (carried, None)
    assert verdict(decision) == ("ok", None, "traceparent")


def test_a_stale_context_is_replaced_when_the_cause_is_known(service: Service) -> None:
    over = service.request()
    service.end(over)
    now = service.request()
    decision = service.call(carrying=over.context)
    assert (decision.cause, decision.parent) == (now, now.context)
    assert verdict(decision) == ("repaired", Gap.STALE, "only_in_flight")


def test_a_stale_context_is_not_continued_when_the_cause_is_unknown(service: Service) -> None:
    over = service.request()
    service.end(over)
    causes = service.requests(2)
    decision = service.call(carrying=over.context)
    assert (decision.cause, decision.parent) == (None, None)
    assert verdict(decision) == ("ambiguous", Gap.STALE, "")
    assert {each.cause for each in decision.candidates} == set(causes)


def test_a_stale_context_beside_a_request_id_belongs_to_the_request(service: Service) -> None:
    over = service.request(ids=[b"over"])
    service.end(over)
    one, _ = service.request(ids=[b"one"]), service.request(ids=[b"two"])
    decision = service.call(carrying=over.context, ids=[b"one"])
    assert decision.cause is one
    assert verdict(decision) == ("repaired", Gap.STALE, "request_id")


def test_a_restarted_trace_is_mended_when_the_cause_is_known(service: Service) -> None:
    cause = service.request()
    decision = service.call(carrying=context(99, 1))
    assert (decision.cause, decision.parent) == (cause, cause.context)
    assert verdict(decision) == ("repaired", Gap.RESTARTED, "only_in_flight")


def test_a_trace_of_its_own_is_left_to_it_when_the_cause_is_unknown(service: Service) -> None:
    service.requests(2)
    decision = service.call(carrying=context(99, 1))
    assert decision.parent == context(99, 1)
    assert verdict(decision) == ("ambiguous", Gap.RESTARTED, "")
    assert len(decision.candidates) == 2


def test_foreign_contexts_that_come_without_requests_too_are_no_gaps(service: Service) -> None:
    """Such as those of a consumer of messages."""
    for number in range(3):
        service.call("store", carrying=context(1000 + number, 1))
    service.request()
    decision = service.call("store", carrying=context(2000, 1))
    assert decision.parent == context(2000, 1)
    assert verdict(decision) == ("ok", None, "traceparent")
    elsewhere = service.call("pricing", carrying=context(2001, 1))
    assert elsewhere.gap is Gap.RESTARTED, "nothing is known of that destination"


def test_foreign_contexts_beside_requests_that_pass_theirs_on_are_no_gaps(
    service: Service,
) -> None:
    right = service.request("GET /orders")
    service.call(carrying=child_of(right))
    decision = service.call("store", carrying=context(2000, 1))
    assert verdict(decision) == ("ok", None, "traceparent")
    service.request("GET /broken")
    assert service.call("store", carrying=context(2001, 1)).gap is Gap.RESTARTED


def test_certain_evidence_counts_more_than_habits(service: Service) -> None:
    for number in range(5):
        service.call("store", carrying=context(1000 + number, 1))
    cause = service.request(ids=[b"one"])
    decision = service.call("store", carrying=context(2000, 1), ids=[b"one"])
    assert decision.cause is cause
    assert verdict(decision) == ("repaired", Gap.RESTARTED, "request_id")


# No context


def test_a_call_while_nothing_is_in_flight_is_a_root(service: Service) -> None:
    decision = service.call()
    assert verdict(decision) == ("root", None, "")
    assert (decision.parent, decision.cause, decision.candidates) == (None, None, ())


def test_a_call_of_the_only_request_is_dropped_and_repaired(service: Service) -> None:
    cause = service.request()
    decision = service.call()
    assert (decision.cause, decision.parent) == (cause, cause.context)
    assert verdict(decision) == ("repaired", Gap.DROPPED, "only_in_flight")


def test_a_call_of_nobody_known_is_told_apart_from_that_of_somebody(service: Service) -> None:
    service.requests(2)
    decision = service.call()
    assert (decision.cause, decision.parent, decision.confidence) == (None, None, 0.0)
    assert verdict(decision) == ("ambiguous", Gap.DROPPED, "")


def test_polling_goes_on_while_requests_are_in_flight(service: Service) -> None:
    for _ in range(20):
        service.call("broker")
        service.wait(1000)
    service.request()
    service.wait(1)
    decision = service.call("broker")
    assert verdict(decision) == ("root", None, "")
    assert (decision.cause, decision.parent) == (None, None)
    assert service.call("pricing").propagation == "repaired"


def test_a_probe_that_makes_calls_has_no_gaps(service: Service) -> None:
    probe = service.request("GET /healthz")
    probe.probe = True
    decision = service.call()
    assert (decision.cause, decision.parent) == (probe, probe.context)
    assert verdict(decision) == ("repaired", None, "only_in_flight")


@pytest.mark.parametrize("gap", [Gap.MALFORMED, Gap.DUPLICATED, Gap.FORMAT])
@pytest.mark.parametrize(
    ("in_flight", "propagation"), [(0, "unlinked"), (1, "repaired"), (2, "ambiguous")]
)
def test_what_was_found_wrong_is_said_whether_or_not_it_is_mended(
    service: Service, gap: Gap, in_flight: int, propagation: str
) -> None:
    service.requests(in_flight)
    decision = service.call(gap=gap)
    assert (decision.propagation, decision.gap) == (propagation, gap)
    assert (decision.parent is not None) == (propagation == "repaired")


# Evidence that contradicts itself


def test_the_context_of_one_request_with_the_id_of_another(service: Service) -> None:
    one, two = service.request(ids=[b"one"]), service.request(ids=[b"two"])
    decision = service.call(carrying=child_of(one), ids=[b"two"])
    assert decision.contradiction
    assert (decision.cause, decision.parent) == (None, None)
    assert verdict(decision) == ("ambiguous", None, "")
    found = [(each.cause, each.evidence) for each in decision.candidates]
    assert found == [(one, "traceparent"), (two, "request_id")]


def test_the_context_of_one_request_with_an_id_that_others_share(service: Service) -> None:
    one, two, three = service.request(), service.request(ids=[b"x"]), service.request(ids=[b"x"])
    decision = service.call(carrying=child_of(one), ids=[b"x"])
    assert decision.contradiction
    assert {each.cause for each in decision.candidates} == {one, two, three}


def test_a_request_id_of_the_same_request_is_no_contradiction(service: Service) -> None:
    one, again = service.request(ids=[b"one"]), service.request(ids=[b"one"])
    decision = service.call(carrying=child_of(one), ids=[b"one", b"unknown"])
    assert decision.cause is one
    assert not decision.contradiction
    assert service.call(carrying=again.context, ids=[b"one"]).cause is again


def test_the_id_of_one_request_with_the_content_of_another(service: Service) -> None:
    service.linker.content.need(service.now_ns)
    one = service.request(ids=[b"one"], words=uuid(1))
    two = service.request(ids=[b"two"], words=uuid(2))
    decision = service.call(ids=[b"one"], words=uuid(2))
    assert decision.contradiction
    assert verdict(decision) == ("ambiguous", Gap.DROPPED, "")
    found = {(each.cause, each.evidence) for each in decision.candidates}
    assert found == {(one, "request_id"), (two, "content")}


def test_content_of_two_requests(service: Service) -> None:
    service.linker.content.need(service.now_ns)
    one, two = service.request(words=uuid(1)), service.request(words=uuid(2))
    service.request()
    decision = service.call(words=uuid(1) + b" " + uuid(2))
    assert decision.contradiction
    assert {each.cause for each in decision.candidates} == {one, two}


# Requests that are over for their clients, or not known


def test_an_abandoned_request_may_still_make_calls(service: Service) -> None:
    left, _ = service.request(ids=[b"left"]), service.request(ids=[b"here"])
    service.abandon(left)
    assert service.call().propagation == "ambiguous"
    assert service.call(ids=[b"left"]).cause is left
    assert service.call(carrying=child_of(left)).cause is left


def test_an_abandoned_request_is_no_cause_to_rely_on_alone(service: Service) -> None:
    service.abandon(service.request())
    assert verdict(service.call()) == ("root", None, "")


def test_an_abandoned_request_is_over_some_day(service: Service) -> None:
    service.abandon(service.request())
    service.wait(ABANDONED_NS / MILLISECOND)
    cause = service.request()
    assert service.call().cause is cause


def test_while_there_are_requests_that_are_not_known_nothing_is_concluded() -> None:
    service = Service(limit=1)
    known, unknown = service.request(ids=[b"known"]), service.request()
    assert service.call().propagation == "ambiguous"
    assert service.call(ids=[b"known"]).cause is known
    service.end(known)
    assert verdict(service.call()) == ("unlinked", Gap.DROPPED, "")
    service.end(unknown)
    assert service.call().propagation == "root"
    assert service.call(carrying=context(99, 1)).propagation == "ok"


def test_an_unknown_request_may_be_abandoned_too() -> None:
    service = Service(limit=0)
    service.abandon(service.request())
    assert service.inflight.complete
    assert service.call().propagation == "root"


# Messages


def test_a_consumed_message_is_in_flight_like_a_request(service: Service) -> None:
    message = Cause(context(500, 1), "receive orders", service.now_ns, b"", b"user=1")
    service.linker.begin(message, service.now_ns)
    decision = service.call()
    assert (decision.cause, decision.parent) == (message, message.context)
    assert verdict(decision) == ("repaired", Gap.DROPPED, "only_in_flight")
    service.answer(decision)
    service.end(message)
    assert service.inflight.idle
    assert service.call().propagation == "root"


def test_messages_and_requests_are_told_apart(service: Service) -> None:
    service.linker.content.need(service.now_ns)
    requests = [service.request(words=uuid(number)) for number in range(3)]
    message = service.request("receive orders", trace=500, baggage=b"user=1", words=uuid(9))
    assert service.call().propagation == "ambiguous"
    assert service.call("stock", words=uuid(9)).cause is message
    assert service.call(carrying=child_of(message)).gap is Gap.BAGGAGE_LOST
    assert service.call(carrying=child_of(requests[0])).cause is requests[0]
    service.end(message)
    service.wait(1)
    stale = service.call(carrying=message.context, words=uuid(1))
    assert stale.cause is requests[1]
    assert stale.gap is Gap.STALE


def test_of_what_messages_usually_do_requests_are_innocent(service: Service) -> None:
    service.practise(150, "pricing", route="GET /orders")
    service.practise(150, "store", route="receive orders")
    request, message = service.request("GET /orders"), service.request("receive orders")
    service.wait(1.1)
    assert service.call("store").cause is message
    service.wait(0.1)
    assert service.call("pricing").cause is request


# Decisions


def test_a_new_decision_for_each_call(service: Service) -> None:
    """Callers write into decisions."""
    service.call().gap = Gap.STALE
    assert service.call().gap is None


def test_candidates_are_the_likeliest_and_of_the_equally_likely_the_newest(
    service: Service,
) -> None:
    causes = service.requests(20)
    decision = service.call()
    assert [each.cause for each in decision.candidates] == causes[:-9:-1]
    assert {round(each.confidence, 6) for each in decision.candidates} == {0.05}


def test_everything_is_let_go_when_a_request_ends(service: Service) -> None:
    service.linker.content.need(service.now_ns)
    cause = service.request(words=uuid(1), ids=[b"one"])
    decision = service.call("pricing", words=uuid(1))
    service.end(cause)
    service.wait(SECOND / MILLISECOND)
    service.answer(decision, words=uuid(2))
    assert (cause.track, cause.carrier) == (None, None)
    assert len(service.inflight) == 0
    service.requests(2)
    assert service.call(ids=[b"one"], words=uuid(1) + b" " + uuid(2)).cause is None


def test_every_gap_has_advice() -> None:
    assert set(ADVICE) == set(Gap)
