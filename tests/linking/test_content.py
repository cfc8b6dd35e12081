"""Evidence from content: whose the tokens are, and how sure that makes the linker."""

from __future__ import annotations

import gc

import pytest

from meshproxy.linking.content import (
    COMMON_COUNT,
    COMMON_SHARE,
    MOST_NARROWED,
    QUIET_NS,
    WARM_UP,
    Content,
)
from meshproxy.linking.inflight import Cause, InFlight
from meshproxy.trace.context import SpanContext
from tests.linking.contents import KEY, NOW_NS, SURE, UUID, Service, read, uuid

# Whose they are


def test_a_fresh_token_of_one_request_points_at_it() -> None:
    service = Service()
    requests = [service.request(b"/orders/" + uuid(number)) for number in range(5)]
    for number, request in enumerate(requests):
        assert service.sure(b'{"order": "' + uuid(number) + b'"}') is request


def test_tokens_that_nobody_has_say_nothing() -> None:
    service = Service()
    service.request(uuid(1))
    assert service.judge(uuid(2)) is None
    assert service.judge(b"") is None


def test_a_token_of_two_requests_narrows_the_choice_to_them() -> None:
    service = Service()
    both = {service.request(UUID), service.request(UUID)}
    service.request(uuid(1))
    assert set(service.unsure(UUID)) == both


def test_a_token_of_all_requests_says_nothing() -> None:
    service = Service()
    service.request(UUID)
    service.request(UUID)
    assert service.judge(UUID) is None


def test_a_token_of_very_many_requests_says_nothing() -> None:
    service = Service()
    for number in range(2 * MOST_NARROWED):
        service.request(UUID if number <= MOST_NARROWED else b"")
    assert service.judge(UUID) is None


def test_two_tokens_narrow_to_the_request_that_has_both() -> None:
    service = Service()
    service.request(uuid(1))
    request = service.request(uuid(1) + b" " + uuid(2))
    service.request(uuid(2))
    assert service.unsure(uuid(1) + b" " + uuid(2)) == [request]


def test_a_token_of_a_request_that_is_over_is_not_fresh() -> None:
    service = Service()
    service.end(service.request(UUID))
    again = service.request(UUID)
    assert service.unsure(UUID) == [again]


def test_a_token_of_a_user_is_never_fresh() -> None:
    service = Service()
    request = service.request(user=b"session=" + UUID)
    service.request(uuid(1))
    assert service.unsure(UUID) == [request]


def test_a_users_token_stays_one_when_it_stands_elsewhere_too() -> None:
    service = Service()
    request = service.request(b"?session=" + UUID, user=b"session=" + UUID)
    assert service.unsure(UUID) == [request]


def test_a_token_that_most_requests_carry_says_nothing() -> None:
    service = Service()
    for _ in range(COMMON_COUNT + WARM_UP // COMMON_SHARE):
        service.end(service.request(UUID))
    service.request(UUID)
    service.request()
    assert service.judge(UUID) is None


def test_a_token_in_an_answer_is_fresh_for_the_request_that_got_it() -> None:
    service = Service()
    service.request(uuid(1))
    request = service.request(uuid(2))
    service.answer(request, b'{"reservation": "' + UUID + b'"}')
    assert service.sure(UUID) is request


def test_a_token_in_the_answers_of_two_requests_narrows() -> None:
    service = Service()
    both = {service.request(), service.request()}
    service.request()
    for request in both:
        service.answer(request, UUID)
    assert set(service.unsure(UUID)) == both


@pytest.mark.parametrize("unknown_first", [True, False])
def test_a_token_in_an_answer_of_an_unknown_request_is_certain_for_nobody(
    unknown_first: bool,
) -> None:
    service = Service()
    request = service.request()
    if unknown_first:
        service.answer_perhaps([], UUID)
    service.answer(request, UUID)
    if not unknown_first:
        service.answer_perhaps([], UUID)
    assert service.unsure(UUID) == [request]


def test_a_token_in_an_answer_that_is_perhaps_one_of_several_narrows_to_these() -> None:
    service = Service()
    candidates = [service.request() for _ in range(3)]
    service.request()
    service.answer_perhaps(candidates, UUID)
    assert set(service.unsure(UUID)) == set(candidates)
    service.end(candidates[0])
    service.end(candidates[1])
    assert service.unsure(UUID) == [candidates[2]]


def test_a_token_that_the_service_made_up_in_a_call_is_not_certain() -> None:
    service = Service()
    request = service.request()
    service.content.hold(request, read(UUID), made=True)
    service.request()
    assert service.unsure(UUID) == [request]


def test_a_token_that_came_in_stays_fresh_when_a_call_carries_it() -> None:
    service = Service()
    request = service.request(UUID)
    service.content.hold(request, read(UUID), made=True)
    assert service.sure(UUID) is request


def test_fresh_tokens_of_two_requests_contradict() -> None:
    service = Service()
    both = {service.request(uuid(1)), service.request(uuid(2))}
    service.request(uuid(3))
    judgement = service.judge(uuid(1) + b" " + uuid(2))
    assert judgement is not None
    assert judgement.contradicts
    assert set(judgement.causes) == both
    assert judgement.confidence < SURE


def test_tokens_of_two_requests_that_are_not_fresh_narrow() -> None:
    service = Service()
    both = {service.request(user=uuid(1)), service.request(user=uuid(2))}
    assert set(service.unsure(uuid(1) + b" " + uuid(2))) == both


@pytest.mark.parametrize("others", [1, 2])
def test_a_fresh_token_is_not_certain_when_another_token_speaks_against_it(others: int) -> None:
    service = Service()
    request = service.request(uuid(1))
    for _ in range(others):
        service.request(user=uuid(2))
    assert service.unsure(uuid(1) + b" " + uuid(2)) == [request]


@pytest.mark.parametrize(
    ("text", "sure"),
    [
        (UUID, True),
        (b"1NvJ2x2eZvKYlo2C7d8s9f0g", True),
        (b"12345678", True),
        (b"ORD-12345", True),
        (b"123456", False),
        (b"order-17", False),
    ],
)
def test_what_may_well_be_the_same_by_chance_is_not_certain_at_first(
    text: bytes, sure: bool
) -> None:
    service = Service()
    request = service.request(text)
    judgement = service.judge(text)
    assert judgement is not None
    assert judgement.causes == [request]
    assert (judgement.confidence >= SURE) is sure


# When not enough is known of the others


def test_short_tokens_are_not_certain_before_enough_requests_were_seen() -> None:
    service = Service(warm=False)
    request = service.request(b"48151623")
    assert service.unsure(b"48151623") == [request]


def test_what_nobody_else_can_have_made_up_is_certain_from_the_start() -> None:
    service = Service(warm=False)
    request = service.request(UUID)
    service.request(uuid(1))
    assert service.sure(UUID) is request


def test_nothing_is_certain_while_a_request_was_not_looked_at() -> None:
    service = Service()
    request = service.request(UUID)
    unread = service.unread()
    assert service.unsure(UUID) == [request]
    service.end(unread)
    assert service.sure(UUID) is request


def test_nothing_is_certain_while_a_request_is_not_registered() -> None:
    service = Service()
    service.inflight = InFlight(limit=1)
    request = service.request(UUID)
    service.inflight.add(Cause(SpanContext(b"\1" * 16, b"\1" * 8), "GET /", 1))
    assert service.unsure(UUID) == [request]


# Waking and sleeping


def test_content_is_wanted_from_the_first_need_until_a_quiet_time_after_the_last() -> None:
    content = Content(KEY, 1000)
    assert not content.wants(NOW_NS)
    assert content.need(NOW_NS)
    assert not content.need(NOW_NS + QUIET_NS - 1)
    assert content.wants(NOW_NS + 2 * QUIET_NS - 2)
    assert not content.wants(NOW_NS + 2 * QUIET_NS - 1)


def test_nothing_is_known_after_a_sleep() -> None:
    service = Service()
    service.request(UUID)
    assert service.content.need(NOW_NS + QUIET_NS)
    assert service.judge(UUID) is None
    assert len(service.content) == 0
    request = service.request(UUID)
    assert service.unsure(UUID) == [request]


# How sure it is


def trusted(service: Service) -> Cause:
    """A request in flight whose user's token is trusted, since it proved right so often."""
    for _ in range(1000):
        request = service.request(user=UUID)
        judgement = service.judge(UUID)
        assert judgement is not None
        service.content.observe(judgement, request)
        service.end(request)
        for _ in range(2 * COMMON_SHARE):
            service.end(service.request())
    return service.request(user=UUID)


def test_what_proved_right_is_relied_on() -> None:
    service = Service()
    request = trusted(service)
    assert service.sure(UUID) is request


def test_what_proved_wrong_is_not_relied_on_any_more() -> None:
    service = Service()
    request = service.request(UUID)
    other = service.request()
    for truth in (other, None):
        judgement = service.judge(UUID)
        assert judgement is not None
        assert judgement.causes == [request]
        service.content.observe(judgement, truth)
    assert service.judge(UUID) is not None
    assert service.sure(UUID) is None


def test_what_proved_wrong_long_ago_is_forgiven() -> None:
    service = Service()
    request = service.request(UUID)
    judgement = service.judge(UUID)
    assert judgement is not None
    for right in [False] * 20 + [True] * 10_000:
        service.content.observe(judgement, request if right else None)
    assert service.sure(UUID) is request


def test_each_kind_of_token_is_judged_by_its_own_record() -> None:
    service = Service()
    request = service.request(UUID + b" 123456789012")
    judgement = service.judge(UUID)
    assert judgement is not None
    for _ in range(50):
        service.content.observe(judgement, None)
    assert service.sure(UUID) is None
    assert service.sure(b"123456789012") is request


def test_tokens_that_prove_nothing_end_below_any_threshold() -> None:
    service = Service()
    service.request(UUID)
    before = service.judge(UUID)
    assert before is not None
    for _ in range(600):
        service.content.observe(before, None)
    after = service.judge(UUID)
    assert after is not None
    assert after.confidence < 0.4


def test_a_repeated_token_is_not_certain_while_a_request_is_known_in_part() -> None:
    service = Service()
    request = trusted(service)
    service.request(whole=False)
    assert service.unsure(UUID) == [request]


def test_a_repeated_token_is_not_certain_while_an_abandoned_request_may_go_on() -> None:
    service = Service()
    request = trusted(service)
    abandoned = service.request()
    service.inflight.abandon(abandoned, NOW_NS)
    service.content.release(abandoned)
    assert service.unsure(UUID) == [request]


def test_a_fresh_token_is_certain_although_others_are_abandoned_or_known_in_part() -> None:
    service = Service()
    abandoned = service.request()
    service.inflight.abandon(abandoned, NOW_NS)
    service.content.release(abandoned)
    service.request(whole=False)
    request = service.request(UUID)
    assert service.sure(UUID) is request


# Bounds


LIMIT = 400


def test_past_the_limit_the_oldest_request_is_given_up() -> None:
    service = Service(LIMIT)
    oldest = service.request(uuid(0))
    requests = [service.request(uuid(number)) for number in range(1, LIMIT)]
    assert service.content.given_up > 0
    assert service.judge(uuid(0)) is None
    assert service.unsure(uuid(LIMIT - 1)) == [requests[-1]]
    service.answer(oldest, UUID)
    assert service.judge(UUID) is None
    for request in (oldest, *requests):
        service.end(request)
    request = service.request(UUID[::-1])
    assert service.sure(UUID[::-1]) is request


def test_a_request_that_never_ends_does_not_push_the_others_out() -> None:
    service = Service(LIMIT)
    other = service.request(uuid(0))
    endless = service.request()
    for number in range(LIMIT):
        service.answer(endless, uuid(number + 1))
    assert service.content.refused > 0
    assert service.content.given_up == 0
    judgement = service.judge(uuid(0))
    assert judgement is not None
    assert judgement.causes == [other]


def test_however_many_tokens_come_they_stay_below_the_limit() -> None:
    service = Service(LIMIT)
    held: list[Cause] = []
    for number in range(1_500):
        cause = service.unread()
        held.append(cause)
        service.content.begin(cause, range(number * 3_200, (number + 1) * 3_200, 16))
        if number % 3 == 0:
            service.end(held.pop(0))
        assert len(service.content) <= LIMIT


def test_of_the_content_nothing_but_numbers_is_kept() -> None:
    service = Service()
    text = b"/orders/ORD-12345?tok_1NvJ2x2eZvKYlo2C7d8s9f0g=" + UUID
    request = service.request(text, user=b"session=9f86d081884c7d659a2feaa0c55ad015")
    service.answer(request, UUID)
    service.judge(text)
    seen: set[int] = set()
    waiting: list[object] = [service.content]
    while waiting:
        each = waiting.pop()
        if id(each) in seen or isinstance(each, type | Cause) or callable(each):
            continue
        seen.add(id(each))
        assert not isinstance(each, bytes | bytearray) or each == KEY
        assert not isinstance(each, str) or not any(character.isdigit() for character in each)
        waiting += gc.get_referents(each)
