"""The rig's verdicts: nobody else checks the checker."""

from __future__ import annotations

import pytest

from loadtest.linking.live.judge import Fate, Told, judge, read_truth
from loadtest.linking.live.services.behaviour import NO_REQUEST, truth_line
from loadtest.linking.live.spans import Candidate, Made, Received, Spans

FIRST = Received("in-1", "span-1", "trace-1", start_ns=100, end_ns=200)
SECOND = Received("in-2", "span-2", "trace-2", start_ns=110, end_ns=220)


def told(inbound: str = "in-1", behaviour: str = "seq") -> Told:
    return Told(behaviour, "none", inbound, "call-1")


def made(
    parent: str = "",
    *,
    inbound: str = "",
    trace_id: str = "trace-1",
    start_ns: int = 150,
    propagation: str = "repaired",
    candidates: tuple[Candidate, ...] = (),
    confidence: float | None = 0.999,
) -> Made:
    return Made(
        nonce="call-1",
        parent=parent,
        trace_id=trace_id,
        start_ns=start_ns,
        end_ns=start_ns + 10,
        inbound=inbound,
        evidence="timing",
        confidence=confidence,
        propagation=propagation,
        gap="dropped",
        candidates=candidates,
    )


@pytest.mark.parametrize(
    ("truth", "span", "fate"),
    [
        (told(), made("span-1"), Fate.RIGHT),
        (told(), made("", inbound="span-1"), Fate.RIGHT),
        (told(), made("span-2", trace_id="trace-2"), Fate.WRONG),
        (told(), made("", propagation="ambiguous"), Fate.ABSTAINED),
        (told(NO_REQUEST, "background"), made("", propagation="root"), Fate.ABSTAINED),
        (told(NO_REQUEST, "background"), made("span-1"), Fate.WRONG),
        (told(behaviour="late"), made("span-2", trace_id="trace-2", start_ns=210), Fate.WRONG),
    ],
)
def test_a_call_is_right_only_if_it_hangs_below_its_own_request(
    truth: Told, span: Made, fate: Fate
) -> None:
    verdict = judge([truth], Spans((FIRST, SECOND), (span,)))
    assert [each.fate for each in verdict.calls] == [fate]


def test_a_call_without_a_span_is_lost_and_told() -> None:
    verdict = judge([told()], Spans((FIRST,), ()))
    assert verdict.calls[0].fate is Fate.LOST
    assert verdict.examples == {"a call without a CLIENT span": "call-1"}


def test_the_rank_of_the_true_request_is_found_among_the_candidates() -> None:
    candidates = (Candidate("span-2", 1, 0.6), Candidate("span-1", 2, 0.3))
    span = made("", propagation="ambiguous", candidates=candidates)
    call = judge([told()], Spans((FIRST, SECOND), (span,))).calls[0]
    assert call.right_rank == 2
    assert call.confidences == ((0.6, False), (0.3, True))


@pytest.mark.parametrize(
    ("truth", "span", "oddity"),
    [
        (told(), made("span-9"), "a parent that is no SERVER span"),
        (told(), made("span-1", trace_id="trace-2"), "a parent of another trace"),
        (
            told(),
            made("span-1", inbound="span-2"),
            "the parent is another than meshproxy.inbound.span_id",
        ),
        (told(), made("span-1", confidence=None), "linked without confidence or evidence"),
        (
            told(behaviour="late"),
            made("span-1", start_ns=205),
            "linked to a request that was not in flight when the call left",
        ),
        (
            told(),
            made("", propagation="root"),
            "an unlinked call of a request in flight says propagation 'root'",
        ),
        (told(), made("", propagation="ambiguous"), "ambiguous without candidates"),
        (
            told(behaviour="late"),
            made("", start_ns=205, candidates=(Candidate("span-1", 1, None),)),
            "a candidate that was not in flight when the call left",
        ),
    ],
)
def test_spans_that_contradict_themselves_or_others_are_told(
    truth: Told, span: Made, oddity: str
) -> None:
    assert judge([truth], Spans((FIRST, SECOND), (span,))).oddities[oddity] == 1


def test_spans_that_are_right_are_not_odd() -> None:
    span = made("span-1", inbound="span-1")
    assert not judge([told()], Spans((FIRST, SECOND), (span,))).oddities


def test_what_a_service_tells_is_what_is_judged() -> None:
    lines = [
        truth_line("seq", "path", "in-1", "call-1"),
        truth_line("background", "none", "-", "x"),
    ]
    first, second = read_truth(lines)
    assert first == Told("seq", "path", "in-1", "call-1")
    assert first.caused
    assert not second.caused
