"""How far a request has come: which calls it has made, which are under way, what happened last.

The requests of a stream share these states. What can happen in one is numbered: with E endpoints,
``0 … E-1`` a call to an endpoint begins, ``E … 2E-1`` a call of its own to that endpoint ends,
``2E`` the request ends, ``2E+1`` nothing more is expected of it.
"""

from __future__ import annotations

from typing import Final

_CAP: Final = 4
"""Calls to one endpoint beyond this number are not told apart."""

_START: Final = -1

_SELDOM: Final = 0.02
"""How much less often a call is repeated than made, before anything is learnt."""

_HARDLY: Final = 1e-5
"""The same for what a stream shows no sign of."""

Counts = tuple[tuple[int, int], ...]
StateKey = tuple[int, int, Counts, Counts]
"""Route, last step, and by endpoint the calls that are over and those under way."""


class States:
    """Numbers states, and the coarser classes that lend rare states their statistics."""

    def __init__(self, endpoints: int, outlasting: float = 0.0, late: float = 0.0) -> None:
        self.endpoints = endpoints
        self._outlasting = max(_HARDLY, outlasting)
        self._late = max(_HARDLY, late)
        self.end = 2 * endpoints
        self.gone = 2 * endpoints + 1
        self.steps = 2 * endpoints + 2
        self.class_of: list[int] = []
        """For each state the class of those alike but for the route."""
        self.kin_of: list[int] = []
        """For each class the wider one of those with the same last step, as busy."""
        self.set_of: list[int] = []
        self._keys: list[StateKey] = []
        self._numbers: dict[StateKey, int] = {}
        self._classes: dict[tuple[int, Counts, Counts], int] = {}
        self._kin: dict[tuple[int, int], int] = {}
        self._sets: dict[tuple[Counts, Counts], int] = {}
        self._next: dict[int, int] = {}

    def start(self, route: int) -> int:
        """The state of a request that has just come."""
        return self._number((route, _START, (), ()))

    def after(self, state: int, step: int) -> int:
        """The state that a step leads to."""
        code = state * self.steps + step
        found = self._next.get(code)
        if found is None:
            found = self._next[code] = self._number(self._follow(self._keys[state], step))
        return found

    def _follow(self, key: StateKey, step: int) -> StateKey:
        route, _, done, under_way = key
        if step < self.endpoints:
            under_way = _changed(under_way, step, 1)
        elif step < self.end:
            endpoint = step - self.endpoints
            under_way = _changed(under_way, endpoint, -1)
            done = _changed(done, endpoint, 1)
        elif step == self.end:
            route = ~route
        return route, step, done, under_way

    def _number(self, key: StateKey) -> int:
        found = self._numbers.get(key)
        if found is None:
            found = self._numbers[key] = len(self._keys)
            self._keys.append(key)
            self.class_of.append(self._class(key))
        return found

    def _class(self, key: StateKey) -> int:
        _, last, done, under_way = key
        classes = self._classes
        found = classes.setdefault((last, done, under_way), len(classes))
        if found == len(self.kin_of):
            busy = min(_CAP, sum(count for _, count in under_way))
            self.kin_of.append(self._kin.setdefault((last, busy), len(self._kin)))
            self.set_of.append(self._sets.setdefault((done, under_way), len(self._sets)))
        return found

    def expected(self, state: int, step: int) -> float:
        """The probability of a step in a state of which nothing has been learnt yet."""
        total = 0.0
        for other in range(self.steps):
            total += self._likely(state, other)
        return self._likely(state, step) / total

    def _likely(self, state: int, step: int) -> float:
        route, _, done, under_way = self._keys[state]
        over = route < 0
        if step < self.endpoints:
            made = _count(done, step) + _count(under_way, step)
            return (_SELDOM if made else 1.0) * (self._late if over else 1.0)
        if step < self.end:
            return 1.0 if _count(under_way, step - self.endpoints) else 0.0
        if step == self.end:
            return 0.0 if over else self._outlasting if under_way else 1.0
        return 1.0 if over else 0.0


def _count(counts: Counts, endpoint: int) -> int:
    for key, value in counts:
        if key == endpoint:
            return value
    return 0


def _changed(counts: Counts, endpoint: int, by: int) -> Counts:
    changed = dict(counts)
    count = changed.get(endpoint, 0) + by
    changed[endpoint] = min(_CAP, count)
    return tuple(sorted((key, value) for key, value in changed.items() if value > 0))
