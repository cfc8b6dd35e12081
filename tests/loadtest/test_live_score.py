"""The figures of the live rig, on calls whose fate is known."""

from __future__ import annotations

import pytest

from loadtest.linking.live.cases import Case
from loadtest.linking.live.judge import Fate, Judged, Told
from loadtest.linking.live.score import calibration_error, score
from loadtest.linking.live.services.behaviour import NO_REQUEST
from loadtest.linking.live.targets import missed


def call(
    fate: Fate,
    inbound: str = "in-1",
    behaviour: str = "seq",
    evidence: str = "timing",
    confidence: float | None = None,
) -> Judged:
    return Judged(Told(behaviour, "none", inbound, "x"), fate, evidence, confidence)


def test_precision_counts_all_links_and_recall_only_calls_of_requests_in_flight() -> None:
    figures = score(
        [
            call(Fate.RIGHT),
            call(Fate.ABSTAINED, "in-2"),
            call(Fate.WRONG, NO_REQUEST, "background"),
            call(Fate.ABSTAINED, "in-1", "late"),
        ]
    )
    assert figures.precision == pytest.approx(1 / 2)
    assert figures.recall == pytest.approx(1 / 2)
    assert figures.wrong_share == pytest.approx(1 / 4)
    assert (figures.caused, figures.late, figures.background) == (2, 1, 1)


def test_a_request_is_whole_when_every_call_made_before_its_answer_is_right() -> None:
    figures = score(
        [
            call(Fate.RIGHT, "in-1"),
            call(Fate.RIGHT, "in-1"),
            call(Fate.ABSTAINED, "in-1", "late"),
            call(Fate.RIGHT, "in-2"),
            call(Fate.ABSTAINED, "in-2"),
        ]
    )
    assert figures.whole_share == pytest.approx(1 / 2)


def test_a_lost_call_is_not_right() -> None:
    figures = score([call(Fate.RIGHT), call(Fate.LOST)])
    assert (figures.recall, figures.lost, figures.linked) == (0.5, 1, 1)


def test_evidence_is_counted_with_how_much_of_it_is_right() -> None:
    calls = [call(Fate.RIGHT), call(Fate.WRONG), call(Fate.RIGHT, evidence="request_id")]
    assert score(calls).evidence == {"timing": (2, 1), "request_id": (1, 1)}


def test_nothing_is_divided_by_nothing() -> None:
    figures = score([])
    assert (figures.precision, figures.recall, figures.link_error) == (None, None, None)


def test_calibration_error_is_nil_when_claims_come_true() -> None:
    assert calibration_error([(0.75, True)] * 3 + [(0.75, False)]) == pytest.approx(0.0)


def test_calibration_error_is_weighted_by_how_often_a_confidence_is_claimed() -> None:
    pairs = [(0.95, False)] * 1 + [(0.5, True)] * 1 + [(0.5, False)] * 2
    assert calibration_error(pairs) == pytest.approx((0.95 + abs(1.5 - 1)) / 4)


def test_a_case_that_reaches_its_targets_misses_none() -> None:
    calls = [call(Fate.RIGHT) for _ in range(1000)]
    for service in ("prefork", "threads", "asyncio"):
        assert not list(missed(Case(service, "plain", 0, 8), calls))


def test_a_case_that_links_wrongly_under_a_thread_pool_misses_two_targets() -> None:
    calls = [call(Fate.RIGHT)] * 98 + [call(Fate.WRONG)] * 2
    assert len(list(missed(Case("pool", "mixed", 0, 8), calls))) == 2


def test_a_prefork_service_is_held_to_its_recall() -> None:
    calls = [call(Fate.RIGHT)] * 98 + [call(Fate.ABSTAINED)] * 2
    assert len(list(missed(Case("prefork", "plain", 0, 8), calls))) == 1
    assert not list(missed(Case("asyncio", "plain", 0, 8), calls))
