"""Confidence is lowered to what it has turned out to be worth."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshproxy.linking.calibration import MOST_ESTIMATED, Calibration
from meshproxy.linking.inflight import Cause
from tests.linking.bench import Service

SHARES = st.floats(0.0, 1.0)


def observed(estimate: float, right: int, wrong: int) -> Calibration:
    calibration = Calibration()
    for number in range(right + wrong):
        calibration.observe(estimate, number % (right + wrong) < right)
    return calibration


def test_before_anything_is_observed_estimates_stand() -> None:
    for estimate in (0.0, 0.3, 0.5, 0.95, 0.99, MOST_ESTIMATED):
        assert Calibration().corrected(estimate) == pytest.approx(estimate)


def test_no_estimate_counts_as_certain() -> None:
    assert MOST_ESTIMATED < 0.999
    assert Calibration().corrected(1.0) == MOST_ESTIMATED
    assert observed(1.0, 10_000, 0).corrected(1.0) == MOST_ESTIMATED


@pytest.mark.parametrize("share", [0.0, 0.5, 0.9, 0.95])
@pytest.mark.parametrize("estimate", [0.991, 0.9999])
def test_what_turns_out_wrong_is_worth_less(estimate: float, share: float) -> None:
    right = int(1000 * share)
    corrected = observed(estimate, right, 1000 - right).corrected(0.995)
    assert corrected == pytest.approx(share, abs=0.025)


def test_estimates_of_another_size_are_judged_by_themselves() -> None:
    calibration = observed(0.95, 0, 100)
    assert calibration.corrected(0.95) < 0.2
    assert calibration.corrected(0.995) == pytest.approx(0.995)
    assert calibration.corrected(0.6) == pytest.approx(0.6)


def test_a_few_cases_are_no_proof() -> None:
    assert observed(0.995, 0, 1).corrected(0.995) > 0.9


def test_what_was_wrong_long_ago_is_forgiven() -> None:
    calibration = observed(0.995, 0, 200)
    assert calibration.corrected(0.995) < 0.2
    for _ in range(20_000):
        calibration.observe(0.995, True)
    assert calibration.corrected(0.995) > 0.99


@given(st.lists(st.tuples(SHARES, st.booleans()), max_size=200), SHARES)
def test_estimates_are_only_ever_lowered(cases: list[tuple[float, bool]], estimate: float) -> None:
    calibration = Calibration()
    for observed_estimate, right in cases:
        calibration.observe(observed_estimate, right)
    assert 0.0 <= calibration.corrected(estimate) <= min(estimate, MOST_ESTIMATED)


# While a service runs


def crowded(service: Service, number: int) -> tuple[Cause, Cause]:
    """Of two requests, the odds are all for the second."""
    late = service.request(ids=[b"late-%d" % number])
    service.wait(60)
    due = service.request(ids=[b"due-%d" % number])
    service.wait(1.1)
    return late, due


@pytest.mark.parametrize("by", ["traceparent", "request_id"])
def test_certain_evidence_that_contradicts_the_odds_lowers_them(by: str) -> None:
    """Requests that are not alone turn out to be slower than those that are."""
    service = Service()
    service.practise(200, "pricing")
    late, due = crowded(service, 0)
    assert service.call("pricing").cause is due
    service.end(late, due)
    for number in range(1, 41):
        late, due = crowded(service, number)
        if by == "traceparent":
            decision = service.call("pricing", carrying=late.context)
        else:
            decision = service.call("pricing", ids=[late.request_id])
        assert (decision.cause, decision.evidence) == (late, by)
        service.end(late, due)
        service.wait(10)
    late, due = crowded(service, 99)
    decision = service.call("pricing")
    assert decision.cause is None
    assert decision.candidates
    assert max(service.knowledge.calibration.corrected(each) for each in (0.95, 0.995)) < 0.99


def test_certain_evidence_that_agrees_lowers_nothing() -> None:
    service = Service()
    service.practise(200, "pricing")
    for number in range(100):
        late, due = crowded(service, number)
        assert service.call("pricing", ids=[due.request_id]).cause is due
        service.end(late, due)
        service.wait(10)
    assert service.knowledge.calibration.corrected(0.995) == pytest.approx(0.995)
    _, due = crowded(service, 999)
    decision = service.call("pricing")
    assert (decision.cause, decision.evidence) == (due, "timing")


def contradicted() -> Service:
    """A service in which the odds were wrong as long as requests were not alone."""
    service = Service()
    service.practise(200, "pricing")
    for _ in range(100):
        service.knowledge.calibration.observe(0.999, False)
    return service


def test_what_was_observed_outlives_the_linker() -> None:
    before = contradicted()
    service = Service(knowledge=before.knowledge)
    service.now_ns = before.now_ns
    crowded(service, 0)
    assert service.call("pricing").cause is None


def test_mistakes_among_several_requests_say_nothing_of_being_alone() -> None:
    service = contradicted()
    cause = service.request()
    service.wait(1.1)
    assert service.call("pricing").cause is cause
