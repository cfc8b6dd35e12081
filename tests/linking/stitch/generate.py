"""Generated services with their truth: requests, and the calls that each of them makes."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import NamedTuple

from meshproxy.linking.stitch import IN, OUT, Link, Observation

MS = 1_000_000


class Made(NamedTuple):
    """A call of a request: its endpoint, start and end in nanoseconds after the request's start."""

    endpoint: str
    start: int
    end: int


Plan = Callable[[random.Random], tuple[int, Sequence[Made]]]
"""Makes up one request: how long it takes, and its calls."""


class Recorded(NamedTuple):
    """Observations without the truth, and the truth: for each call the key of its request."""

    observations: list[Observation]
    truth: dict[str, str | None]


def record(
    plan: Plan, *, requests: int = 200, every_ns: int = 10 * MS, background: int = 0, seed: int = 1
) -> Recorded:
    """Requests that arrive at random; ``background`` calls to ``x`` belong to none of them."""
    rng = random.Random(seed)
    observations: list[Observation] = []
    truth: dict[str, str | None] = {}
    start = 0
    for number in range(requests):
        start += round(rng.expovariate(1 / every_ns))
        took, calls = plan(rng)
        request = f"r{number}"
        observations.append(Observation(request, "shop", IN, "GET /", start, start + took))
        for place, made in enumerate(calls):
            key = f"c{number}.{place}"
            begin, end = start + made.start, start + made.end
            observations.append(Observation(key, "shop", OUT, made.endpoint, begin, end))
            truth[key] = request
    for number in range(background):
        begin = rng.randrange(start)
        truth[f"b{number}"] = None
        observations.append(Observation(f"b{number}", "shop", OUT, "x", begin, begin + MS))
    return Recorded(observations, truth)


def chain(rng: random.Random, *endpoints: str) -> tuple[int, list[Made]]:
    """Calls one after the other, with some work before each and at the end."""
    at = 0
    calls: list[Made] = []
    for endpoint in endpoints:
        begin = at + work(rng)
        at = begin + round(rng.uniform(1, 12) * MS)
        calls.append(Made(endpoint, begin, at))
    return at + work(rng), calls


def work(rng: random.Random) -> int:
    """About half a millisecond."""
    return round(rng.lognormvariate(0, 0.25) * MS / 2)


def right(recorded: Recorded, links: Sequence[Link], *, sure: float = 0.0) -> float:
    """The share of links of at least some confidence that are right."""
    judged = [link.parent == recorded.truth[link.key] for link in links if link.confidence >= sure]
    return sum(judged) / len(judged)
