"""Truth and spans put together: what became of each call. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from loadtest.linking.live.services.behaviour import NO_REQUEST
from loadtest.linking.live.spans import Made, Received, Spans

LATE = "late"
BACKGROUND = "background"


@dataclass(frozen=True, slots=True)
class Told:
    """A line of the truth: this call was made for that request."""

    behaviour: str
    echo: str
    inbound: str
    call: str

    @property
    def caused(self) -> bool:
        return self.inbound != NO_REQUEST


class Fate(StrEnum):
    """What the sidecar said of a call."""

    RIGHT = "right"
    WRONG = "wrong"
    ABSTAINED = "abstained"
    LOST = "lost"
    """It has no span."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A call with its fate. ``confidences`` are those of its candidates, and which was right."""

    told: Told
    fate: Fate
    evidence: str = ""
    confidence: float | None = None
    confidences: tuple[tuple[float, bool], ...] = ()
    right_rank: int = 0
    """The rank of the true request among the candidates; 0 when it is not there."""


@dataclass(slots=True)
class Verdict:
    """All calls of a run, and how often spans were confusing or false, with an example each."""

    calls: list[Judged]
    oddities: Counter[str]
    examples: dict[str, str]


def read_truth(lines: Iterable[str]) -> list[Told]:
    """The lines of a truth file."""
    return [Told(*line.split()) for line in lines]


def judge(truth: Sequence[Told], spans: Spans) -> Verdict:
    """Hold every call of the truth against its span."""
    verdict = Verdict([], Counter(), {})
    by_nonce = {each.nonce: each for each in spans.received}
    by_id = {each.span_id: each for each in spans.received}
    made: defaultdict[str, list[Made]] = defaultdict(list)
    for each in spans.made:
        made[each.nonce].append(each)
    for told in truth:
        # A call that the sidecar sent again has a span for each attempt: the last was answered.
        attempts = made.get(told.call, [])
        if not attempts:
            verdict.calls.append(Judged(told, Fate.LOST))
            _note(verdict, "a call without a CLIENT span", told.call)
            continue
        if len(attempts) > 1:
            _note(verdict, "a call with several CLIENT spans (sent again)", told.call)
        span = max(attempts, key=lambda each: each.start_ns)
        true = by_nonce.get(told.inbound)
        if told.caused and true is None:
            _note(verdict, "a request without a SERVER span", told.inbound)
        verdict.calls.append(_judged(told, span, true))
        for oddity in _oddities(told, span, true, by_id):
            _note(verdict, oddity, told.call)
    return verdict


def _judged(told: Told, span: Made, true: Received | None) -> Judged:
    true_id = true.span_id if true is not None else NO_REQUEST
    if not span.linked:
        fate = Fate.ABSTAINED
    else:
        fate = Fate.RIGHT if span.linked == true_id else Fate.WRONG
    ranks = [each.rank for each in span.candidates if each.span_id == true_id]
    return Judged(
        told=told,
        fate=fate,
        evidence=span.evidence,
        confidence=span.confidence if span.linked else None,
        confidences=tuple(
            (each.confidence, each.span_id == true_id)
            for each in span.candidates
            if each.confidence is not None
        ),
        right_rank=ranks[0] if ranks else 0,
    )


def _oddities(
    told: Told, span: Made, true: Received | None, by_id: dict[str, Received]
) -> Iterable[str]:
    """What in a span contradicts itself or the other spans."""
    if span.linked:
        yield from _oddities_of_link(span, by_id)
    elif told.caused and told.behaviour != LATE and span.propagation in ("root", "ok"):
        yield f"an unlinked call of a request in flight says propagation {span.propagation!r}"
    elif span.propagation == "ambiguous" and not span.candidates:
        yield "ambiguous without candidates"
    for candidate in span.candidates:
        request = by_id.get(candidate.span_id)
        if request is None:
            yield "a candidate that is no SERVER span"
        elif not _in_flight(request, span):
            yield "a candidate that was not in flight when the call left"
    if told.behaviour == LATE:
        if true is not None and _in_flight(true, span):
            yield "a call after the answer, yet its request was still in flight for the sidecar"
    elif true is not None and not _in_flight(true, span):
        yield "a call within its request, yet the SERVER span was over"


def _oddities_of_link(span: Made, by_id: dict[str, Received]) -> Iterable[str]:
    request = by_id.get(span.linked)
    if span.inbound and span.parent and span.inbound != span.parent:
        yield "the parent is another than meshproxy.inbound.span_id"
    if request is None:
        yield "a parent that is no SERVER span"
        return
    if span.parent and request.trace_id != span.trace_id:
        yield "a parent of another trace"
    if not _in_flight(request, span):
        yield "linked to a request that was not in flight when the call left"
    if span.confidence is None or not span.evidence:
        yield "linked without confidence or evidence"


def _in_flight(request: Received, call: Made) -> bool:
    return request.start_ns <= call.start_ns <= request.end_ns


def _note(verdict: Verdict, oddity: str, example: str) -> None:
    verdict.oddities[oddity] += 1
    verdict.examples.setdefault(oddity, example)
