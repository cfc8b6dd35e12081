"""A request as the odds follow it: what it may have done so far, and how likely that is."""

from __future__ import annotations

from typing import Final

from meshproxy.linking.behaviour import ANSWER, END, Behaviour, State, bin_of, end_of

MOST_ALTERNATIVES: Final = 4
LEAST_WEIGHT: Final = 0.003
"""Alternatives of a request: so many, none less likely than this."""

LEARNT_FROM: Final = 0.9
"""Least weight of an alternative from which something is learnt when the request ends."""

LONGEST_HISTORY: Final = 64
MOST_OPEN: Final = 32
"""Steps of a history that are learnt from, and calls whose answers are awaited."""

FAMILIAR: Final = 8.0
USUAL: Final = 1.8
"""What was seen twice, almost for sure, is usual where requests were seen to go on so often."""

LIKELY_STATE: Final = 0.1
"""Weight from which on an alternative says what the request may do next."""


class Step:
    """One event in the history of a request; ``before`` leads to the one before."""

    __slots__ = ("before", "event", "length", "number", "state")

    def __init__(self, before: Step | None, state: State, event: int, number: int) -> None:
        length = before.length + 1 if before is not None else 1
        if length > LONGEST_HISTORY:
            before = None
            length = 1
        self.before = before
        self.state = state
        self.event = event
        self.number = number
        self.length: int = length


class Alternative:
    """What a request may have done, and how likely that is.

    ``since`` is when it came to its state, in microseconds. ``open`` are the calls, by number, that
    it then made and that are not answered.
    """

    __slots__ = ("history", "number", "open", "since", "state", "until", "weight")

    def __init__(
        self,
        weight: float,
        state: State,
        since: int,
        history: Step | None,
        open_calls: tuple[int, ...],
    ) -> None:
        self.weight = weight
        self.state = state
        self.since = since
        self.history = history
        self.open = open_calls
        self.number = 0
        self.until = since + 1

    def bin(self, now: int) -> int:
        """The bin of the time for which the request has been in its state."""
        if now >= self.until:
            self.number = bin_of(now - self.since)
            self.until = self.since + end_of(self.number)
        return self.number


class Track:
    """A request that is followed from its start to its end.

    ``doubt`` is the probability that it made calls which are not among its alternatives. ``began``
    is since when it is followed.
    """

    __slots__ = ("_behaviour", "alternatives", "began", "doubt")

    def __init__(self, behaviour: Behaviour, route: str, now: int) -> None:
        self._behaviour = behaviour
        self.alternatives = [Alternative(1.0, behaviour.start(route), now, None, ())]
        self.began = now
        self.doubt = 0.0

    @property
    def route(self) -> str:
        """What was asked of the service."""
        return self.alternatives[0].state.route

    def hazard(self, endpoint: int, now: int) -> float:
        """The rate, per microsecond, at which the request makes such a call just now."""
        alternatives = self.alternatives
        each = alternatives[0]
        if len(alternatives) == 1:
            return each.state.hazard(endpoint, each.bin(now))
        leaving = 0.0
        staying = 0.0
        for each in alternatives:
            number = each.bin(now)
            stay = each.weight * each.state.survival[number]
            leaving += stay * each.state.hazard(endpoint, number)
            staying += stay
        return leaving / staying

    def may_make(self, endpoint: int) -> bool:
        """Whether it is known to make such a call next, now and then."""
        return any(
            each.weight > LIKELY_STATE and each.state.leads_to(endpoint)
            for each in self.alternatives
        )

    def _likeliest(self) -> State:
        most = self.alternatives[0]
        for each in self.alternatives:
            if each.weight > most.weight:
                most = each
        return most.state

    def clear(self, endpoint: int) -> float:
        """How many clear cases there are of such a call from where it most likely is."""
        return self._likeliest().clear(endpoint)

    def is_unusual(self, endpoint: int) -> bool:
        """Whether requests were seen to go on from there, and hardly ever in this way."""
        if self.doubt > 1.0 - LEARNT_FROM:
            return False
        state = self._likeliest()
        if state.total < FAMILIAR:
            return False
        found = state.exit(endpoint)
        return found is None or found.total < USUAL

    def called(self, share: float, number: int, endpoint: int, now: int) -> None:
        """Go on along the alternatives in which the request makes the call, or does not.

        ``share`` is the probability that it does; ``number`` is the call's own.
        """
        leaving: list[float] = []
        staying: list[float] = []
        all_leaving = 0.0
        all_staying = 0.0
        for each in self.alternatives:
            delay = each.bin(now)
            stay = each.weight * each.state.survival[delay]
            leave = stay * each.state.hazard(endpoint, delay)
            leaving.append(leave)
            staying.append(stay)
            all_leaving += leave
            all_staying += stay
        found: list[Alternative] = []
        for index in range(len(leaving)):
            each = self.alternatives[index]
            weight = share * leaving[index] / all_leaving
            if weight >= LEAST_WEIGHT:
                found.append(self._after_call(each, weight, number, endpoint, now))
            weight = (1.0 - share) * staying[index] / all_staying
            if weight >= LEAST_WEIGHT:
                each.weight = weight
                found.append(each)
        self.alternatives = found
        self._tidy()

    def _after_call(
        self, each: Alternative, weight: float, number: int, endpoint: int, now: int
    ) -> Alternative:
        open_calls = each.open
        if len(open_calls) < MOST_OPEN:
            open_calls = (*open_calls, number)
        return Alternative(
            weight,
            self._behaviour.after_call(each.state, endpoint),
            now,
            Step(each.history, each.state, endpoint, each.bin(now)),
            open_calls,
        )

    def answered(self, number: int, now: int) -> None:
        """A call was answered, or has failed."""
        changed = False
        for each in self.alternatives:
            if number in each.open:
                each.history = Step(each.history, each.state, ANSWER, each.bin(now))
                each.state = self._behaviour.after_answer(each.state)
                each.since = now
                each.number = 0
                each.until = now + 1
                each.open = tuple([open_ for open_ in each.open if open_ != number])
                changed = True
        if changed:
            self._tidy()

    def ended(self, now: int) -> None:
        """The request is over: learn from it, as far as it is known what it did."""
        known = 1.0 - self.doubt
        if known < LEARNT_FROM:
            return
        weights: list[float] = []
        total = 0.0
        for each in self.alternatives:
            number = each.bin(now)
            weight = each.weight * each.state.hazard(END, number) * each.state.survival[number]
            weights.append(weight)
            total += weight
        for index in range(len(weights)):
            each = self.alternatives[index]
            weight = known * weights[index] / total
            if weight >= LEARNT_FROM:
                _learn(Step(each.history, each.state, END, each.bin(now)), weight)

    def _tidy(self) -> None:
        """Join what is the same, drop what is unlikely, and learn when nothing else is left."""
        alternatives = self.alternatives
        if len(alternatives) > 1:
            alternatives = _joined(alternatives)
            alternatives.sort(key=_weight, reverse=True)
            del alternatives[MOST_ALTERNATIVES:]
            total = 0.0
            for each in alternatives:
                total += each.weight
            for each in alternatives:
                each.weight /= total
            self.alternatives = alternatives
        if len(alternatives) == 1:
            only = alternatives[0]
            only.weight = 1.0
            if only.history is not None:
                if self.doubt <= 1.0 - LEARNT_FROM:
                    _learn(only.history, 1.0 - self.doubt)
                only.history = None


def _weight(each: Alternative) -> float:
    return each.weight


def _joined(alternatives: list[Alternative]) -> list[Alternative]:
    """One for each state and time: the likelier history stands for both."""
    found: list[Alternative] = []
    for each in alternatives:
        for index in range(len(found)):
            other = found[index]
            if other.state is each.state and other.since == each.since:
                if each.weight > other.weight:
                    each.weight += other.weight
                    found[index] = each
                else:
                    other.weight += each.weight
                break
        else:
            found.append(each)
    return found


def _learn(last: Step, weight: float) -> None:
    step: Step | None = last
    while step is not None:
        step.state.learn(step.event, step.number, weight)
        step = step.before
