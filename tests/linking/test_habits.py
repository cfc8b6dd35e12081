"""Calls that no request caused are told from those that one may have caused."""

from __future__ import annotations

import pytest

from meshproxy.linking.habits import LEAST_TIMES, MOST_ENDPOINTS, OFTEN, Habits, Origin
from meshproxy.linking.inflight import Cause
from meshproxy.trace.context import SpanContext

NOW = 1_700_000_000_000_000_000
SECOND = 1_000_000_000
ANY = pytest.mark.parametrize("origin", Origin)


def cause(route: str, probe: bool = False) -> Cause:
    found = Cause(SpanContext(bytes(15) + b"1", bytes(7) + b"1", 1, ""), route, 0)
    found.probe = probe
    return found


def within(habits: Habits, origin: Origin, *causes: Cause, operation: str = "GET /") -> bool:
    asked = causes or [cause("GET /orders")]
    return habits.explain("vendor", operation, origin, asked, False, NOW)


def alone(habits: Habits, origin: Origin, times: int = OFTEN) -> None:
    for _ in range(times):
        habits.alone("vendor", "GET /", origin)


@ANY
def test_nothing_is_known_at_first(origin: Origin) -> None:
    assert not within(Habits(), origin)


@ANY
def test_what_is_mostly_done_alone_is_no_requests(origin: Origin) -> None:
    habits = Habits()
    alone(habits, origin)
    assert [within(habits, origin) for _ in range(OFTEN + 1)] == [True] * OFTEN + [False]


@ANY
def test_once_is_not_often(origin: Origin) -> None:
    habits = Habits()
    alone(habits, origin, OFTEN - 1)
    assert not within(habits, origin)


@ANY
def test_other_endpoints_and_origins_are_other_habits(origin: Origin) -> None:
    habits = Habits()
    alone(habits, origin)
    assert not within(habits, origin, operation="POST /")
    assert not any(within(habits, other) for other in Origin if other is not origin)


@pytest.mark.parametrize("origin", [Origin.NO_CONTEXT, Origin.UNKNOWN_TRACE])
def test_requests_that_pass_their_context_on_are_not_blamed(origin: Origin) -> None:
    habits = Habits()
    habits.passed_on("GET /orders")
    assert within(habits, origin)
    assert within(habits, origin, cause("GET /orders"), cause("GET /healthz", probe=True))
    assert not within(habits, origin, cause("GET /orders"), cause("GET /legacy"))


def test_other_evidence_against_a_request_counts_unless_there_is_another_context() -> None:
    habits = Habits()
    habits.passed_on("GET /orders")
    asked = [cause("GET /orders")]
    assert not habits.explain("vendor", "GET /", Origin.NO_CONTEXT, asked, True, NOW)
    assert habits.explain("vendor", "GET /", Origin.UNKNOWN_TRACE, asked, True, NOW)


def spells(habits: Habits, count: int, idle_ns: int, calls: int = 1) -> list[bool]:
    """What is said of so many calls in each of so many spells of work of a second, a time apart."""
    found = []
    now = NOW
    for _ in range(count):
        habits.busy(now)
        for _ in range(calls):
            found.append(
                habits.explain(
                    "vendor", "GET /", Origin.NO_CONTEXT, [cause("GET /orders")], False, now
                )
            )
        now += SECOND
        habits.idle(now)
        now += idle_ns
    return found


class TestAFaultThatComesAndGoes:
    """The requests pass their context on, as a rule."""

    @pytest.fixture
    def habits(self) -> Habits:
        habits = Habits()
        habits.passed_on("GET /orders")
        return habits

    def test_it_keeps_to_the_times_of_requests(self, habits: Habits) -> None:
        found = spells(habits, LEAST_TIMES + 1, idle_ns=SECOND)
        assert found == [True] * (LEAST_TIMES - 1) + [False] * 2

    def test_many_calls_at_one_time_are_one_coincidence(self, habits: Habits) -> None:
        assert all(spells(habits, 1, idle_ns=9 * SECOND, calls=100))

    def test_where_there_is_always_a_request_nothing_can_be_said(self, habits: Habits) -> None:
        assert all(spells(habits, 30, idle_ns=SECOND // 100))

    def test_one_call_at_another_time_clears_it(self, habits: Habits) -> None:
        alone(habits, Origin.NO_CONTEXT, 1)
        assert all(spells(habits, 30, idle_ns=SECOND))


def test_a_context_that_is_over_may_be_kept_by_whoever_passes_it_on() -> None:
    habits = Habits()
    habits.passed_on("GET /orders")
    assert not within(habits, Origin.TRACE_THAT_IS_OVER)


def test_without_a_known_request_nobody_is_cleared() -> None:
    assert not Habits().explain("vendor", "GET /", Origin.NO_CONTEXT, [], False, NOW)


def test_it_is_bounded() -> None:
    habits = Habits()
    for number in range(MOST_ENDPOINTS):
        habits.alone(f"vendor-{number}", "GET /", Origin.NO_CONTEXT)
    alone(habits, Origin.NO_CONTEXT)
    assert not within(habits, Origin.NO_CONTEXT)
