"""What a service's requests do next, and how long they wait before they do it; learnt by EM."""

from __future__ import annotations

from math import exp
from typing import Final

from meshproxy.linking.stitch.delays import BINS, smoothed, width_of
from meshproxy.linking.stitch.states import States

_TRUST: Final = 16.0
"""A state's own delays outweigh those of its class from so many on."""

_TRUST_STEPS: Final = 4.0
"""The same of how often each step is taken."""


_MAX_ODDS: Final = 16
"""Half units of log-odds that are told apart."""

_QUEUEING_VARIANCE: Final = 0.3

_BACKGROUND: Final = 0.02
"""Calls that no request makes, of each endpoint, before more than one is found."""

_QUEUEING: Final = 0.6
"""Log-odds, before anything is learnt, that one that waited longer goes first. The delays of a
stall have a long tail, which alone would favour the one that came last."""


class Counts:
    """How often each step was taken in each state, and after how long; weighted."""

    def __init__(self) -> None:
        self.delays: dict[int, dict[int, float]] = {}
        self.background: dict[int, float] = {}
        self.turns: dict[int, float] = {}

    def add(self, code: int, delay_bin: int, weight: float) -> None:
        """Count a step; ``code`` is the state's number times the number of steps, plus the step."""
        delays = self.delays.get(code)
        if delays is None:
            delays = self.delays[code] = {}
        delays[delay_bin] = delays.get(delay_bin, 0.0) + weight

    def add_background(self, endpoint: int, weight: float) -> None:
        """Count a call that no request made."""
        self.background[endpoint] = self.background.get(endpoint, 0.0) + weight

    def add_turn(self, turn: int, odds: float, weight: float) -> None:
        """Count that of several requests in the same state one took a step first.

        ``turn`` is 1 if it had been in the state longest, -1 if not; ``odds`` is the logarithm of
        the odds by the delays alone that it would be this one.
        """
        level = max(-_MAX_ODDS, min(_MAX_ODDS, round(2.0 * odds * turn)))
        key = 2 * level + (1 if turn > 0 else 0)
        self.turns[key] = self.turns.get(key, 0.0) + weight


class Level:
    """States of one coarseness: what was counted in them, and what that says.

    States are given by group (the number of the state, or of its class) and steps in them by code.
    """

    def __init__(self) -> None:
        self.delays: dict[int, dict[int, float]] = {}
        self.totals: dict[int, float] = {}
        self.groups: dict[int, float] = {}
        self.densities: dict[int, list[float]] = {}

    def add(self, group: int, code: int, delays: dict[int, float]) -> None:
        """Take in delays, weights by bin, of a step in a group."""
        into = self.delays.setdefault(code, {})
        weight = 0.0
        for number, one in delays.items():
            into[number] = into.get(number, 0.0) + one
            weight += one
        self.totals[code] = self.totals.get(code, 0.0) + weight
        self.groups[group] = self.groups.get(group, 0.0) + weight

    def share(self, group: int, code: int, base: float, trust: float) -> float:
        """The probability of a step; ``base``, from the next coarser level, counts ``trust``."""
        return (self.totals.get(code, 0.0) + trust * base) / (self.groups.get(group, 0.0) + trust)

    def density(self, code: int, base: list[float]) -> list[float]:
        """The density of a step's delay by bin, ``base`` being that of the next coarser level."""
        found = self.densities.get(code)
        if found is None:
            found = self.densities[code] = _blend(self.delays.get(code, _NONE), base)
        return found


class Model:
    """Probability of a step in a state after a delay, and of calls that no request makes."""

    def __init__(self, states: States, counts: Counts, span: int) -> None:
        self._states = states
        self._steps = states.steps
        self._span = max(1.0, float(span))
        self._background = counts.background
        self._own = Level()
        self._class = Level()
        self._kin = Level()
        self._set = Level()
        self._tables: dict[int, list[float]] = {}
        self._hazards: dict[int, list[float]] = {}
        self._queueing = _queueing(counts.turns)
        self._shares: dict[int, float] = {}
        self._flat = [1.0 / BINS / width_of(number) for number in range(BINS)]
        for code, delays in counts.delays.items():
            state, step = divmod(code, self._steps)
            coarse = states.class_of[state]
            kin = states.kin_of[coarse]
            self._own.add(state, code, delays)
            self._class.add(coarse, coarse * self._steps + step, delays)
            self._kin.add(kin, kin * self._steps + step, delays)
            of_set = states.set_of[coarse]
            self._set.add(of_set, of_set * self._steps + step, delays)

    def background(self, endpoint: int) -> float:
        """Calls to an endpoint that no request makes, by tick."""
        seen = max(0.0, self._background.get(endpoint, 0.0) - 1.0)
        return (seen + _BACKGROUND) / self._span

    def share(self, code: int) -> float:
        """The probability that a step is the next one in a state (see `Counts.add`)."""
        found = self._shares.get(code)
        if found is None:
            found = self._shares[code] = self._share(code)
        return found

    def _share(self, code: int) -> float:
        state, step = divmod(code, self._steps)
        coarse = self._states.class_of[state]
        base = self._states.expected(state, step)
        of_set = self._states.set_of[coarse]
        base = self._set.share(of_set, of_set * self._steps + step, base, _TRUST_STEPS)
        base = self._class.share(coarse, coarse * self._steps + step, base, _TRUST_STEPS)
        return self._own.share(state, code, base, _TRUST_STEPS)

    def table(self, code: int) -> list[float]:
        """By bin of the delay: the share of a step times the density of its delay, by tick."""
        found = self._tables.get(code)
        if found is None:
            share = self.share(code)
            found = self._tables[code] = [share * density for density in self._density(code)]
        return found

    def turn(self, turn: int) -> float:
        """What to multiply by because a request was (1) or was not (-1) first in its queue."""
        return 2.0 / (1.0 + exp(-turn * self._queueing))

    def hazard(self, code: int, delay_bin: int) -> float:
        """The rate of a step after a delay, given that it had not been taken before."""
        found = self._hazards.get(code)
        if found is None:
            found = self._hazards[code] = _hazards(self.table(code))
        return found[delay_bin]

    def _density(self, code: int) -> list[float]:
        state, step = divmod(code, self._steps)
        coarse = self._states.class_of[state]
        kin = self._states.kin_of[coarse]
        base = self._kin.density(kin * self._steps + step, self._flat)
        of_set = self._states.set_of[coarse]
        base = self._set.density(of_set * self._steps + step, base)
        base = self._class.density(coarse * self._steps + step, base)
        return self._own.density(code, base)


def _hazards(table: list[float]) -> list[float]:
    later = 1e-12
    out = [0.0] * BINS
    for number in range(BINS - 1, -1, -1):
        mass = table[number] * width_of(number)
        out[number] = table[number] / (later + 0.5 * mass)
        later += mass
    return out


def _queueing(seen: dict[int, float]) -> float:
    """How much the log-odds of the one that waited longest exceed those by the delays alone.

    The maximum of a posteriori by Newton's method, from a normal distribution around none.
    """
    excess = _QUEUEING
    for _ in range(20):
        slope = (_QUEUEING - excess) / _QUEUEING_VARIANCE
        bend = 1.0 / _QUEUEING_VARIANCE
        for key, weight in seen.items():
            odds = 0.5 * (key >> 1) + excess
            first = 1.0 / (1.0 + exp(-odds))
            slope += weight * ((key & 1) - first)
            bend += weight * first * (1.0 - first)
        excess = max(0.0, min(6.0, excess + max(-1.0, min(1.0, slope / bend))))
    return excess


_NONE: Final[dict[int, float]] = {}


def _blend(delays: dict[int, float], base: list[float]) -> list[float]:
    total = sum(delays.values())
    if total <= 0.0:
        return base
    rest = _TRUST / (total + _TRUST)
    mixed = [rest * density for density in base]
    own = 1.0 - rest
    for number, mass in smoothed(delays).items():
        mixed[number] += own * mass / width_of(number)
    return mixed
