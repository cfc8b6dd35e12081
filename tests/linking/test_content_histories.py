"""Evidence from content: sound in whatever order requests come, learn and go."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from meshproxy.linking.inflight import Cause
from tests.linking.contents import SURE, UUID, Service, read, uuid

WORDS = st.lists(st.sampled_from([uuid(number) for number in range(12)]), max_size=6)
FEW_WORDS = st.lists(st.sampled_from([uuid(number) for number in range(12)]), max_size=2)


class Histories(RuleBasedStateMachine):
    """Requests come, learn and go in any order, past all limits; calls are judged in between."""

    requests = Bundle("requests")

    def __init__(self) -> None:
        super().__init__()
        self.limit = 0
        self.service = Service(warm=False)
        self.may_hold: dict[Cause, set[int]] = {}

    @initialize(limit=st.sampled_from([48, 200]))
    def limit_to(self, limit: int) -> None:
        self.limit = limit
        self.service = Service(limit, warm=False)

    @rule(target=requests, words=FEW_WORDS, users=FEW_WORDS, whole=st.booleans())
    def begin(self, words: list[bytes], users: list[bytes], whole: bool) -> Cause:
        text, user = b" ".join(words), b" ".join(users)
        cause = self.service.request(text, user=user, whole=whole)
        self.may_hold[cause] = {token >> 1 for token in read(text) + read(user)}
        return cause

    @rule(cause=requests, words=FEW_WORDS, made=st.booleans())
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

    @rule(words=WORDS, data=st.data())
    def judge(self, words: list[bytes], data: st.DataObject) -> None:
        tokens = read(b" ".join(words))
        inflight = self.service.inflight
        judgement = self.service.content.judge(tokens, inflight)
        other = self.service.content.judge(data.draw(st.permutations(tokens)), inflight)
        if judgement is None or other is None:
            assert judgement is other
            return
        assert judgement.causes == other.causes
        assert judgement.grade == other.grade
        called = {token >> 1 for token in tokens}
        for cause in judgement.causes:
            assert self.may_hold[cause] & called
        if judgement.confidence >= SURE:
            (cause,) = judgement.causes
            others = [held for other, held in self.may_hold.items() if other is not cause]
            assert (self.may_hold[cause] & called).difference(*others)

    @rule(words=FEW_WORDS, right=st.booleans())
    def learn_the_truth(self, words: list[bytes], right: bool) -> None:
        judgement = self.service.judge(b" ".join(words))
        if judgement is not None:
            self.service.content.observe(judgement, judgement.causes[0] if right else None)

    @invariant()
    def is_bounded(self) -> None:
        assert len(self.service.content) <= self.limit

    def teardown(self) -> None:
        for cause in list(self.may_hold):
            self.service.end(cause)
        for number in range(self.limit):
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
    assert service.sure(uuid(1) + b" " + uuid(4)) is requests[5]


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
