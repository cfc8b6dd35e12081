"""What holds of every answer, whatever was recorded."""

from __future__ import annotations

import random
from itertools import permutations
from math import log

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshproxy.linking.stitch import IN, OUT, Observation, Options, stitch
from tests.linking.stitch.generate import MS, chain, record, right

SKEW = 3 * MS
LINGER = 50 * MS
OPTIONS = Options(skew_ns=SKEW, linger_ns=LINGER)

times = st.integers(0, 200).map(lambda ms: ms * MS)


@st.composite
def recordings(draw: st.DrawFn) -> list[Observation]:
    found = []
    for number in range(draw(st.integers(0, 14))):
        start = draw(times)
        direction = draw(st.sampled_from((IN, OUT)))
        found.append(
            Observation(
                key=f"k{number}",
                service=draw(st.sampled_from(("s", "t"))),
                direction=direction,
                operation=draw(st.sampled_from(("x", "y"))),
                start_ns=start,
                end_ns=start + draw(times),
                group=draw(st.sampled_from(("", "pod"))),
            )
        )
    return found


@given(recordings())
def test_a_parent_could_have_made_the_call(recording: list[Observation]) -> None:
    by_key = {o.key: o for o in recording}
    links = stitch(recording, OPTIONS)
    assert [link.key for link in links] == [o.key for o in recording if o.direction == OUT]
    for link in links:
        call = by_key[link.key]
        assert 0 <= link.confidence <= 1
        assert (link.parent is None) == (link.evidence == "")
        assert sum(candidate.confidence for candidate in link.candidates) <= 1.001
        for name in {link.parent, *(candidate.parent for candidate in link.candidates)} - {None}:
            request = by_key[str(name)]
            assert request.direction == IN
            assert (request.service, request.group) == (call.service, call.group)
            assert request.start_ns - SKEW <= call.start_ns <= request.end_ns + LINGER


@given(recordings(), st.randoms(use_true_random=False))
def test_the_order_of_the_input_does_not_matter(
    recording: list[Observation], rng: random.Random
) -> None:
    shuffled = list(recording)
    rng.shuffle(shuffled)
    assert sorted(stitch(recording)) == sorted(stitch(shuffled))


def test_two_observations_with_the_same_key_are_refused() -> None:
    twice = Observation("k", "s", IN, "x", 0, 1)
    with pytest.raises(ValueError, match="same key"):
        stitch([twice, twice])


def test_what_is_certain_is_never_changed() -> None:
    recorded = record(lambda rng: chain(rng, "a", "b"), requests=60)
    certain = {}
    observations = []
    for observation in recorded.observations:
        if observation.key.endswith(".1"):
            # Even where it is wrong: to another request, or to one that nobody saw.
            certain[observation.key] = "nobody" if observation.key.endswith("9.1") else "r7"
            observation = observation._replace(
                parent=certain[observation.key], evidence="thread", confidence=0.995
            )
        observations.append(observation)
    for link in stitch(observations):
        if link.key in certain:
            assert (link.parent, link.evidence, link.confidence) == (
                certain[link.key],
                "thread",
                0.995,
            )


def test_certain_calls_help_to_decide_the_others() -> None:
    """Two requests, two calls to the same endpoint: if one is certain, so is the other."""
    observations = [
        Observation("r1", "s", IN, "x", 0, 100 * MS),
        Observation("r2", "s", IN, "x", 1 * MS, 101 * MS),
        Observation("c1", "s", OUT, "y", 10 * MS, 20 * MS, parent="r2", evidence="process"),
        Observation("c2", "s", OUT, "y", 11 * MS, 21 * MS),
    ]
    link = stitch(observations)[1]
    assert (link.parent, link.evidence) == ("r1", "call_graph")
    assert link.confidence > 0.9


def test_one_request_in_flight() -> None:
    observations = [
        Observation("r", "s", IN, "x", 0, 100 * MS),
        Observation("c", "s", OUT, "y", 10 * MS, 20 * MS, old_parent="elsewhere"),
        Observation("late", "s", OUT, "y", 9000 * MS, 9001 * MS),
        Observation("alone", "t", OUT, "y", 10 * MS, 20 * MS),
    ]
    linked, late, alone = stitch(observations)
    assert (linked.parent, linked.evidence, linked.old_parent) == (
        "r",
        "only_in_flight",
        "elsewhere",
    )
    assert linked.confidence > 0.95
    assert late.parent is None
    assert alone.parent is None


@pytest.mark.parametrize("seed", range(8))
def test_the_best_of_all_assignments_is_found(seed: int) -> None:
    """After a clear past, four requests at once: delays are as in the past in one way only."""
    past = record(lambda rng: chain(rng, "a"), requests=150, every_ns=60 * MS, seed=seed)
    rng = random.Random(seed)
    base = 10**11
    starts = [base + round(rng.uniform(0, 6) * MS) for _ in range(4)]
    delays = [0.3, 0.45, 0.6, 0.9]
    requests, calls = [], []
    for number, (start, delay) in enumerate(zip(starts, delays, strict=True)):
        begin = start + round(delay * MS)
        requests.append(Observation(f"q{number}", "shop", IN, "GET /", start, base + 30 * MS))
        calls.append(Observation(f"d{number}", "shop", OUT, "a", begin, base + 25 * MS))
    links = stitch([*past.observations, *requests, *calls], Options(width=4096))
    found = [link.parent for link in links[-4:]]
    assert found == by_brute_force(requests, calls)


def by_brute_force(requests: list[Observation], calls: list[Observation]) -> list[str]:
    """The assignment that is likeliest by the distribution that the past was made of."""

    def fit(order: tuple[Observation, ...]) -> float:
        waits = [c.start_ns - r.start_ns for c, r in zip(calls, order, strict=True)]
        if min(waits) <= 0:
            return float("-inf")
        return -sum(log(w) + (log(2 * w / MS) / 0.25) ** 2 / 2 for w in waits)

    return [request.key for request in max(permutations(requests), key=fit)]


def test_many_requests_at_once_stay_bounded() -> None:
    """Hundreds in flight that never end: the work for a call does not grow without limit."""
    recorded = record(lambda rng: (10**10, chain(rng, "a")[1]), requests=300, every_ns=MS, seed=5)
    links = stitch(recorded.observations, Options(passes=1, width=8, learning_width=8))
    assert right(recorded, links) > 0.2
