"""How the requests of a service usually go: what they do next, and after how long.

A request is in a `State`: which calls it has made, and how many are open. It leaves the state by an
event: it makes a call, one of its calls is answered, or it ends. For each state the events and the
time until they came are counted, on a logarithmic scale of time.
"""

from __future__ import annotations

from typing import Final

END: Final = 0
"""The event that the request ends."""

ANSWER: Final = 1
"""The event that one of the request's calls is answered."""

FIRST_ENDPOINT: Final = 2
"""Events from here on are calls, one for each endpoint."""

OVER: Final = -1
"""In place of the number of open calls: the request is over."""

BINS: Final = 128
"""Four bins to a doubling: the last one ends after more than an hour, in microseconds."""

MOST_REPEATS: Final = 3
"""Calls of one endpoint, and open calls, are told apart up to this number."""

MEMORY: Final = 2000.0
"""Requests that a state remembers; older ones count for less."""

PRIOR: Final = 8.0
"""How many requests the assumption is worth that a state is left at any time, by any event."""

FIRST: Final = 5.0
"""An event is given a share of one in so many in a state of which nothing is known, and less the
more requests leave the state in other ways."""

NEW_SHARE: Final = 0.01
"""Least share of an event."""

SMOOTHING: Final = (0.06, 0.24, 0.4, 0.24, 0.06)
FEW: Final = 20.0
MANY: Final = 100.0
"""How much a delay says of the bins around its own: of still more where only few are known."""

CLEAR: Final = 0.98
"""From this weight on, it is known for sure that a request left by an event."""

MOST_EXITS: Final = 24
OTHER: Final = -1
"""Events that a state tells apart, and what all further ones count as."""

PIECE_BYTES: Final = 6_000
"""What a state takes, about, and the same once more for each event."""

STALE: Final = 0.05
"""Share of new requests after which the smoothed densities are made anew."""


def end_of(number: int) -> int:
    """Where a bin ends, in microseconds."""
    if number < 8:
        return number + 1
    return (number % 4 + 5) << (number // 4 - 1)


def bin_of(microseconds: int) -> int:
    """The bin of a delay."""
    if microseconds < 4:
        return microseconds if microseconds > 0 else 0
    octave = microseconds.bit_length() - 3
    found = 4 * octave + (microseconds >> octave)
    return found if found < BINS else BINS - 1


def _width(number: int) -> float:
    """The width of a bin in microseconds."""
    return 1.0 if number < 8 else float(2 ** (number // 4 - 1))


WIDTHS: Final[list[float]] = [_width(number) for number in range(BINS)]


class Size:
    """How many pieces all states have together, and may have at most."""

    __slots__ = ("count", "most")

    def __init__(self, most: int) -> None:
        self.count = 0
        self.most = most


class Exit:
    """One event by which a state is left.

    ``clear`` counts those of which it is known that they belong here. ``hazard`` is the rate at
    which requests that are still in the state leave it so, by bin and microsecond.
    """

    __slots__ = ("clear", "counts", "hazard", "total")

    def __init__(self) -> None:
        self.counts: list[float] = [0.0] * BINS
        self.hazard: list[float] = []
        self.total = 0.0
        self.clear = 0.0


class State:
    """What requests of one route have done so far; what they do next, as learnt.

    ``survival`` is the share of the requests that are still in the state at the middle of a bin.
    """

    __slots__ = (
        "_fresh_at", "_size", "after", "exits", "made", "open", "route", "survival", "total",
    )  # fmt: skip

    def __init__(self, route: str, made: tuple[int, ...], open_calls: int, size: Size) -> None:
        self._size = size
        self.route = route
        self.made = made
        self.open = open_calls
        self.after: dict[int, State] = {}
        self.exits: dict[int, Exit] = {}
        self.survival = UNLEARNT
        self.total = 0.0
        self._fresh_at = 0.0

    def count_in(self, size: Size) -> None:
        """From now on its exits are counted there."""
        self._size = size
        size.count += 1 + len(self.exits)

    def exit(self, event: int) -> Exit | None:
        """What is known of an event, if it was ever seen here; of many kinds, the last as one."""
        found = self.exits.get(event)
        return found if found is not None else self.exits.get(OTHER)

    def hazard(self, event: int, number: int) -> float:
        """The rate of an event in a bin, by microsecond."""
        found = self.exit(event)
        if found is not None:
            return found.hazard[number]
        share = 1.0 / (self.total + FIRST)
        prior = PRIOR / BINS * (share if share > NEW_SHARE else NEW_SHARE)
        return prior / ((self.total + PRIOR) * WIDTHS[number] * self.survival[number])

    def clear(self, event: int) -> float:
        """How many requests are known for sure to have left by an event."""
        found = self.exit(event)
        return found.clear if found is not None else 0.0

    def leads_to(self, event: int) -> bool:
        """Whether requests in this state are known to do this, now and then."""
        found = self.exit(event)
        return found is not None and found.total > NEW_SHARE * self.total

    def learn(self, event: int, number: int, weight: float) -> None:
        """A request left the state by an event, in this bin; ``weight``: how surely it did."""
        found = self.exit(event)
        if found is None:
            if self._size.count >= self._size.most:
                return
            found = self.exits[event if len(self.exits) < MOST_EXITS else OTHER] = Exit()
            self._size.count += 1
        found.counts[number] += weight
        found.total += weight
        if weight >= CLEAR:
            found.clear += weight
        self.total += weight
        if self.total > MEMORY:
            self._age()
        if self.total > self._fresh_at * (1.0 + STALE) + 0.5 or not found.hazard:
            self._refresh()

    def _age(self) -> None:
        self.total *= 0.5
        self._fresh_at = 0.0
        for each in self.exits.values():
            each.counts = [count * 0.5 for count in each.counts]
            each.total *= 0.5
            each.clear *= 0.5

    def _refresh(self) -> None:
        """Make what is derived from the counts anew."""
        self._fresh_at = self.total
        everything = self.total + PRIOR
        leaving = [PRIOR / BINS] * BINS
        for each in self.exits.values():
            each.hazard = _smoothed(each.counts)
            if each.total < MANY:
                each.hazard = _smoothed(each.hazard)
            if each.total < FEW:
                each.hazard = _smoothed(each.hazard)
            for number in range(BINS):
                leaving[number] += each.hazard[number]
        self.survival = _survival(leaving, everything)
        for each in self.exits.values():
            share = (each.total + 0.1) / (self.total + 0.5)
            prior = PRIOR / BINS * (share if share > NEW_SHARE else NEW_SHARE)
            hazard = each.hazard
            for number in range(BINS):
                still = everything * WIDTHS[number] * self.survival[number]
                hazard[number] = (hazard[number] + prior) / still


def _survival(leaving: list[float], everything: float) -> list[float]:
    survival = [0.0] * BINS
    left = 0.0
    for number in range(BINS - 1, -1, -1):
        survival[number] = (left + 0.5 * leaving[number]) / everything
        left += leaving[number]
    return survival


UNLEARNT: Final[list[float]] = _survival([PRIOR / BINS] * BINS, PRIOR)


def _smoothed(counts: list[float]) -> list[float]:
    density = [0.0] * BINS
    for number in range(BINS):
        count = counts[number]
        if count > 0.0:
            for offset in range(5):
                at = number + offset - 2
                if at < 0:
                    at = 0
                elif at >= BINS:
                    at = BINS - 1
                density[at] += count * SMOOTHING[offset]
    return density


class Behaviour:
    """All states of a service's requests.

    At most ``limit`` pieces of `PIECE_BYTES` are kept, about: past that, the rarer half of the
    states is forgotten.
    """

    def __init__(self, limit: int) -> None:
        self._size = Size(limit)
        self._states: dict[tuple[str, tuple[int, ...], int], State] = {}

    def __len__(self) -> int:
        return self._size.count

    def start(self, route: str) -> State:
        """The state of a request that has just come in."""
        if self._size.count >= self._size.most:
            self._forget()
        return self._state(route, (), 0)

    def over(self, route: str) -> State:
        """The state of a request that was answered: it may still make calls."""
        return self._state(route, (), OVER)

    def after_call(self, state: State, endpoint: int) -> State:
        """The state after one more call."""
        found = state.after.get(endpoint)
        if found is None:
            made = state.made
            if made.count(endpoint) < MOST_REPEATS:
                made = tuple(sorted((*made, endpoint)))
            open_calls = state.open + 1 if state.open < MOST_REPEATS else state.open
            found = state.after[endpoint] = self._state(state.route, made, open_calls)
        return found

    def after_answer(self, state: State) -> State:
        """The state after one of the calls was answered."""
        found = state.after.get(ANSWER)
        if found is None:
            open_calls = state.open - 1 if state.open > 0 else 0
            found = state.after[ANSWER] = self._state(state.route, state.made, open_calls)
        return found

    def _state(self, route: str, made: tuple[int, ...], open_calls: int) -> State:
        key = (route, made, open_calls)
        found = self._states.get(key)
        if found is None:
            if self._size.count >= self._size.most:
                self._forget()
            found = self._states[key] = State(route, made, open_calls, self._size)
            self._size.count += 1
        return found

    def _forget(self) -> None:
        totals = sorted([state.total for state in self._states.values()])
        rare = totals[len(totals) // 2]
        kept: dict[tuple[str, tuple[int, ...], int], State] = {}
        for key, state in self._states.items():
            state.after.clear()
            if state.total > rare:
                kept[key] = state
        self._states = kept
        self._size = Size(self._size.most)
        for state in kept.values():
            state.count_in(self._size)
