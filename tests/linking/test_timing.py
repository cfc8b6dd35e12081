"""The odds: sound under any history, and worth what they claim in services that are made up."""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshproxy.linking.behaviour import FIRST_ENDPOINT
from meshproxy.linking.call import Decision
from meshproxy.linking.inflight import Cause
from meshproxy.linking.timing import MOST_ENDPOINTS, Timing
from meshproxy.linking.tracks import LONGEST_HISTORY, MOST_ALTERNATIVES, Alternative, Track
from tests.linking.bench import Service

# Whatever happens

EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["start", "end", "call", "call", "call", "certain", "answer"]),
        st.integers(0, 5),
        st.sampled_from([0, 0.001, 0.3, 1, 5, 2_000]),
    ),
    max_size=120,
)


def history_of(each: Alternative) -> int:
    """How many steps an alternative remembers."""
    step, length = each.history, 0
    while step is not None:
        step, length = step.before, length + 1
    return length


def is_sound(track: Track) -> None:
    assert 0 < len(track.alternatives) <= MOST_ALTERNATIVES
    assert sum(each.weight for each in track.alternatives) == pytest.approx(1.0)
    assert 0.0 <= track.doubt <= 1.0
    assert all(history_of(each) <= LONGEST_HISTORY for each in track.alternatives)


@given(EVENTS)
def test_odds_are_sound_whatever_happened(events: list[tuple[str, int, float]]) -> None:
    service = Service(threshold=1.0)
    causes: list[Cause] = []
    calls: list[Decision] = []
    for event, number, delay in events:
        service.wait(delay)
        destination = f"destination-{number % 3}"
        if event == "start":
            causes.append(service.request(f"GET /{number % 2}"))
        elif event == "end" and causes:
            service.end(causes.pop(number % len(causes)))
        elif event == "call":
            calls.append(service.call(destination))
            shares = [each.confidence for each in calls[-1].candidates]
            assert all(0.0 <= each <= 1.0 for each in shares)
            assert sum(shares) <= 1.0 + 1e-6
        elif event == "certain" and causes:
            cause = causes[number % len(causes)]
            calls.append(service.call(destination, carrying=cause.context))
        elif event == "answer" and calls:
            service.answer(calls.pop(number % len(calls)))
        for cause in causes:
            if cause.track is not None:
                is_sound(cause.track)


def test_endpoints_past_the_limit_count_as_one() -> None:
    timing = Timing(50)
    numbers = [timing.endpoint(f"10.0.0.{number}", "GET /") for number in range(MOST_ENDPOINTS)]
    assert len(set(numbers)) == MOST_ENDPOINTS
    further = {timing.endpoint(f"10.1.0.{number}", "GET /") for number in range(10_000)}
    assert len(further) == 1
    assert not further & set(numbers)
    assert max(further) <= FIRST_ENDPOINT + MOST_ENDPOINTS
    assert timing.endpoint("10.0.0.7", "GET /") == numbers[7]


def test_a_request_that_calls_for_ever_is_followed_within_bounds() -> None:
    service = Service()
    service.requests(3)
    for number in range(3000):
        service.wait(1)
        decision = service.call("pricing" if number % 3 else "stock")
        if number % 2:
            service.answer(decision)
    for cause in service.inflight:
        assert cause.track is not None
        is_sound(cause.track)


def test_odds_do_not_depend_on_when_it_is() -> None:
    found = []
    for start in (0, 10**15):
        service = Service()
        service.now_ns = start
        service.practise(100, "pricing", "stock")
        service.requests(2)
        service.wait(1.1)
        found.append([each.confidence for each in service.call("stock").candidates])
    assert found[0] == pytest.approx(found[1])


# Services that are made up


class Route:
    """What requests of a route do: calls in this order, each with a probability.

    ``delay`` is the median time before each step, in milliseconds.
    """

    def __init__(self, name: str, calls: Sequence[str], delay: float, share: float = 1.0) -> None:
        self.name = name
        self.calls = calls
        self.delay = delay
        self.share = share


class Work:
    """A request on its way: what it has still to do."""

    def __init__(self, cause: Cause, route: Route, calls: list[str]) -> None:
        self.cause = cause
        self.route = route
        self.calls = calls
        self.open: Decision | None = None


class Simulation:
    """Workers take request after request; ``pollers`` call at fixed times on their own."""

    def __init__(
        self,
        routes: Sequence[Route],
        *,
        workers: int = 4,
        idle: float = 40.0,
        spread: float = 0.4,
        poller: float = 0.0,
        seed: int = 1,
    ) -> None:
        self._random = random.Random(seed)
        self._routes = routes
        self._idle = idle
        self._spread = spread
        self._poller = poller
        self.service = Service()
        self._start_ns = self.service.now_ns
        self._events: list[tuple[float, int, Work | None, str]] = []
        self._number = 0
        self.links: list[tuple[Decision, Cause | None]] = []
        for _ in range(workers):
            self._at(self._after(idle), None, "come")
        if poller:
            self._at(poller, None, "poll")

    def _after(self, median: float) -> float:
        return self._random.lognormvariate(math.log(median), self._spread)

    def _at(self, moment: float, work: Work | None, event: str) -> None:
        self._number += 1
        heapq.heappush(self._events, (moment, self._number, work, event))

    def run(self, calls: int) -> None:
        """Until so many calls were made."""
        while len(self.links) < calls:
            moment, _, work, event = heapq.heappop(self._events)
            self.service.now_ns = self._start_ns + int(moment * 1e6)
            if event == "poll":
                self._call("broker", None)
                self._at(moment + self._poller, None, "poll")
            elif work is None:
                self._come(moment)
            else:
                self._go_on(moment, work)

    def _come(self, moment: float) -> None:
        route = self._random.choice(self._routes)
        calls = [each for each in route.calls if self._random.random() < route.share]
        work = Work(self.service.request(route.name), route, calls)
        self._at(moment + self._after(route.delay), work, "go on")

    def _go_on(self, moment: float, work: Work) -> None:
        if work.open is not None:
            self.service.answer(work.open)
            work.open = None
        elif work.calls:
            work.open = self._call(work.calls.pop(0), work.cause)
        else:
            self.service.end(work.cause)
            self._at(moment + self._after(self._idle), None, "come")
            return
        self._at(moment + self._after(work.route.delay), work, "go on")

    def _call(self, destination: str, cause: Cause | None) -> Decision:
        decision = self.service.call(destination)
        self.links.append((decision, cause))
        return decision

    # How good

    def judged(self) -> list[tuple[Decision, Cause | None]]:
        """The second half of the calls; the first is for learning."""
        return self.links[len(self.links) // 2 :]

    def linked(self) -> list[tuple[Decision, Cause | None]]:
        return [each for each in self.judged() if each[0].cause is not None]

    def coverage(self) -> float:
        """Share of the calls of requests that were linked."""
        caused = [each for each in self.judged() if each[1] is not None]
        return len(self.linked()) / len(caused)

    def precision(self) -> float:
        """Of the calls that were linked; 1 if none was."""
        linked = self.linked()
        wrong = sum(decision.cause is not cause for decision, cause in linked)
        return 1.0 - wrong / max(len(linked), 1)

    def claims(self) -> list[tuple[float, bool]]:
        """For each call, how likely its best candidate was said to be, and whether it was right."""
        found = []
        for decision, cause in self.judged():
            if decision.cause is not None:
                found.append((decision.confidence, decision.cause is cause))
            elif decision.candidates:
                best = decision.candidates[0]
                found.append((best.confidence, best.cause is cause))
        return found

    def _surplus(self, groups: int = 10) -> list[float]:
        """By how confident the claims are: their claimed number that is right, above the real one,
        as a share of all claims."""
        claims = self.claims()
        found = []
        for group in range(groups):
            here = [each for each in claims if min(int(each[0] * groups), groups - 1) == group]
            claimed = sum(confidence for confidence, _ in here)
            right = sum(was_right for _, was_right in here)
            found.append((claimed - right) / len(claims))
        return found

    def calibration_error(self) -> float:
        """How far claims are from what they turn out to be worth, on average."""
        return sum(abs(each) for each in self._surplus())

    def overclaimed(self) -> float:
        """How far claims are above what they turn out to be worth, on average."""
        return sum(max(0.0, each) for each in self._surplus())


ROUTES = (
    Route("GET /orders", ("accounts", "orders", "pricing"), 3.0),
    Route("GET /carts", ("accounts", "stock"), 2.0),
    Route("POST /checkout", ("pricing", "payment", "mail"), 5.0),
)
CACHED = tuple(Route(each.name, each.calls, each.delay, 0.6) for each in ROUTES)
SINGLE = (Route("GET /orders", ("pricing", "stock"), 3.0),)
RETRYING = (*ROUTES, Route("GET /flaky", ("stock", "stock", "stock"), 3.0, 0.5))
CALLS = 3000


@pytest.mark.parametrize(
    ("routes", "options", "least"),
    [
        (ROUTES, {}, 0.6),
        (ROUTES, {"seed": 2}, 0.6),
        (ROUTES, {"spread": 1.0}, 0.4),
        (ROUTES, {"poller": 50.0}, 0.4),
        (ROUTES, {"poller": 7.0}, 0.0),
        (CACHED, {}, 0.2),
        (SINGLE, {}, 0.4),
        (RETRYING, {}, 0.4),
    ],
    ids=["sequential", "another", "irregular", "polled", "polled often", "cached", "one route",
         "retrying"],
)  # fmt: skip
def test_what_is_linked_is_right_and_claims_are_worth_what_they_say(
    routes: Sequence[Route], options: dict[str, float], least: float
) -> None:
    simulation = Simulation(routes, **options)  # type: ignore[arg-type]
    simulation.run(CALLS)
    assert simulation.precision() >= 0.99
    assert simulation.calibration_error() < 0.1
    assert simulation.coverage() >= least


@pytest.mark.parametrize("seed", [1, 4])
def test_in_a_crowd_claims_are_too_low_rather_than_too_high(seed: int) -> None:
    """Shares are levelled until enough clear cases were seen, which takes long in a crowd."""
    simulation = Simulation(ROUTES, workers=12, seed=seed)
    simulation.run(CALLS)
    assert simulation.precision() >= 0.99
    assert simulation.overclaimed() < 0.05


@pytest.mark.parametrize("poller", [7.0, 50.0])
def test_a_poller_in_a_busy_service_is_no_gap(poller: float) -> None:
    simulation = Simulation(ROUTES, poller=poller)
    simulation.run(CALLS)
    polls = [decision for decision, cause in simulation.judged() if cause is None]
    assert len(polls) > 100
    assert sum(each.cause is not None for each in polls) <= 0.01 * len(polls)
    assert sum(each.gap is not None for each in polls) <= 0.05 * len(polls)
