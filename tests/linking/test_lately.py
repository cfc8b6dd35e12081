"""Who was in flight when something was made that is sent only now."""

from __future__ import annotations

import pytest

from meshproxy.linking.call import Call, Decision
from meshproxy.linking.gaps import Gap
from meshproxy.linking.inflight import Cause
from meshproxy.linking.lately import KEPT_NS, MOST, Lately
from tests.linking.bench import MILLISECOND, SECOND, START_NS, Service, context


def at(milliseconds: float) -> int:
    return START_NS + int(milliseconds * MILLISECOND)


def cause(start: float, number: int = 1) -> Cause:
    """A request that came so many milliseconds after the start."""
    return Cause(context(number, number), "GET /", at(start))


@pytest.fixture
def lately() -> Lately:
    made = Lately()
    made.want(at(0))
    return made


# What is remembered


@pytest.mark.parametrize(
    ("start", "end", "found"),
    [
        (10, 12, True),  # in flight from 5 to 15
        (0, 5, True),
        (15, 20, True),
        (0, 30, True),
        (0, 4.9, False),
        (15.1, 20, False),
    ],
)
def test_one_that_is_over_was_in_flight_at_some_times(
    lately: Lately, start: float, end: float, found: bool
) -> None:
    one = cause(5)
    lately.ended(one, at(15))
    assert lately.in_flight([], at(start), at(end)) == ([one] if found else [])


@pytest.mark.parametrize(("end", "found"), [(5, True), (4.9, False)])
def test_one_that_is_in_flight_still_may_have_come_later(
    lately: Lately, end: float, found: bool
) -> None:
    one = cause(5)
    assert lately.in_flight([one], at(1), at(end)) == ([one] if found else [])


def test_several_come_in_their_order(lately: Lately) -> None:
    first, second, third, late = cause(1, 1), cause(2, 2), cause(3, 3), cause(9, 4)
    lately.ended(first, at(5))
    lately.ended(second, at(6))
    assert lately.in_flight([third, late], at(4), at(7)) == [first, second, third]


def test_before_it_was_wanted_nothing_is_known() -> None:
    lately = Lately()
    lately.ended(cause(1), at(2))
    assert lately.in_flight([], at(1), at(2)) is None
    lately.want(at(10))
    assert lately.in_flight([], at(9), at(20)) is None
    assert lately.in_flight([], at(10), at(20)) == []


def test_wanting_it_again_changes_nothing(lately: Lately) -> None:
    one = cause(1)
    lately.ended(one, at(2))
    lately.want(at(10))
    assert lately.in_flight([], at(1), at(2)) == [one]


def test_it_is_forgotten_after_some_time(lately: Lately) -> None:
    old, new = cause(1), cause(2)
    lately.ended(old, at(5))
    lately.ended(new, at(5) + KEPT_NS)
    assert lately.in_flight([], at(4), at(5)) == [old, new]
    lately.ended(cause(9), at(5) + KEPT_NS + 1)
    assert lately.in_flight([], at(4), at(6)) is None
    found = lately.in_flight([], at(6), at(6))
    assert found is not None
    assert old not in found
    assert new in found


def test_of_very_many_only_the_last_are_remembered(lately: Lately) -> None:
    causes = [cause(1 + number / 1000) for number in range(MOST + 1)]
    for number, each in enumerate(causes):
        lately.ended(each, at(10 + number / 1000))
    assert lately.in_flight([], at(9), at(20)) is None
    assert lately.in_flight([], at(10.001), at(20)) == causes[1:]


# What the linker makes of it


class Sender(Service):
    """A service that sends some time after it has made what it sends."""

    def __init__(self, threshold: float = 0.99, limit: int = 20_000) -> None:
        super().__init__(threshold, limit=limit)
        self.linker.remember(self.now_ns)
        self.wait(100)

    def handled(self, milliseconds: float = 5) -> Cause:
        """A request that came, and is over."""
        one = self.request()
        self.wait(milliseconds)
        self.end(one)
        return one

    def send(
        self, ago: float, until: float | None = None, *, ids: tuple[bytes, ...] = ()
    ) -> Decision:
        """Send what was made so many milliseconds ago."""
        call = Call(now_ns=self.now_ns, destination="orders", operation="send", request_ids=ids)
        call.made_from_ns = self.now_ns - int(ago * MILLISECOND)
        call.made_to_ns = self.now_ns - int((ago if until is None else until) * MILLISECOND)
        return self.linker.link(call)


@pytest.fixture
def sender() -> Sender:
    return Sender()


def test_the_one_that_was_in_flight_then(sender: Sender) -> None:
    over = sender.handled()
    sender.wait(1)
    now = sender.request()
    sender.wait(1)
    decision = sender.send(ago=4)
    assert (decision.cause, decision.parent) == (over, over.context)
    assert (decision.propagation, decision.gap) == ("repaired", Gap.DROPPED)
    assert decision.evidence == "only_in_flight"
    assert sender.send(ago=0.5).cause is now


def test_without_such_times_it_is_the_one_in_flight_now(sender: Sender) -> None:
    sender.handled()
    now = sender.request()
    assert sender.call().cause is now


def test_of_two_it_is_neither(sender: Sender) -> None:
    both = [sender.handled(), sender.handled()]
    sender.wait(1)
    sender.request()
    decision = sender.send(ago=10, until=2)
    assert (decision.propagation, decision.cause, decision.parent) == ("ambiguous", None, None)
    assert {each.cause for each in decision.candidates} == set(both)
    assert [each.confidence for each in decision.candidates] == [0.5, 0.5]


def test_of_many_the_newest_are_named(sender: Sender) -> None:
    causes = [sender.handled() for _ in range(12)]
    decision = sender.send(ago=60, until=1)
    assert [each.cause for each in decision.candidates] == causes[:-9:-1]


def test_if_there_was_none_it_starts_a_trace(sender: Sender) -> None:
    sender.handled()
    sender.wait(10)
    sender.request()
    sender.wait(1)
    decision = sender.send(ago=5)
    assert (decision.propagation, decision.parent, decision.gap) == ("root", None, None)


def test_if_it_is_not_known_it_is_not_guessed(sender: Sender) -> None:
    sender.request()
    sender.wait(2)
    decision = sender.send(ago=500)
    assert (decision.propagation, decision.cause) == ("unlinked", None)
    assert decision.gap is Gap.DROPPED


def test_nobody_is_blamed_for_what_was_made_before_the_start(sender: Sender) -> None:
    decision = sender.send(ago=500)
    assert (decision.propagation, decision.cause, decision.gap) == ("root", None, None)


def test_but_a_request_that_is_named_is_it_all_the_same(sender: Sender) -> None:
    named = sender.request(ids=[b"c0ffee-42"])
    sender.wait(2)
    assert sender.send(ago=500, ids=(b"c0ffee-42",)).cause is named
    sender.handled()
    assert sender.send(ago=3, ids=(b"c0ffee-42",)).cause is named


def test_nobody_sends_what_was_made_before_it_came(sender: Sender) -> None:
    """What is named must have been in flight; otherwise the one that was counts."""
    over = sender.handled()
    sender.request(ids=[b"c0ffee-42"])
    sender.wait(1)
    assert sender.send(ago=3, ids=(b"c0ffee-42",)).cause is over


def test_one_that_is_abandoned_was_in_flight(sender: Sender) -> None:
    one = sender.request()
    sender.wait(5)
    sender.abandon(one)
    sender.wait(1)
    sender.request()
    sender.wait(1)
    decision = sender.send(ago=4)
    assert decision.cause is None  # since it may go on, it is not known for sure
    assert [each.cause for each in decision.candidates] == [one]


def test_requests_that_are_not_registered_leave_it_open() -> None:
    sender = Sender(limit=1)
    over = sender.handled()
    sender.wait(1)
    sender.request()
    sender.request()
    decision = sender.send(ago=3)
    assert decision.cause is None
    assert [each.cause for each in decision.candidates] == [over]


def test_nor_is_it_sure_enough_for_everybody() -> None:
    sender = Sender(threshold=0.999)
    over = sender.handled()
    decision = sender.send(ago=3)
    assert decision.cause is None
    assert [each.cause for each in decision.candidates] == [over]


def test_after_a_while_it_is_not_known_any_more(sender: Sender) -> None:
    sender.handled()
    sender.wait(3 * SECOND / MILLISECOND)
    sender.handled()
    assert sender.send(ago=3007).propagation == "unlinked"
