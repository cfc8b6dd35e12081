"""What requests usually do, and after how long; within bounds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshproxy.linking.behaviour import (
    ANSWER,
    BINS,
    END,
    FIRST_ENDPOINT,
    MOST_EXITS,
    PIECE_BYTES,
    WIDTHS,
    Behaviour,
    State,
    bin_of,
    end_of,
)
from tests.linking.sizes import size_of

PRICING, STOCK = FIRST_ENDPOINT, FIRST_ENDPOINT + 1
HOUR = 3_600_000_000


@pytest.fixture
def state() -> State:
    return Behaviour(1000).start("GET /orders")


def rates(state: State, event: int) -> list[float]:
    return [state.hazard(event, number) for number in range(BINS)]


# Time


@given(st.integers(0, HOUR))
def test_a_delay_is_in_its_bin(delay: int) -> None:
    number = bin_of(delay)
    start = end_of(number - 1) if number else 0
    assert start <= delay < end_of(number)
    assert WIDTHS[number] == end_of(number) - start


def test_bins_are_a_quarter_of_a_delay_at_most() -> None:
    for number in range(8, BINS):
        assert WIDTHS[number] <= end_of(number - 1) / 4


def test_any_delay_has_a_bin() -> None:
    assert bin_of(-5) == bin_of(0) == 0
    assert bin_of(10**15) == BINS - 1


# Learning


def test_before_anything_is_learnt_every_event_is_as_likely(state: State) -> None:
    assert rates(state, PRICING) == rates(state, STOCK) == rates(state, END)
    assert not state.leads_to(PRICING)


def test_what_was_seen_is_likelier_then_and_other_events_are_not(state: State) -> None:
    for _ in range(100):
        state.learn(PRICING, bin_of(1000), 1.0)
    now, later = bin_of(1000), bin_of(100_000)
    assert state.hazard(PRICING, now) > 100 * state.hazard(STOCK, now)
    assert state.hazard(PRICING, now) > 100 * state.hazard(PRICING, later)
    assert state.leads_to(PRICING)
    assert not state.leads_to(STOCK)


def test_a_delay_says_something_of_those_beside_it(state: State) -> None:
    for _ in range(100):
        state.learn(PRICING, 40, 1.0)
    near = [state.hazard(PRICING, number) * WIDTHS[number] for number in (40, 41, 42, 60)]
    assert near[0] > near[3]
    assert near[1] > near[3]
    assert near[2] > near[3]


@given(
    st.lists(
        st.tuples(st.integers(0, 4), st.integers(0, BINS - 1), st.floats(0.1, 1.0)), max_size=60
    )
)
def test_whatever_is_learnt_the_figures_are_rates_and_shares(
    events: list[tuple[int, int, float]],
) -> None:
    state = Behaviour(1000).start("GET /orders")
    for event, number, weight in events:
        state.learn(event, number, weight)
    for event in range(6):
        assert all(0.0 < rate < float("inf") for rate in rates(state, event))
        assert 0.0 <= state.clear(event) <= state.total + 1e-6
    assert all(0.0 < share <= 1.0 for share in state.survival)
    assert list(state.survival) == sorted(state.survival, reverse=True)


def test_what_is_not_sure_is_no_clear_case(state: State) -> None:
    state.learn(PRICING, 40, 0.9)
    assert state.clear(PRICING) == 0.0
    state.learn(PRICING, 40, 1.0)
    assert state.clear(PRICING) == 1.0


def test_a_service_that_changes_its_ways_is_learnt_anew(state: State) -> None:
    for _ in range(5000):
        state.learn(PRICING, 40, 1.0)
    for _ in range(10_000):
        state.learn(STOCK, 40, 1.0)
    assert state.hazard(STOCK, 40) > 20 * state.hazard(PRICING, 40)


# States


def test_a_state_is_the_calls_made_in_any_order_and_how_many_are_open() -> None:
    behaviour = Behaviour(1000)
    start = behaviour.start("GET /orders")
    one = behaviour.after_call(behaviour.after_call(start, PRICING), STOCK)
    other = behaviour.after_call(behaviour.after_call(start, STOCK), PRICING)
    assert one is other
    assert behaviour.after_answer(one) is not one
    assert behaviour.after_answer(one) is behaviour.after_answer(other)
    assert behaviour.start("GET /carts") is not start


def test_endless_repeats_come_to_the_same_state() -> None:
    behaviour = Behaviour(1000)
    state = behaviour.start("GET /orders")
    for _ in range(1000):
        state = behaviour.after_answer(behaviour.after_call(state, PRICING))
    assert len(behaviour) < 20


def test_calls_that_are_never_answered_come_to_the_same_state() -> None:
    behaviour = Behaviour(1000)
    state = behaviour.start("GET /orders")
    for _ in range(1000):
        state = behaviour.after_call(state, PRICING)
    assert len(behaviour) < 20


# Bounds


@given(st.integers(1, 50), st.lists(st.integers(0, 200), max_size=300))
def test_states_are_never_more_than_the_limit(limit: int, routes: list[int]) -> None:
    behaviour = Behaviour(limit)
    for number in routes:
        state = behaviour.start(f"GET /{number}")
        state.learn(END, 10, 1.0)
        behaviour.after_call(state, FIRST_ENDPOINT + number)
        assert len(behaviour) <= limit


def test_past_the_limit_what_happens_often_is_kept() -> None:
    behaviour = Behaviour(100)
    often = behaviour.start("GET /often")
    for _ in range(50):
        often.learn(PRICING, 40, 1.0)
    for number in range(1000):
        behaviour.start(f"GET /{number}").learn(ANSWER, 5, 1.0)
    assert behaviour.start("GET /often") is often


def test_a_state_takes_what_it_is_reckoned_with_whatever_happens() -> None:
    behaviour = Behaviour(1000)
    state = behaviour.start("GET /orders")
    for event in range(200):
        state.learn(event, event % BINS, 1.0)
    assert size_of(state) < 2 * PIECE_BYTES * (1 + MOST_EXITS)
