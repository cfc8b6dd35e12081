"""The ladder of evidence, rung by rung."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from meshproxy.linking.gaps import ADVICE, Gap
from meshproxy.linking.inflight import Cause, InFlight
from meshproxy.linking.linker import LADDER, MAX_CANDIDATES, Call, Linker, Rung
from meshproxy.trace.context import SAMPLED, SpanContext


def context(trace: int, span: int, flags: int = SAMPLED, tracestate: str = "") -> SpanContext:
    return SpanContext(trace.to_bytes(16, "big"), span.to_bytes(8, "big"), flags, tracestate)


def cause(number: int, request_id: bytes = b"", **more: str) -> Cause:
    return Cause(context(number, number, **more), "GET /", number, request_id)  # type: ignore[arg-type]


def in_flight(*causes: Cause, limit: int = 100) -> InFlight:
    inflight = InFlight(limit)
    for each in causes:
        inflight.add(each)
    return inflight


def test_evidence_is_asked_strongest_first() -> None:
    confidences = [confidence for _, confidence, _ in LADDER]
    assert confidences == sorted(confidences, reverse=True)


def test_a_right_traceparent_beats_all_other_evidence() -> None:
    one, two = cause(1, b"one"), cause(2, b"two")
    decision = Linker(in_flight(one, two), 0.99).link(Call(context(1, 77), request_ids=[b"two"]))
    assert decision.cause is one
    assert (decision.evidence, decision.confidence, decision.propagation) == (
        "traceparent",
        1,
        "ok",
    )


def test_a_request_id_beats_being_alone() -> None:
    one = cause(1, b"one")
    decision = Linker(in_flight(one), 0.99).link(Call(request_ids=[b"one"]))
    assert decision.cause is one
    assert decision.evidence == "request_id"


def test_an_unknown_request_id_says_nothing() -> None:
    one = cause(1, b"one")
    decision = Linker(in_flight(one), 0.99).link(Call(request_ids=[b"minted-by-the-app"]))
    assert (decision.cause, decision.evidence) == (one, "only_in_flight")


def test_a_rung_that_points_at_several_leaves_it_to_the_next() -> None:
    one, two = cause(1), cause(2)

    def both(call: Call, inflight: InFlight) -> Sequence[Cause]:
        return (one, two)

    def second(call: Call, inflight: InFlight) -> Sequence[Cause]:
        return (two,)

    ladder: list[tuple[str, float, Rung]] = [("both", 1.0, both), ("second", 0.5, second)]
    decision = Linker(in_flight(one, two), 0.0, ladder).link(Call())
    assert (decision.cause, decision.evidence, decision.confidence) == (two, "second", 0.5)


@pytest.mark.parametrize(
    ("threshold", "evidence"), [(0.0, "only_in_flight"), (0.99, "only_in_flight"), (0.991, "")]
)
def test_evidence_counts_from_the_threshold_on(threshold: float, evidence: str) -> None:
    decision = Linker(in_flight(cause(1)), threshold).link(Call())
    assert decision.evidence == evidence
    assert (decision.cause is None) is (evidence == "")


def test_candidates_are_the_newest() -> None:
    causes = [cause(number) for number in range(1, 21)]
    decision = Linker(in_flight(*causes), 0.99).link(Call())
    assert decision.propagation == "ambiguous"
    assert list(decision.candidates) == causes[::-1][:MAX_CANDIDATES]
    assert (decision.parent, decision.confidence) == (None, 0.0)


def test_a_new_decision_for_each_call() -> None:
    """Callers write into decisions."""
    linker = Linker(InFlight(), 0.99)
    linker.link(Call()).gap = Gap.STALE
    assert linker.link(Call()).gap is None


@pytest.mark.parametrize("gap", [Gap.MALFORMED, Gap.DUPLICATED, Gap.FORMAT])
def test_what_was_found_wrong_is_said_whether_or_not_it_is_mended(gap: Gap) -> None:
    assert Linker(in_flight(cause(1)), 0.99).link(Call(gap=gap)).gap is gap
    alone = Linker(InFlight(), 0.99).link(Call(gap=gap))
    assert (alone.gap, alone.propagation, alone.parent) == (gap, "unlinked", None)


def test_a_trace_is_over_when_its_last_request_is() -> None:
    one, again = cause(1), cause(1)
    inflight = in_flight(one, again, cause(2))
    linker = Linker(inflight, 0.99)
    given = Call(one.context)
    inflight.remove(one)
    assert linker.link(given).propagation == "ok"
    inflight.remove(again)
    assert linker.link(given).gap is Gap.STALE


def test_every_gap_has_advice() -> None:
    assert set(ADVICE) == set(Gap)
