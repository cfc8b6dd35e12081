"""Which request is about to make this call? Odds from what requests usually do, and when.

A call is the work of one of the requests in flight or of none of them (the background). Each
request would make it now with a certain hazard, which depends on what it has done so far and since
when: learnt by `meshproxy.linking.behaviour`. The odds are the ratio of the hazards. Since it is
not always certain what a request has done, each is followed along several alternatives.

The background is made of timers and the like, which make calls at any time, and of requests that
were answered lately and go on. How often an endpoint is called at any time is seen while nothing is
in flight; and from how badly what the requests do foretells these calls.

Nothing is concluded from what is not known: as long as few requests have been seen to do this for
certain, the odds are levelled.
"""

from __future__ import annotations

import math
from typing import Final

from meshproxy.linking.behaviour import (
    ANSWER,
    END,
    FIRST_ENDPOINT,
    Behaviour,
    State,
    bin_of,
    end_of,
)

MOST_ALTERNATIVES: Final = 4
LEAST_WEIGHT: Final = 0.003
"""Alternatives of a request: so many, none less likely than this."""

LEAST_SHARE: Final = 0.01
MOST_SPLIT: Final = 8
"""If so many requests, none of them less likely than this, may have made a call, each is followed
both ways; if more may have, all are doubted."""

LEARNT_FROM: Final = 0.9
"""Least weight of an alternative from which something is learnt when the request ends."""

LONGEST_HISTORY: Final = 64
MOST_OPEN: Final = 32

MOST_ENDPOINTS: Final = 500
"""Endpoints told apart; all further ones count as one."""

CLEAR_WORTH: Final = 1.0
"""How fast doubt goes away with each clear case."""

RARE: Final = 0.01
RARE_TIME: Final = 1e8
"""Calls without a request that are reckoned with before any was seen, in so many microseconds."""

CALM: Final = 1e-4
ROUGH: Final = 0.03
STRAY_AFTER: Final = 200.0
"""Share of calls that is reckoned to come at any time, and in how many calls that is forgotten: as
long as no endpoint was seen to be called so, and afterwards."""

OFTEN: Final = 3.0
"""Calls of the background to one endpoint that are no accident."""

STRAY_LIKE: Final = 10.0
"""How many calls to one endpoint it takes to reckon with its own share, rather than that of all."""

SURPRISE: Final = 2.3
"""How much less likely than by chance a surprising call is, in nats."""

REGULAR: Final = 6.0
"""How sure it is at first, in nats, that an endpoint is called as requests foretell."""

MOST_SURPRISE: Final = 2.0
LEAST_REGULAR: Final = -3.0
MOST_REGULAR: Final = 20.0
"""How much one call may change that, and how far it goes, in nats."""

KNOWN: Final = 5.0
"""Cases of a state from which on it is measured how well it foretells calls."""

MOST_OVER: Final = 16
OVER_TIME: Final = 1_000_000
"""Requests that are over are reckoned with: so many, the newest, for so many microseconds."""

OVER_SHARE: Final = 0.1
"""How likely it is that such a request makes a call at all, compared with one in flight."""

LEAST_LEARNT: Final = 0.05

LIKELY: Final = 0.5
"""From this probability on a call counts as the work of no request."""

FIRST_TIME: Final = 3e6
"""Time that requests are taken to have been in flight before, in microseconds."""

BACKGROUND_MEMORY: Final = 1e9
"""Time that the background remembers, in microseconds."""


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

    __slots__ = ("alternatives", "began", "doubt")

    def __init__(self, alternatives: list[Alternative], began: int) -> None:
        self.alternatives = alternatives
        self.began = began
        self.doubt = 0.0


class Over:
    """A request that was answered lately.

    ``alone``: nothing is in flight since then. Only so it can be seen what such requests do: in the
    company of others, what follows a request need not be its work. ``share`` is for the call that
    is being judged.
    """

    __slots__ = ("alone", "alternative", "share")

    def __init__(self, alternative: Alternative, alone: bool) -> None:
        self.alternative = alternative
        self.alone = alone
        self.share = 0.0


class Made:
    """A call that was made, for when it is answered."""

    __slots__ = ("number", "tracks")

    def __init__(self, number: int, tracks: list[Track]) -> None:
        self.number = number
        self.tracks = tracks


class Odds:
    """How likely each of the requests made a call, in their order.

    ``background`` is the probability that none of them did, ``any_time`` the part of it that is not
    due to requests which are over. ``best`` is the index of the likeliest request.
    """

    __slots__ = ("any_time", "background", "best", "shares")

    def __init__(self, shares: list[float], background: float, any_time: float, best: int) -> None:
        self.shares = shares
        self.background = background
        self.any_time = any_time
        self.best = best


class Endpoint:
    """How often an endpoint is called, and how.

    ``made`` counts calls while requests were in flight, ``any_time`` those of the background.
    ``regular`` is how much better the calls are foretold by requests than by chance, in nats;
    ``foretold`` counts those of which that is known, ``surprising`` those that came unforeseen.
    """

    __slots__ = ("any_time", "foretold", "made", "regular", "surprising")

    def __init__(self) -> None:
        self.made = 0.0
        self.any_time = RARE
        self.regular = REGULAR
        self.foretold = 0.0
        self.surprising = 0.0


class Timing:
    """Follows the requests of one service. Times are in microseconds, of any clock.

    ``limit`` is how much is learnt, in pieces of `meshproxy.linking.behaviour.PIECE_BYTES`.
    ``rough``: some of the service's calls are known to be the work of no request.
    """

    def __init__(self, limit: int) -> None:
        self._behaviour = Behaviour(limit)
        self._numbers: dict[tuple[str, str], int] = {}
        self._endpoints: list[Endpoint] = [Endpoint(), Endpoint()]
        self._over: list[Over] = []
        self._surprising = 0.0
        self._foretold = 0.0
        self.rough = False
        self._time = RARE_TIME
        self._request_time = FIRST_TIME
        self._now = -1
        self._missed = -1
        self._calls = 0

    def endpoint(self, destination: str, operation: str) -> int:
        """The number of an endpoint."""
        name = (destination, operation)
        found = self._numbers.get(name)
        if found is None:
            found = FIRST_ENDPOINT + len(self._numbers)
            if len(self._numbers) < MOST_ENDPOINTS:
                self._numbers[name] = found
            if len(self._endpoints) <= found:
                self._endpoints.append(Endpoint())
        return found

    def start(self, route: str, now: int) -> Track:
        """Follow a request from here on; it has made no calls yet."""
        return Track([Alternative(1.0, self._behaviour.start(route), now, None, ())], now)

    def arrived(self, now: int) -> None:
        """There is a request in flight that was not there before."""
        for each in self._over:
            _end_alone(each, now)

    def end(self, track: Track, alone: bool, now: int) -> None:
        """The request is over: learn from it, as far as it is known what it did.

        ``alone``: it was the last one in flight.
        """
        alternatives = track.alternatives
        route = alternatives[0].state.route
        known = 1.0 - track.doubt
        if known >= LEARNT_FROM:
            weights: list[float] = []
            total = 0.0
            for each in alternatives:
                number = each.bin(now)
                weight = each.weight * each.state.hazard(END, number) * each.state.survival[number]
                weights.append(weight)
                total += weight
            for index in range(len(alternatives)):
                each = alternatives[index]
                weight = known * weights[index] / total
                if weight >= LEARNT_FROM:
                    _learn(Step(each.history, each.state, END, each.bin(now)), weight)
        if len(self._over) >= MOST_OVER:
            self._forget(1, now)
        state = self._behaviour.over(route)
        self._over.append(Over(Alternative(1.0, state, now, None, ()), alone))

    def _forget(self, count: int, now: int) -> None:
        """The oldest requests that are over make no calls any more."""
        for each in self._over[:count]:
            _end_alone(each, now)
        del self._over[:count]

    def passed(self, now: int, in_flight: int) -> None:
        """Time goes by; so many requests are in flight."""
        if self._now >= 0 and now > self._now:
            self._time += now - self._now
            self._request_time += (now - self._now) * in_flight
            if self._time > BACKGROUND_MEMORY:
                self._time *= 0.5
                self._request_time *= 0.5
                self._surprising *= 0.5
                self._foretold *= 0.5
                for each in self._endpoints:
                    each.any_time *= 0.5
                    each.made *= 0.5
                    each.foretold *= 0.5
                    each.surprising *= 0.5
        self._now = now
        gone = 0
        for over in self._over:
            if now - over.alternative.since <= OVER_TIME:
                break
            gone += 1
        if gone:
            self._forget(gone, now)

    def weigh(self, tracks: list[Track], endpoint: int, now: int) -> Odds:
        """The odds of who makes a call to ``endpoint`` now."""
        called = self._endpoints[endpoint]
        rate = called.made / self._request_time
        any_time = self._any_time(called)
        over = self._weigh_over(endpoint, not tracks, now)
        hazards: list[float] = []
        total = any_time + over
        best = 0
        most = -1.0
        for track in tracks:
            hazard = _hazard(track, endpoint, now)
            if track.began <= self._missed:
                track.doubt = 1.0
            if track.doubt > 0.0:
                hazard += track.doubt * (rate - hazard)
            if hazard > most:
                most = hazard
                best = len(hazards)
            hazards.append(hazard)
            total += hazard
        for each in self._over:
            each.share /= total
        shares = hazards
        for index in range(len(shares)):
            shares[index] /= total
        rest = (any_time + over) / total
        if len(shares) > 1:
            unsure = 1.0 / (1.0 + CLEAR_WORTH * _clear(tracks[best], endpoint))
            level = unsure * (1.0 - rest) / len(shares)
            for index in range(len(shares)):
                shares[index] = shares[index] * (1.0 - unsure) + level
        return Odds(shares, rest, any_time / total, best)

    def _weigh_over(self, endpoint: int, alone: bool, now: int) -> float:
        """The rate at which requests that are over make such a call now, all together.

        Beside requests in flight, only those count that were seen to make such calls alone.
        """
        total = 0.0
        for each in self._over:
            only = each.alternative
            each.share = 0.0
            if only.state.exit(endpoint) is not None:
                each.share = only.state.hazard(endpoint, only.bin(now))
            elif alone:
                each.share = OVER_SHARE * only.state.hazard(endpoint, only.bin(now))
            total += each.share
        return total

    def _any_time(self, endpoint: Endpoint) -> float:
        """The rate at which an endpoint is called by nobody that is known, by microsecond."""
        by_chance = 1.0 / (1.0 + math.exp(endpoint.regular))
        expected = ROUGH if self.rough else CALM
        stray = (self._surprising + STRAY_AFTER * expected) / (self._foretold + STRAY_AFTER)
        stray = (endpoint.surprising + STRAY_LIKE * stray) / (endpoint.foretold + STRAY_LIKE)
        rate = endpoint.made / self._request_time
        return endpoint.any_time / self._time + rate * (by_chance + stray)

    def confidence(self, tracks: list[Track], odds: Odds) -> float:
        """How sure it is that the likeliest request made the call."""
        return odds.shares[odds.best] * (1.0 - tracks[odds.best].doubt)

    def is_by_graph(self, tracks: list[Track], odds: Odds, endpoint: int) -> bool:
        """Whether the likeliest request is known to do this next, and no other one is."""
        for index in range(len(tracks)):
            if _may_make(tracks[index], endpoint) != (index == odds.best):
                return False
        return True

    def make(self, tracks: list[Track], odds: Odds, endpoint: int, now: int) -> Made:
        """Note that a call is made, by whom the odds say."""
        self._calls += 1
        made = Made(self._calls, [])
        known = self._endpoints[endpoint]
        if odds.any_time >= LIKELY or not tracks:
            known.any_time += odds.any_time
            self.rough = self.rough or known.any_time >= OFTEN
        self._learn_over(endpoint, now)
        if not tracks:
            return made
        self._compare(known, tracks, endpoint, now)
        known.made += 1.0
        several = 0
        for share in odds.shares:
            if share >= LEAST_SHARE:
                several += 1
        for index in range(len(tracks)):
            share = odds.shares[index]
            track = tracks[index]
            if share >= LEAST_SHARE and several <= MOST_SPLIT:
                self._call(track, share, made.number, endpoint, now)
                made.tracks.append(track)
            elif share >= LEAST_WEIGHT:
                track.doubt += share * (1.0 - track.doubt)
        return made

    def _learn_over(self, endpoint: int, now: int) -> None:
        for each in self._over:
            if each.alone and each.share >= LEAST_LEARNT:
                only = each.alternative
                only.state.learn(endpoint, only.bin(now), each.share)

    def _compare(self, known: Endpoint, tracks: list[Track], endpoint: int, now: int) -> None:
        """Whether the only request in flight foretold this call, or it came at any time."""
        track = tracks[0]
        if len(tracks) != 1 or known.made < 1.0 or track.doubt > LEAST_SHARE:
            return
        if len(track.alternatives) > 1 or track.alternatives[0].state.total < KNOWN:
            return
        hazard = _hazard(track, endpoint, now)
        regular = math.log(hazard * self._request_time / known.made)
        self._foretold += 1.0
        known.foretold += 1.0
        if regular < -SURPRISE:
            self._surprising += 1.0
            known.surprising += 1.0
        regular = known.regular + max(-MOST_SURPRISE, min(MOST_SURPRISE, regular))
        known.regular = max(LEAST_REGULAR, min(MOST_REGULAR, regular))
        self.rough = self.rough or regular < 0.0

    def missed(self, now: int) -> None:
        """A call was made, and nothing was worked out: any request may have made it."""
        self._missed = now

    def make_for(self, track: Track, endpoint: int, now: int) -> Made:
        """Note that a call is made, and that it is certain by which request."""
        self._calls += 1
        known = self._endpoints[endpoint]
        self._compare(known, [track], endpoint, now)
        known.made += 1.0
        self._call(track, 1.0, self._calls, endpoint, now)
        return Made(self._calls, [track])

    def _call(self, track: Track, share: float, number: int, endpoint: int, now: int) -> None:
        """Go on along the alternatives in which the request makes the call, or does not."""
        leaving: list[float] = []
        staying: list[float] = []
        all_leaving = 0.0
        all_staying = 0.0
        for each in track.alternatives:
            delay = each.bin(now)
            stay = each.weight * each.state.survival[delay]
            leave = stay * each.state.hazard(endpoint, delay)
            leaving.append(leave)
            staying.append(stay)
            all_leaving += leave
            all_staying += stay
        found: list[Alternative] = []
        for index in range(len(leaving)):
            each = track.alternatives[index]
            weight = share * leaving[index] / all_leaving
            if weight >= LEAST_WEIGHT:
                found.append(self._after_call(each, weight, number, endpoint, now))
            weight = (1.0 - share) * staying[index] / all_staying
            if weight >= LEAST_WEIGHT:
                each.weight = weight
                found.append(each)
        track.alternatives = found
        _tidy(track)

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

    def answered(self, made: Made, now: int) -> None:
        """A call was answered, or has failed."""
        number = made.number
        for track in made.tracks:
            changed = False
            for each in track.alternatives:
                if number in each.open:
                    each.history = Step(each.history, each.state, ANSWER, each.bin(now))
                    each.state = self._behaviour.after_answer(each.state)
                    each.since = now
                    each.number = 0
                    each.until = now + 1
                    each.open = tuple([open_ for open_ in each.open if open_ != number])
                    changed = True
            if changed:
                _tidy(track)


def _end_alone(each: Over, now: int) -> None:
    """From here on it cannot be seen what the request that is over does."""
    if each.alone:
        each.alone = False
        each.alternative.state.learn(END, each.alternative.bin(now), 1.0)


def _hazard(track: Track, endpoint: int, now: int) -> float:
    """The rate, per microsecond, at which a request makes a call just now."""
    alternatives = track.alternatives
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


def _may_make(track: Track, endpoint: int) -> bool:
    return any(each.weight > 0.1 and each.state.leads_to(endpoint) for each in track.alternatives)


def _clear(track: Track, endpoint: int) -> float:
    """How many clear cases there are of what the request is taken to do."""
    most = track.alternatives[0]
    for each in track.alternatives:
        if each.weight > most.weight:
            most = each
    return most.state.clear(endpoint)


def _tidy(track: Track) -> None:
    """Join what is the same, drop what is unlikely, and learn when nothing else is left."""
    alternatives = track.alternatives
    if len(alternatives) > 1:
        alternatives = _joined(alternatives)
        alternatives.sort(key=_weight, reverse=True)
        del alternatives[MOST_ALTERNATIVES:]
        total = 0.0
        for each in alternatives:
            total += each.weight
        for each in alternatives:
            each.weight /= total
        track.alternatives = alternatives
    if len(alternatives) == 1:
        only = alternatives[0]
        only.weight = 1.0
        if only.history is not None:
            if track.doubt <= 1.0 - LEARNT_FROM:
                _learn(only.history, 1.0 - track.doubt)
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
