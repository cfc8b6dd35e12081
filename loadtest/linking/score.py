"""How good guesses are, by the truth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from loadtest.linking.data import Row

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
    "set", "time x", "skipped", "calls", "sole", "best right", "traces right", "linked",
    "precision", "wrong", "calib. err", "us/call",
)  # fmt: skip


def heading() -> str:
    """The first two lines of the table."""
    return f"| {' | '.join(COLUMNS)} |\n|{'|'.join(' --- ' for _ in COLUMNS)}|"


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
        self.calibration_error = calibration_error(self._judged)
        self.microseconds = seconds / len(guesses) * 1e6

    def line(self, name: str, factor: int, skipped: float) -> str:
        """A line of the table."""
        cells = [
            name, str(factor), f"{skipped:.0%}", str(self.calls), f"{self.sole:.1%}",
            f"{self.right:.2%}", f"{self.traces:.1%}", f"{self.coverage:.1%}",
            f"{self.precision:.2%}", f"{self.wrong:.2%}", f"{self.calibration_error:.3f}",
            f"{self.microseconds:.1f}",
        ]  # fmt: skip
        return f"| {' | '.join(cells)} |"


def _is_right(guess: Guess) -> bool:
    return guess.best == (guess.call.caused_by or "")


def _whole(guesses: Sequence[Guess]) -> float:
    """Share of the traces all of whose calls are right."""
    seen = {guess.call.trace for guess in guesses}
    wrong = {guess.call.trace for guess in guesses if not _is_right(guess)}
    return 1 - len(wrong) / len(seen) if seen else 1.0


def calibration_error(guesses: Sequence[Guess]) -> float:
    """Expected calibration error: how far confidence is from being right, in ten groups."""
    groups: dict[int, list[Guess]] = {}
    for guess in guesses:
        groups.setdefault(min(9, int(guess.confidence * 10)), []).append(guess)
    total = 0.0
    for group in groups.values():
        confidence = sum(guess.confidence for guess in group)
        total += abs(confidence - sum(map(_is_right, group)))
    return total / len(guesses) if guesses else 0.0
