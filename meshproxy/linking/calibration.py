"""How far the linker's own estimates can be trusted, measured where the truth is known."""

from __future__ import annotations

from typing import Final

MOST_ESTIMATED: Final = 0.998
"""No estimate counts for more: certain evidence begins above."""

BOUNDS: Final = (0.5, 0.9, 0.99)
"""Estimates are measured in groups that begin here; lower ones are never acted upon."""

TRUST: Final = 20.0
"""How many observations an estimate is worth by itself."""

MEMORY: Final = 2000.0


class Calibration:
    """Estimates compared with certain evidence while the service runs; older cases fade."""

    __slots__ = ("_right", "_seen")

    def __init__(self) -> None:
        self._seen: list[float] = [0.0] * len(BOUNDS)
        self._right: list[float] = [0.0] * len(BOUNDS)

    def observe(self, estimate: float, right: bool) -> None:
        """A request was held to be the cause with this probability, and certain evidence came."""
        group = _group(estimate)
        if group < 0:
            return
        self._seen[group] += 1.0
        if right:
            self._right[group] += 1.0
        if self._seen[group] > MEMORY:
            self._seen[group] *= 0.5
            self._right[group] *= 0.5

    def corrected(self, estimate: float) -> float:
        """The estimate, lowered to what estimates like it have turned out to be worth."""
        if estimate > MOST_ESTIMATED:
            estimate = MOST_ESTIMATED
        group = _group(estimate)
        if group < 0:
            return estimate
        found = (self._right[group] + TRUST * estimate) / (self._seen[group] + TRUST)
        return found if found < estimate else estimate


def _group(estimate: float) -> int:
    group = -1
    for bound in BOUNDS:
        if estimate < bound:
            break
        group += 1
    return group
