"""What the stitcher makes of services of all kinds. The truth is known, and hidden from it."""

from __future__ import annotations

import random

import pytest

from meshproxy.linking.stitch import IN, OUT, Observation, stitch
from tests.linking.stitch.generate import MS, Made, Plan, chain, record, right, work


def sequential(rng: random.Random) -> tuple[int, list[Made]]:
    return chain(rng, "a", "b", "c")


def parallel(rng: random.Random) -> tuple[int, list[Made]]:
    starts = sorted(work(rng) for _ in range(3))
    calls = [
        Made(endpoint, start, start + round(rng.uniform(1, 9) * MS))
        for endpoint, start in zip("abc", starts, strict=True)
    ]
    return max(call.end for call in calls) + work(rng), calls


def with_a_cache(rng: random.Random) -> tuple[int, list[Made]]:
    return chain(rng, *(endpoint for endpoint in "abc" if rng.random() < 0.7))


def with_retries(rng: random.Random) -> tuple[int, list[Made]]:
    return chain(rng, *("a" for _ in range(rng.choice((1, 1, 2, 3)))), "b")


@pytest.mark.parametrize("plan", [sequential, parallel, with_a_cache, with_retries])
def test_overlapping_requests_are_told_apart(plan: Plan) -> None:
    recorded = record(plan)
    links = stitch(recorded.observations)
    assert right(recorded, links) >= 0.95
    assert right(recorded, links, sure=0.95) >= 0.98
    assert sum(link.confidence >= 0.95 for link in links) >= 0.8 * len(links)


def test_background_calls_belong_to_no_request() -> None:
    recorded = record(lambda rng: chain(rng, "a"), every_ns=20 * MS, background=60)
    links = stitch(recorded.observations)
    of_requests = [link for link in links if recorded.truth[link.key] is not None]
    others = [link for link in links if recorded.truth[link.key] is None]
    assert right(recorded, of_requests) >= 0.98
    assert sum(link.parent is None for link in others) >= 0.7 * len(others)


def test_calls_that_outlast_their_request() -> None:
    def fire_and_forget(rng: random.Random) -> tuple[int, list[Made]]:
        begin = work(rng)
        return begin + work(rng), [Made("mail", begin, begin + round(rng.uniform(5, 9) * MS))]

    recorded = record(fire_and_forget, every_ns=3 * MS)
    assert right(recorded, stitch(recorded.observations)) >= 0.9


def test_calls_that_begin_after_their_request() -> None:
    def afterwards(rng: random.Random) -> tuple[int, list[Made]]:
        took = round(rng.uniform(2, 4) * MS)
        begin = took + work(rng)
        return took, [Made("log", begin, begin + MS)]

    recorded = record(afterwards, every_ns=15 * MS)
    assert right(recorded, stitch(recorded.observations)) >= 0.9


def test_clocks_that_disagree() -> None:
    """The recorder of the calls is a millisecond behind."""

    def skewed(rng: random.Random) -> tuple[int, list[Made]]:
        took, calls = chain(rng, "a", "b")
        return took, [Made(c.endpoint, c.start - MS, c.end - MS) for c in calls]

    recorded = record(skewed, every_ns=15 * MS)
    assert right(recorded, stitch(recorded.observations)) >= 0.9


def test_a_queue_is_first_in_first_out() -> None:
    """One event loop: requests come in pairs, and are taken up in the order they came."""
    rng = random.Random(3)
    observations: list[Observation] = []
    truth: dict[str, str] = {}
    for pair in range(100):
        at = pair * 40 * MS
        first, second = at, at + round(rng.uniform(0.1, 1) * MS)
        busy = second + round(rng.uniform(0.5, 10) * MS)
        for name, start, begin in (("a", first, busy), ("b", second, busy + MS // 10)):
            request, call = f"{name}{pair}", f"{name}{pair}c"
            end = begin + 5 * MS
            observations += pair_of(request, call, start, begin, end)
            truth[call] = request
    links = stitch(observations)
    assert sum(link.parent == truth[link.key] for link in links) >= 0.95 * len(links)


def pair_of(request: str, call: str, start: int, begin: int, end: int) -> list[Observation]:
    return [
        Observation(request, "loop", IN, "GET /", start, end + MS),
        Observation(call, "loop", OUT, "db", begin, end),
    ]
