"""How good guesses are, by the truth."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from loadtest.linking.baselines import RULES, choose
from loadtest.linking.data import Row, without_truth
from loadtest.linking.offline import calibration_error, seldom_calling

LEARNING = 0.5
"""Share of a set, in time, that is not judged."""


class Guess(NamedTuple):
    """What was said of a call: the likeliest request (or none), and whether it was linked to it."""

    call: Row
    best: str
    confidence: float
    linked: bool
    in_flight: int


COLUMNS = (
    "set", "time x", "skipped", "calls", "sole", "best right", "traces right", "most call",
    "linked", "precision", "wrong", "calib. err", "us/call", *RULES,
)  # fmt: skip


class Score:
    """Figures of one replay. ``wrong`` is wrong links as a share of all calls."""

    def __init__(self, rows: Sequence[Row], guesses: Sequence[Guess], seconds: float) -> None:
        begin = rows[int(len(rows) * LEARNING)].start_us
        self._judged = [guess for guess in guesses if guess.call.start_us >= begin]
        self.calls = len(self._judged)
        linked = [guess for guess in self._judged if guess.linked]
        right_links = sum(map(_is_right, linked))
        self.coverage = len(linked) / self.calls
        self.precision = right_links / len(linked) if linked else 1.0
        self.wrong = (len(linked) - right_links) / self.calls
        self.right = sum(map(_is_right, self._judged)) / self.calls
        self.sole = sum(guess.in_flight == 1 for guess in self._judged) / self.calls
        self.traces = _whole(self._judged)
        seldom = seldom_calling(rows)
        self.comparable = _whole([each for each in self._judged if each.call.service not in seldom])
        self.calibration_error = calibration_error(
            (guess.confidence, _is_right(guess)) for guess in self._judged
        )
        self.microseconds = seconds / len(guesses) * 1e6
        self._others = [_whole(_chosen(rows, rule, begin)) for rule in RULES]

    def cells(self, name: str, factor: int, skipped: float) -> list[str]:
        """A line of the table."""
        return [
            name, str(factor), f"{skipped:.0%}", str(self.calls), f"{self.sole:.1%}",
            f"{self.right:.2%}", f"{self.traces:.1%}", f"{self.comparable:.1%}",
            f"{self.coverage:.1%}", f"{self.precision:.2%}", f"{self.wrong:.2%}",
            f"{self.calibration_error:.3f}", f"{self.microseconds:.1f}",
            *(f"{share:.1%}" for share in self._others),
        ]  # fmt: skip


def _chosen(rows: Sequence[Row], rule: str, begin: int) -> list[Guess]:
    """What a simple rule says of the calls from a moment on."""
    services: dict[str, list[Row]] = defaultdict(list)
    for row in without_truth(rows):
        services[row.service].append(row)
    found: dict[str, str | None] = {}
    for of_service in services.values():
        found.update(choose(of_service, RULES[rule], offline=False))
    return [
        Guess(row, found[row.span] or "", 1.0, True, 0)
        for row in rows
        if row.direction == "out" and row.start_us >= begin
    ]


def _is_right(guess: Guess) -> bool:
    return guess.best == (guess.call.caused_by or "")


def _whole(guesses: Sequence[Guess]) -> float:
    """Share of the traces all of whose calls are right."""
    seen = {guess.call.trace for guess in guesses}
    wrong = {guess.call.trace for guess in guesses if not _is_right(guess)}
    return 1 - len(wrong) / len(seen) if seen else 1.0
