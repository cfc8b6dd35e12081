"""Simple ways to choose which request in flight caused a call, to compare with."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from loadtest.linking.data import Row

Rule = Callable[[Row, Sequence[Row]], Row | None]
"""From a call and the requests in flight when it begins, oldest first, to its cause or None."""


def first_come_first_served(_: Row, in_flight: Sequence[Row]) -> Row | None:
    """The request that has waited longest."""
    return in_flight[0] if in_flight else None


def last_come(_: Row, in_flight: Sequence[Row]) -> Row | None:
    """The newest request, as a tool does that remembers the last one it saw."""
    return in_flight[-1] if in_flight else None


def nearest_in_time(call: Row, in_flight: Sequence[Row]) -> Row | None:
    """The request whose start or end is nearest to that of the call."""
    return min(in_flight, key=lambda request: _distance(call, request), default=None)


def _distance(call: Row, request: Row) -> tuple[int, int]:
    start, end = abs(call.start_us - request.start_us), abs(call.end_us - request.end_us)
    return min(start, end), start + end


def only_one_in_flight(_: Row, in_flight: Sequence[Row]) -> Row | None:
    """The request, if there is just one."""
    return in_flight[0] if len(in_flight) == 1 else None


RULES: dict[str, Rule] = {
    "first come": first_come_first_served,
    "last come": last_come,
    "nearest": nearest_in_time,
    "only one": only_one_in_flight,
}


def choose(rows: Sequence[Row], rule: Rule, *, offline: bool) -> dict[str, str | None]:
    """The span of the request that a rule chooses for each call of one service.

    A request that has been chosen for a call to an endpoint is out for others to it. ``offline``:
    only requests that do not end before the call come into question.
    """
    moments = [(row.start_us, row.direction != "in", row) for row in rows]
    moments.sort(key=lambda moment: (moment[0], moment[1], len(moment[2].span), moment[2].span))
    live: list[Row] = []
    made: set[tuple[str, str]] = set()
    chosen: dict[str, str | None] = {}
    for time, is_call, row in moments:
        live = [request for request in live if request.end_us >= time]
        if not is_call:
            live.append(row)
            continue
        candidates = [
            request
            for request in live
            if (request.span, row.operation) not in made
            and not (offline and request.end_us < row.end_us)
        ]
        request = rule(row, candidates)
        chosen[row.span] = request.span if request else None
        if request:
            made.add((request.span, row.operation))
    return chosen
