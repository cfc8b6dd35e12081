"""Which request is about to make this call? Odds from what requests usually do, and when.

A call is the work of one of the requests in flight or of none of them (the background). Each
request would make it now with a certain hazard, which depends on what it has done so far and since
when: learnt by `meshproxy.linking.behaviour`. The odds are the ratio of the hazards. Since it is
not always certain what a request has done, each is followed along several alternatives.

Nothing is concluded from what is not known: as long as few requests have been seen to do this for
certain, the odds are levelled.
"""

from __future__ import annotations

from typing import Final

from meshproxy.linking.background import Background
from meshproxy.linking.behaviour import FIRST_ENDPOINT, Behaviour
from meshproxy.linking.tracks import LEAST_WEIGHT, Track

LEAST_SHARE: Final = 0.01
MOST_SPLIT: Final = 8
"""If so many requests, none of them less likely than this, may have made a call, each is followed
both ways; if more may have, all are doubted."""

MOST_ENDPOINTS: Final = 500
"""Endpoints told apart; all further ones count as one."""

CLEAR_WORTH: Final = 1.0
"""How fast doubt goes away with each clear case."""

LIKELY: Final = 0.5
"""From this probability on a call counts as the work of no request."""


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


class Timing:
    """Follows the requests of one service. Times are in microseconds, of any clock.

    ``limit`` is how much is learnt, in pieces of `meshproxy.linking.behaviour.PIECE_BYTES`.
    """

    def __init__(self, limit: int) -> None:
        self._behaviour = Behaviour(limit)
        self._background = Background(self._behaviour)
        self._numbers: dict[tuple[str, str], int] = {}
        self._missed = -1
        self._calls = 0

    @property
    def rough(self) -> bool:
        """Whether some of the service's calls are known to be the work of no request."""
        return self._background.rough

    def endpoint(self, destination: str, operation: str) -> int:
        """The number of an endpoint."""
        name = (destination, operation)
        found = self._numbers.get(name)
        if found is None:
            found = FIRST_ENDPOINT + len(self._numbers)
            if len(self._numbers) < MOST_ENDPOINTS:
                self._numbers[name] = found
        return found

    def start(self, route: str, now: int) -> Track:
        """Follow a request from here on; it has made no calls yet."""
        return Track(self._behaviour, route, now)

    def arrived(self, now: int) -> None:
        """There is a request in flight that was not there before."""
        self._background.arrived(now)

    def end(self, track: Track, alone: bool, now: int) -> None:
        """The request is over; ``alone``: it was the last one in flight."""
        track.ended(now)
        self._background.ended(track.route, alone, now)

    def passed(self, now: int, in_flight: int) -> None:
        """Time goes by; so many requests are in flight."""
        self._background.passed(now, in_flight)

    def weigh(self, tracks: list[Track], endpoint: int, now: int) -> Odds:
        """The odds of who makes a call to ``endpoint`` now."""
        background = self._background
        rate = background.rate(endpoint)
        any_time = background.any_time(endpoint)
        over = background.weigh_over(endpoint, not tracks, now)
        hazards: list[float] = []
        total = any_time + over
        best = 0
        most = -1.0
        for track in tracks:
            hazard = track.hazard(endpoint, now)
            if track.began <= self._missed:
                track.doubt = 1.0
            if track.doubt > 0.0:
                hazard += track.doubt * (rate - hazard)
            if hazard > most:
                most = hazard
                best = len(hazards)
            hazards.append(hazard)
            total += hazard
        background.normalise(total)
        shares = hazards
        for index in range(len(shares)):
            shares[index] /= total
        rest = (any_time + over) / total
        if len(shares) > 1:
            unsure = 1.0 / (1.0 + CLEAR_WORTH * tracks[best].clear(endpoint))
            level = unsure * (1.0 - rest) / len(shares)
            for index in range(len(shares)):
                shares[index] = shares[index] * (1.0 - unsure) + level
        return Odds(shares, rest, any_time / total, best)

    def confidence(self, tracks: list[Track], odds: Odds) -> float:
        """How sure it is that the likeliest request made the call."""
        return odds.shares[odds.best] * (1.0 - tracks[odds.best].doubt)

    def is_by_graph(self, tracks: list[Track], odds: Odds, endpoint: int) -> bool:
        """Whether the likeliest request is known to do this next, and no other one is."""
        for index in range(len(tracks)):
            if tracks[index].may_make(endpoint) != (index == odds.best):
                return False
        return True

    def make(self, tracks: list[Track], odds: Odds, endpoint: int, now: int) -> Made:
        """Note that a call is made, by whom the odds say."""
        self._calls += 1
        made = Made(self._calls, [])
        of_nobody = odds.any_time >= LIKELY or not tracks
        self._background.learn(endpoint, odds.any_time if of_nobody else 0.0, now)
        if not tracks:
            return made
        self._background.made(tracks, endpoint, now)
        several = 0
        for share in odds.shares:
            if share >= LEAST_SHARE:
                several += 1
        for index in range(len(tracks)):
            share = odds.shares[index]
            track = tracks[index]
            if share >= LEAST_SHARE and several <= MOST_SPLIT:
                track.called(share, made.number, endpoint, now)
                made.tracks.append(track)
            elif share >= LEAST_WEIGHT:
                track.doubt += share * (1.0 - track.doubt)
        return made

    def missed(self, now: int) -> None:
        """A call was made, and nothing was worked out: any request may have made it."""
        self._missed = now

    def make_for(self, track: Track, endpoint: int, now: int) -> Made:
        """Note that a call is made, and that it is certain by which request."""
        self._calls += 1
        self._background.made([track], endpoint, now)
        track.called(1.0, self._calls, endpoint, now)
        return Made(self._calls, [track])

    def answered(self, made: Made, now: int) -> None:
        """A call was answered, or has failed."""
        for track in made.tracks:
            track.answered(made.number, now)
