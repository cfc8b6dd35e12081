"""Calls that no request in flight makes: of timers and the like, and of requests that are over.

How often an endpoint is called at any time is seen while nothing is in flight, and from how badly
what requests do foretells these calls. Requests that were answered lately may go on to make calls;
what they do is seen while nothing is in flight.
"""

from __future__ import annotations

import math
from typing import Final

from meshproxy.linking.behaviour import END, Behaviour
from meshproxy.linking.tracks import Alternative, Track

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

FIRST_TIME: Final = 3e6
"""Time that requests are taken to have been in flight before, in microseconds."""

BACKGROUND_MEMORY: Final = 1e9
"""Time that the background remembers, in microseconds."""

SURE_OF: Final = 0.01
"""Doubt of a request up to which it is known what it did."""


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


class Background:
    """What is known of calls that no request makes. Times are in microseconds.

    ``rough``: some of the service's calls are known to be such.
    """

    def __init__(self, behaviour: Behaviour) -> None:
        self._behaviour = behaviour
        self._endpoints: dict[int, Endpoint] = {}
        self._over: list[Over] = []
        self._surprising = 0.0
        self._foretold = 0.0
        self.rough = False
        self._time = RARE_TIME
        self._request_time = FIRST_TIME
        self._now = -1

    def _of(self, endpoint: int) -> Endpoint:
        found = self._endpoints.get(endpoint)
        if found is None:
            found = self._endpoints[endpoint] = Endpoint()
        return found

    def passed(self, now: int, in_flight: int) -> None:
        """Time goes by; so many requests are in flight."""
        if self._now >= 0 and now > self._now:
            self._time += now - self._now
            self._request_time += (now - self._now) * in_flight
            if self._time > BACKGROUND_MEMORY:
                self._fade()
        self._now = now
        gone = 0
        for over in self._over:
            if now - over.alternative.since <= OVER_TIME:
                break
            gone += 1
        if gone:
            self._forget(gone, now)

    def _fade(self) -> None:
        self._time *= 0.5
        self._request_time *= 0.5
        self._surprising *= 0.5
        self._foretold *= 0.5
        for each in self._endpoints.values():
            each.any_time *= 0.5
            each.made *= 0.5
            each.foretold *= 0.5
            each.surprising *= 0.5

    # Requests that are over

    def arrived(self, now: int) -> None:
        """There is a request in flight that was not there before."""
        for each in self._over:
            _end_alone(each, now)

    def ended(self, route: str, alone: bool, now: int) -> None:
        """A request is over; ``alone``: it was the last one in flight."""
        if len(self._over) >= MOST_OVER:
            self._forget(1, now)
        state = self._behaviour.over(route)
        self._over.append(Over(Alternative(1.0, state, now, None, ()), alone))

    def _forget(self, count: int, now: int) -> None:
        """The oldest requests that are over make no calls any more."""
        for each in self._over[:count]:
            _end_alone(each, now)
        del self._over[:count]

    def weigh_over(self, endpoint: int, alone: bool, now: int) -> float:
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

    def normalise(self, total: float) -> None:
        """What was weighed is so much of all that may have made the call."""
        for each in self._over:
            each.share /= total

    # Endpoints

    def rate(self, endpoint: int) -> float:
        """How often a request in flight calls an endpoint, by microsecond, whatever it has done."""
        return self._of(endpoint).made / self._request_time

    def any_time(self, endpoint: int) -> float:
        """The rate at which an endpoint is called by nobody that is known, by microsecond."""
        called = self._of(endpoint)
        by_chance = 1.0 / (1.0 + math.exp(called.regular))
        expected = ROUGH if self.rough else CALM
        stray = (self._surprising + STRAY_AFTER * expected) / (self._foretold + STRAY_AFTER)
        stray = (called.surprising + STRAY_LIKE * stray) / (called.foretold + STRAY_LIKE)
        rate = called.made / self._request_time
        return called.any_time / self._time + rate * (by_chance + stray)

    def learn(self, endpoint: int, share: float, now: int) -> None:
        """A call was made, with this probability by nobody that is known."""
        if share > 0.0:
            called = self._of(endpoint)
            called.any_time += share
            self.rough = self.rough or called.any_time >= OFTEN
        for each in self._over:
            if each.alone and each.share >= LEAST_LEARNT:
                only = each.alternative
                only.state.learn(endpoint, only.bin(now), each.share)

    def made(self, tracks: list[Track], endpoint: int, now: int) -> None:
        """A call was made while these were in flight: did the only one foretell it?"""
        called = self._of(endpoint)
        if len(tracks) == 1:
            self._compare(called, tracks[0], endpoint, now)
        called.made += 1.0

    def _compare(self, called: Endpoint, track: Track, endpoint: int, now: int) -> None:
        if called.made < 1.0 or track.doubt > SURE_OF:
            return
        if len(track.alternatives) > 1 or track.alternatives[0].state.total < KNOWN:
            return
        regular = math.log(track.hazard(endpoint, now) * self._request_time / called.made)
        self._foretold += 1.0
        called.foretold += 1.0
        if regular < -SURPRISE:
            self._surprising += 1.0
            called.surprising += 1.0
        regular = called.regular + max(-MOST_SURPRISE, min(MOST_SURPRISE, regular))
        called.regular = max(LEAST_REGULAR, min(MOST_REGULAR, regular))
        self.rough = self.rough or regular < 0.0


def _end_alone(each: Over, now: int) -> None:
    """From here on it cannot be seen what the request that is over does."""
    if each.alone:
        each.alone = False
        each.alternative.state.learn(END, each.alternative.bin(now), 1.0)
