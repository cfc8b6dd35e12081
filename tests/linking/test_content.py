"""Evidence from content: which tokens count, whose they are, and how sure that makes the linker."""

from __future__ import annotations

import gc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from meshproxy.linking.content import (
    COMMON_COUNT,
    COMMON_SHARE,
    MOST_NARROWED,
    MOST_TOKENS,
    QUIET_NS,
    WARM_UP,
    WEAK_AT_MOST,
    Content,
    Judgement,
    Tokens,
)
from meshproxy.linking.inflight import Cause, InFlight
from meshproxy.trace.context import SpanContext

KEY = b"0123456789abcdef"
NOW_NS = 1_760_000_000_000_000_000
SURE = 0.99
UUID = b"7f3d9a52-1c4e-4b8a-9f00-2a6c1d3e5b77"


def read(text: bytes, *, user: bool = False, cut: bool = False) -> list[int]:
    return Tokens(KEY).read(text, NOW_NS, user=user, cut=cut)


def uuid(number: int) -> bytes:
    return b"%08x-1c4e-4b8a-9f00-2a6c1d3e5b77" % number


class Service:
    """A service with its requests in flight, awake and warm."""

    def __init__(self, limit: int = 100_000, warm: bool = True) -> None:
        self.inflight = InFlight()
        self.content = Content(KEY, limit)
        self.content.need(NOW_NS)
        self._count = 0
        if warm:
            for number in range(WARM_UP):
                self.end(self.request(uuid(0xFFFF0000 + number)))

    def request(self, text: bytes = b"", *, user: bytes = b"", whole: bool = True) -> Cause:
        cause = self.unread()
        tokens = read(user, user=True) + read(text)
        self.content.begin(cause, tokens, whole=whole)
        return cause

    def unread(self) -> Cause:
        """A request that nobody told the content of."""
        self._count += 1
        span = SpanContext(self._count.to_bytes(16, "big"), self._count.to_bytes(8, "big"))
        cause = Cause(span, "GET /", self._count)
        self.inflight.add(cause)
        return cause

    def answer(self, cause: Cause, text: bytes) -> None:
        self.content.hold(cause, read(text))

    def answer_perhaps(self, candidates: list[Cause], text: bytes) -> None:
        self.content.hold_perhaps(candidates, read(text))

    def end(self, cause: Cause) -> None:
        self.inflight.remove(cause)
        self.content.release(cause)

    def judge(self, text: bytes) -> Judgement | None:
        return self.content.judge(read(text), self.inflight)

    def sure(self, text: bytes) -> Cause | None:
        """The one cause that a call with this text is surely from."""
        judgement = self.judge(text)
        if judgement is None or judgement.contradicts or judgement.confidence < SURE:
            return None
        (cause,) = judgement.causes
        return cause

    def unsure(self, text: bytes) -> list[Cause]:
        """The causes that are named with less confidence."""
        judgement = self.judge(text)
        assert judgement is not None
        assert 0.5 < judgement.confidence <= WEAK_AT_MOST
        return list(judgement.causes)


# What a token is


@pytest.mark.parametrize(
    "text",
    [
        UUID,
        b"4bf92f3577b34da6a3ce929d0e0e4736",
        b"tok_1NvJ2x2eZvKYlo2C7d8s9f0g",
        b"123456",
        b"9876543210123",
        b"ORD-12345",
        b"order-17",
    ],
)
def test_what_looks_like_an_id_is_a_token(text: bytes) -> None:
    assert len(read(b"/orders/" + text + b"?expand=items")) == 1


@pytest.mark.parametrize(
    "text",
    [
        b"content-type",
        b"newsletter",
        b"/v1/orders",
        b"1.2.3",
        b"12345",
        b"quantity=2&price=19.99",
        b"us-east-1",
        b"10.0.0.12:8080",
        b"2024-05-01",
        b"2024-05-01T12:34:56Z",
        b"20240501T123456",
        b"1760000123",
        b"1759999999123",
    ],
)
def test_words_small_numbers_versions_and_times_are_none(text: bytes) -> None:
    assert read(text) == []


def test_a_number_that_is_no_time_near_now_is_a_token() -> None:
    assert len(read(b"1460000123 1459999999123")) == 2


def test_an_id_is_the_same_in_any_case_and_around_any_punctuation() -> None:
    once = read(UUID)
    assert read(UUID.upper()) == read(UUID.replace(b"-", b"")) == once
    assert read(b'{"id":"' + UUID + b'"}') == read(b"/orders/" + UUID + b"/items") == once


def test_another_key_gives_other_tokens() -> None:
    assert read(UUID) != Tokens(b"another key here").read(UUID, NOW_NS)


def test_the_half_of_a_word_at_the_end_is_no_token() -> None:
    assert read(UUID + b" " + UUID[:20], cut=True) == read(UUID)


def test_a_text_full_of_tokens_gives_so_many_and_no_more() -> None:
    tokens = read(b",".join(uuid(number) for number in range(10_000)))
    assert tokens == [token for number in range(MOST_TOKENS) for token in read(uuid(number))]


@given(st.binary(max_size=3000))
def test_any_bytes_can_be_read(data: bytes) -> None:
    tokens = read(data)
    assert len(set(tokens)) == len(tokens) <= MOST_TOKENS
    assert all(0 <= token < 1 << 60 for token in tokens)


@pytest.mark.parametrize("text", [b"7f" * 500_000, b"7-" * 500_000, b"\xff7" * 500_000])
def test_endless_words_can_be_read(text: bytes) -> None:
    assert len(read(text)) <= 1


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


WORDS = st.lists(st.sampled_from([uuid(number) for number in range(12)]), max_size=6)


class Histories(RuleBasedStateMachine):
    """Requests come, learn and go in any order, past all limits; calls are judged in between."""

    requests = Bundle("requests")

    def __init__(self) -> None:
        super().__init__()
        self.service = Service(48, warm=False)
        self.may_hold: dict[Cause, set[int]] = {}

    @rule(target=requests, words=WORDS, users=WORDS, whole=st.booleans())
    def begin(self, words: list[bytes], users: list[bytes], whole: bool) -> Cause:
        text, user = b" ".join(words), b" ".join(users)
        cause = self.service.request(text, user=user, whole=whole)
        self.may_hold[cause] = {token >> 1 for token in read(text) + read(user)}
        return cause

    @rule(cause=requests, words=WORDS, made=st.booleans())
    def learn(self, cause: Cause, words: list[bytes], made: bool) -> None:
        tokens = read(b" ".join(words))
        self.service.content.hold(cause, tokens, made=made)
        self.may_hold[cause] |= {token >> 1 for token in tokens}

    @rule(candidates=st.lists(requests, max_size=4), words=WORDS)
    def learn_perhaps(self, candidates: list[Cause], words: list[bytes]) -> None:
        self.service.answer_perhaps(candidates, b" ".join(words))
        for cause in candidates:
            self.may_hold[cause] |= {token >> 1 for token in read(b" ".join(words))}

    @rule(cause=consumes(requests))
    def end(self, cause: Cause) -> None:
        self.service.end(cause)
        del self.may_hold[cause]
        self.service.content.hold(cause, read(UUID))
        self.service.content.release(cause)

    @rule(words=WORDS, right=st.booleans(), data=st.data())
    def judge(self, words: list[bytes], right: bool, data: st.DataObject) -> None:
        tokens = read(b" ".join(words))
        judgement = self.service.content.judge(tokens, self.service.inflight)
        other = self.service.content.judge(
            data.draw(st.permutations(tokens)), self.service.inflight
        )
        if judgement is None or other is None:
            assert judgement is other
            return
        assert judgement.causes == other.causes
        assert judgement.grade == other.grade
        assert 0 < judgement.confidence < 1
        for cause in judgement.causes:
            assert self.may_hold[cause] & {token >> 1 for token in tokens}
        self.service.content.observe(judgement, judgement.causes[0] if right else None)

    @invariant()
    def is_bounded(self) -> None:
        assert len(self.service.content) <= 48

    def teardown(self) -> None:
        for cause in list(self.may_hold):
            self.service.end(cause)
        for number in range(48):
            self.service.end(self.service.request(uuid(1000 + number)))
        assert all(self.service.judge(uuid(number)) is None for number in range(12))


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=60, stateful_step_count=40)


@given(st.permutations(range(6)))
def test_the_order_in_which_requests_come_makes_no_difference(order: list[int]) -> None:
    service = Service(warm=False)
    texts = [uuid(1), uuid(2) + b" " + uuid(5), uuid(2), uuid(3), b"", uuid(4) + b" " + uuid(1)]
    requests = {number: service.request(texts[number]) for number in order}
    assert set(service.unsure(uuid(1))) == {requests[0], requests[5]}
    assert service.sure(uuid(3)) is requests[3]
    assert service.sure(uuid(4)) is requests[5]


@given(st.lists(WORDS, min_size=2, max_size=8), st.data())
def test_who_repeats_only_what_it_holds_is_never_surely_somebody_else(
    texts: list[list[bytes]], data: st.DataObject
) -> None:
    service = Service()
    requests = [service.request(b" ".join(words)) for words in texts]
    for number in sorted(data.draw(st.sets(st.integers(1, len(texts) - 1)))):
        service.end(requests[number])
    call = b" ".join(texts[0][: data.draw(st.integers(0, 6))])
    assert service.sure(call) in (None, requests[0])
    judgement = service.judge(call)
    assert judgement is None or requests[0] in judgement.causes
