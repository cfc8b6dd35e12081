"""What can be learnt before anything is guessed: from requests whose calls can only be theirs."""

from __future__ import annotations

from meshproxy.linking.stitch.delays import bin_of
from meshproxy.linking.stitch.model import Counts
from meshproxy.linking.stitch.states import States
from meshproxy.linking.stitch.timeline import UNKNOWN, Timeline

_ENDED, _BEGAN, _ENDED_AT_ONCE = range(3)


def clear_counts(timeline: Timeline, states: States) -> Counts:
    """Count the steps of all requests whose calls are certain.

    Those are calls whose parent is known, that lie within that request alone, or that lie within
    none and begin in that one alone.
    """
    calls_of: list[list[int]] = [[] for _ in timeline.requests]
    clear = [True] * len(timeline.requests)
    for call, requests in enumerate(timeline.candidates()):
        fixed = timeline.fixed[call]
        if fixed != UNKNOWN:
            calls_of[fixed].append(call)
        elif len(requests) == 1 and timeline.starts[call] <= timeline.closes[requests[0]]:
            calls_of[requests[0]].append(call)
        else:
            for request in requests:
                clear[request] = False
    counts = Counts()
    for request, calls in enumerate(calls_of):
        if clear[request]:
            _count(timeline, states, request, calls, counts)
    return counts


def _count(
    timeline: Timeline, states: States, request: int, calls: list[int], counts: Counts
) -> None:
    close = timeline.closes[request]
    events: list[tuple[int, int, int]] = []
    for call in calls:
        start, end = timeline.starts[call], timeline.ends[call]
        if start <= close:
            events.append((start, _BEGAN, call))
        if end <= close:
            events.append((end, _ENDED_AT_ONCE if start == end else _ENDED, call))
    events.sort()
    state = states.start(timeline.routes[request])
    since = timeline.opens[request]
    for tick, kind, call in events:
        step = timeline.endpoints[call] + (0 if kind == _BEGAN else states.endpoints)
        delay_bin = bin_of(tick - since) if kind == _BEGAN else 0
        counts.add(state * states.steps + step, delay_bin, 1.0)
        state = states.after(state, step)
        since = tick
    counts.add(state * states.steps + states.end, bin_of(close - since), 1.0)
