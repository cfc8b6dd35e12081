"""What holds of the linker whatever happens: random histories of requests, messages and calls."""

from __future__ import annotations

import random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from meshproxy.linking.call import Decision
from meshproxy.linking.content import WEAK_AT_MOST, Content
from meshproxy.linking.gaps import Gap
from meshproxy.linking.inflight import ABANDONED_NS, CAUSE_BYTES, Cause
from meshproxy.linking.judge import MAX_CANDIDATES
from meshproxy.linking.tracks import MOST_ALTERNATIVES
from meshproxy.trace.context import SpanContext
from tests.linking.bench import SECOND, Service, context, uuid
from tests.linking.sizes import size_of

LIMIT = 5
TRACES = st.integers(1, 4)
ROUTES = st.sampled_from(["GET /orders", "GET /carts", "receive orders"])
DESTINATIONS = st.sampled_from(["pricing", "stock", "broker"])
IDS = st.lists(st.sampled_from([b"a", b"b", b"c"]), max_size=2, unique=True)
WORDS = st.sets(st.integers(1, 4)).map(lambda found: b" ".join(map(uuid, sorted(found))))
PROPAGATIONS = {"ok", "repaired", "root", "ambiguous", "unlinked"}
EVIDENCE = {
    "traceparent": 1.0,
    "request_id": 0.999,
    "content": 0.9995,
    "only_in_flight": 0.998,
    "call_graph": 0.998,
    "timing": 0.998,
}
"""Nothing is surer than this."""


class Histories(RuleBasedStateMachine):
    """Contexts, ids and words are few, so that they meet, and contradict each other."""

    requests = Bundle("requests")
    calls = Bundle("calls")
    threshold = 0.99

    def __init__(self) -> None:
        super().__init__()
        self.service = Service(self.threshold, limit=LIMIT, memory=2**20)
        self.working: list[Cause] = []
        self.unknown: list[Cause] = []
        self.abandoned: list[tuple[int, Cause]] = []

    # What happens

    @rule(milliseconds=st.sampled_from([0, 0.3, 1, 5, 100, 4_000, 70_000]))
    def wait(self, milliseconds: float) -> None:
        self.service.wait(milliseconds)

    @rule(target=requests, route=ROUTES, trace=TRACES, ids=IDS, words=WORDS, state=st.booleans())
    def begin(self, route: str, trace: int, ids: list[bytes], words: bytes, state: bool) -> Cause:
        known = len(self.working) < LIMIT
        cause = self.service.request(
            route, trace=trace, ids=ids, words=words, tracestate="a=1" if state else ""
        )
        (self.working if known else self.unknown).append(cause)
        return cause

    @rule(cause=consumes(requests))
    def end(self, cause: Cause) -> None:
        self.service.end(cause)
        (self.working if cause in self.working else self.unknown).remove(cause)

    @rule(cause=consumes(requests))
    def abandon(self, cause: Cause) -> None:
        self.service.abandon(cause)
        if cause in self.working:
            self.working.remove(cause)
            self.abandoned.append((self.service.now_ns + ABANDONED_NS, cause))
            if len(self.abandoned) > LIMIT:  # the oldest are given up
                oldest = self.abandoned[0][0]
                self.abandoned = [each for each in self.abandoned if each[0] > oldest]
        else:
            self.unknown.remove(cause)

    @rule(
        target=calls,
        destination=DESTINATIONS,
        trace=st.none() | st.integers(1, 6),
        span=st.integers(1, 60),
        ids=IDS,
        words=WORDS,
        gap=st.none() | st.sampled_from([Gap.MALFORMED, Gap.DUPLICATED, Gap.FORMAT]),
    )
    def call(
        self,
        destination: str,
        trace: int | None,
        span: int,
        ids: list[bytes],
        words: bytes,
        gap: Gap | None,
    ) -> Decision:
        carried = None if trace is None else context(trace, span)
        decision = self.service.call(
            destination, carrying=carried, ids=ids, words=words, gap=None if carried else gap
        )
        self.is_sound(decision, carried)
        if gap is not None and carried is None:
            assert decision.gap is gap
        return decision

    @rule(decision=calls, words=WORDS)
    def answer(self, decision: Decision, words: bytes) -> None:
        """Some are answered twice, or when the request is long over."""
        self.service.answer(decision, words)

    # What holds

    def possible(self) -> list[Cause]:
        """All that the service may be working on."""
        now = self.service.now_ns
        return [*self.working, *(cause for until, cause in self.abandoned if until > now)]

    def nameable(self) -> list[Cause]:
        """And what its own evidence may still name, as long as nothing has come since."""
        return [*self.working, *(cause for _, cause in self.abandoned)]

    def is_sound(self, decision: Decision, carried: SpanContext | None) -> None:
        assert decision.propagation in PROPAGATIONS
        assert decision.gap is None or isinstance(decision.gap, Gap)
        if decision.cause is None:
            assert decision.parent is None or decision.parent is carried
            assert decision.confidence in (0.0, 1.0)
            self.are_sound_candidates(decision)
        else:
            self.is_sound_link(decision, carried)
        if not self.working and not self.unknown and not decision.contradiction:
            assert not decision.candidates
        if decision.contradiction:
            assert (decision.cause, decision.parent) == (None, None)
            assert len(decision.candidates) > 1

    def is_sound_link(self, decision: Decision, carried: SpanContext | None) -> None:
        cause = decision.cause
        assert cause is not None
        assert not decision.candidates
        assert self.threshold <= decision.confidence <= EVIDENCE[decision.evidence]
        if decision.evidence == "traceparent":
            assert decision.parent is carried
            assert carried is not None
            assert cause.context.trace_id == carried.trace_id
        else:
            assert decision.parent is cause.context
            assert decision.propagation == "repaired"
        if decision.evidence in ("traceparent", "request_id"):
            assert cause in self.nameable()
        else:
            assert cause in self.possible()
            assert not self.unknown or (
                decision.evidence == "content" and decision.confidence <= WEAK_AT_MOST
            )
        if decision.evidence == "only_in_flight":
            assert self.possible() == [cause]

    def are_sound_candidates(self, decision: Decision) -> None:
        causes = [each.cause for each in decision.candidates]
        confidences = [each.confidence for each in decision.candidates]
        assert len(causes) == len({(each.cause, each.evidence) for each in decision.candidates})
        assert len(causes) <= MAX_CANDIDATES
        assert set(causes) <= set(self.nameable())
        assert confidences == sorted(confidences, reverse=True)
        assert all(0.0 <= each <= 1.0 for each in confidences)
        assert sum(confidences) <= 1.0 + 1e-6
        if causes and not decision.parent:
            assert decision.propagation == "ambiguous"

    @invariant()
    def knows_what_is_in_flight(self) -> None:
        assert list(self.service.inflight) == self.working
        assert self.service.inflight.unregistered == len(self.unknown)

    @invariant()
    def is_bounded(self) -> None:
        for cause in self.nameable():
            if cause.track is not None:
                assert 0 < len(cause.track.alternatives) <= MOST_ALTERNATIVES
                assert 0.0 <= cause.track.doubt <= 1.0
                assert sum(each.weight for each in cause.track.alternatives) <= 1.0 + 1e-6

    def teardown(self) -> None:
        """When all is over nothing is left of it."""
        service = self.service
        service.end(*self.working, *self.unknown)
        assert service.inflight.idle
        service.wait(ABANDONED_NS / SECOND * 1000)
        last = service.request(trace=9)
        service.end(last)
        assert service.inflight.complete
        assert all(each.track is None for each in (*self.nameable(), last))
        assert is_empty(service.linker.content)
        assert service.call().cause is None


def is_empty(content: Content) -> bool:
    """Whether no request holds anything any more."""
    return content._size == 0


class Daring(Histories):
    """Links whatever is more likely than not."""

    threshold = 0.5


class Timid(Histories):
    """Only what is certain."""

    threshold = 0.9995


SETTINGS = settings(max_examples=40, stateful_step_count=30, deadline=None)
TestHistories = Histories.TestCase
TestHistories.settings = SETTINGS
TestDaring = Daring.TestCase
TestDaring.settings = SETTINGS
TestTimid = Timid.TestCase
TestTimid.settings = SETTINGS


# Bounds


@pytest.mark.parametrize(
    ("routes", "destinations", "words"), [(1, 600, 0), (30, 300, 0), (3000, 1, 0), (3, 3, 20)]
)
def test_what_is_learnt_takes_no_more_memory_than_it_may(
    routes: int, destinations: int, words: int
) -> None:
    """Destinations are many where a service calls each instance of another by its address."""
    rng = random.Random(1)
    memory = 2**20
    service = Service(memory=memory)
    service.linker.content.need(service.now_ns)
    for number in range(500):
        text = b" ".join(uuid(rng.getrandbits(30)) for _ in range(words))
        cause = service.request(f"GET /{number % routes}", words=text)
        for _ in range(2):
            service.wait(rng.lognormvariate(0, 1))
            service.answer(service.call(f"10.0.0.{rng.randrange(destinations)}"), text)
        service.wait(rng.lognormvariate(0, 1))
        service.end(cause)
    assert size_of(service.knowledge) < 2 * memory


@pytest.mark.parametrize("followed", [False, True])
def test_requests_in_flight_take_no_more_memory_than_they_are_reckoned_with(
    followed: bool,
) -> None:
    count = 2000
    service = Service(limit=count)
    if followed:
        service.call()
    for number in range(2 * count):
        service.request(ids=[b"%032x" % number])
    assert len(service.inflight) == count
    assert size_of(service.inflight) < 2 * count * CAUSE_BYTES
