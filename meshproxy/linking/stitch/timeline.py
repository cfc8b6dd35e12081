"""The observations of one stream (a service in one pod) as events in the order of time."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from math import gcd
from typing import Final

from meshproxy.linking.stitch.observations import IN, Observation

OPENED: Final = 0
CALL_ENDED: Final = 1
CALLED: Final = 2
CALL_ENDED_AT_ONCE: Final = 3
CLOSED: Final = 4
GONE: Final = 5
"""Kinds of events, in the order in which they happen when the clock does not tell them apart."""

UNKNOWN: Final = -1

_MIN_TICK_NS: Final = 1000
_MIN_SHARE: Final = 0.01
"""Share of the calls that must be out of the ordinary before that is taken for a habit."""

_LATE_QUANTILE: Final = 0.9
_LATE_MARGIN: Final = 1.25
_LATE_CHANCE: Final = 0.2
"""Calls that come by chance are as far from the last request as any moment: half of them in the
nearer half. Those of requests that are over are nearer: half of them in this share."""

_MAX_LINGERING: Final = 8
"""Requests that are over and still considered, on average."""

Event = tuple[int, int, int]
"""Tick, kind, and which request or call it is."""


class Timeline:
    """Requests and calls of a stream, numbered, with times in ticks of the recorder's clock.

    ``lead`` and ``linger`` are the ticks before its start and after its end in which a request may
    have made a call: more than none only where there are calls that nothing else explains.
    ``outlasting`` and ``late`` are the shares of calls that end after, or start after, every
    request that was there.
    """

    def __init__(
        self, observations: Sequence[Observation], skew_ns: int = 0, linger_ns: int = 0
    ) -> None:
        ordered = sorted(observations, key=lambda o: (o.start_ns, o.end_ns, o.operation, o.key))
        self.requests = [o for o in ordered if o.direction == IN]
        self.calls = [o for o in ordered if o.direction != IN]
        self._number()
        self._tick = tick_of(ordered)
        self._origin = ordered[0].start_ns
        self.opens = [self._ticks(o.start_ns) for o in self.requests]
        self.closes = [self._ticks(max(o.start_ns, o.end_ns)) for o in self.requests]
        self.starts = [self._ticks(o.start_ns) for o in self.calls]
        self.ends = [self._ticks(max(o.start_ns, o.end_ns)) for o in self.calls]
        self.span = max([*self.closes, *self.ends]) + 1
        self.lead = 0
        self.linger = 0
        self.outlasting = 0.0
        self.late = 0.0
        self._allow_skew(skew_ns // self._tick)
        self._allow_late(linger_ns // self._tick)
        self._allow_outlasting()

    def _number(self) -> None:
        routes = {name: i for i, name in enumerate(sorted({o.operation for o in self.requests}))}
        names = {name: i for i, name in enumerate(sorted({o.operation for o in self.calls}))}
        self.endpoint_count = len(names)
        self.routes = [routes[o.operation] for o in self.requests]
        self.endpoints = [names[o.operation] for o in self.calls]
        keys = {o.key: number for number, o in enumerate(self.requests)}
        self.fixed = [
            UNKNOWN if o.parent is None else keys.get(o.parent, UNKNOWN) for o in self.calls
        ]

    def _ticks(self, time_ns: int) -> int:
        return (time_ns - self._origin) // self._tick

    def _orphans(self) -> list[tuple[int, int, int]]:
        """Calls that begin while no request is there, with the ticks since and until the nearest.

        -1 where there is none before or after.
        """
        last_close: list[int] = []
        latest = -1
        for close in self.closes:
            latest = max(latest, close)
            last_close.append(latest)
        found: list[tuple[int, int, int]] = []
        for call, start in enumerate(self.starts):
            following = bisect_right(self.opens, start)
            before = last_close[following - 1] if following else -1
            if self.fixed[call] == UNKNOWN and before < start:
                since = start - before if following else -1
                until = self.opens[following] - start if following < len(self.opens) else -1
                found.append((call, since, until))
        return found

    def _allow_skew(self, skew: int) -> None:
        early: list[int] = []
        for call, _, until in self._orphans():
            following = bisect_right(self.opens, self.starts[call])
            if 0 <= until <= skew and self.ends[call] <= self.closes[following]:
                early.append(until)
        if self._is_habit(len(early)):
            self.lead = max(early)
            self.opens = [tick - self.lead for tick in self.opens]

    def _allow_late(self, limit: int) -> None:
        late = sorted(since for _, since, _ in self._orphans() if 0 <= since <= limit)
        if not self._is_habit(len(late)) or self._by_chance(late[len(late) // 2]):
            return
        usual = late[int(_LATE_QUANTILE * (len(late) - 1))]
        most = _MAX_LINGERING * self.span // len(self.requests)
        self.linger = min(limit, most, int(_LATE_MARGIN * usual) + 1)
        self.late = len(late) / len(self.calls)

    def _by_chance(self, since: int) -> bool:
        """Whether a moment without requests is often so near to the end of the last one."""
        near = idle = 0
        latest = self.closes[0]
        for opened, close in zip(self.opens, self.closes, strict=True):
            gap = max(0, opened - latest)
            near += min(gap, since)
            idle += gap
            latest = max(latest, close)
        gap = max(0, self.span - latest)
        return near + min(gap, since) > _LATE_CHANCE * (idle + gap)

    def _allow_outlasting(self) -> None:
        outlasting = sum(
            bool(requests)
            and self.closes[requests[0]] >= self.starts[call]
            and all(self.closes[request] < self.ends[call] for request in requests)
            for call, requests in enumerate(self.candidates())
        )
        self.outlasting = outlasting / max(1, len(self.calls))

    def _is_habit(self, calls: int) -> bool:
        return calls >= max(2.0, _MIN_SHARE * len(self.calls))

    def candidates(self) -> list[list[int]]:
        """For each call the requests that it lies within, or those in which it begins.

        If there are none of either, those that are not long over.
        """
        found: list[list[int]] = [[] for _ in self.calls]
        live: list[int] = []
        over: list[int] = []
        for _, kind, which in self.events():
            if kind == OPENED:
                live.append(which)
            elif kind == CLOSED:
                live.remove(which)
                if self.linger:
                    over.append(which)
            elif kind == GONE:
                over.remove(which)
            elif kind == CALLED:
                end = self.ends[which]
                within = [request for request in live if self.closes[request] >= end]
                found[which] = within or list(live) or list(over)
        return found

    def events(self) -> list[Event]:
        """All events, in order."""
        events: list[Event] = []
        for request in range(len(self.opens)):
            events.append((self.opens[request], OPENED, request))
            events.append((self.closes[request], CLOSED, request))
            if self.linger:
                events.append((self.closes[request] + self.linger, GONE, request))
        for call in range(len(self.starts)):
            at_once = self.starts[call] == self.ends[call]
            events.append((self.starts[call], CALLED, call))
            events.append((self.ends[call], CALL_ENDED_AT_ONCE if at_once else CALL_ENDED, call))
        events.sort()
        return events


def tick_of(observations: Sequence[Observation]) -> int:
    """Nanoseconds between two times that the recorder can tell apart, at least a microsecond."""
    origin = observations[0].start_ns
    common = 0
    for observation in observations:
        common = gcd(common, observation.start_ns - origin, observation.end_ns - origin)
        if 0 < common <= _MIN_TICK_NS:
            break
    return max(_MIN_TICK_NS, common)
