"""The requests in flight, under any history."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from meshproxy.linking.inflight import (
    ABANDONED_NS,
    REMEMBERED_ATTEMPTS,
    REMEMBERED_TRACES,
    Cause,
    InFlight,
)
from meshproxy.trace.context import SpanContext

LIMIT = 4
TRACES = st.integers(1, 4)
IDS = st.sampled_from([b"", b"a", b"b", b"c"])


def trace_id(number: int) -> bytes:
    return number.to_bytes(16, "big")


class Histories(RuleBasedStateMachine):
    """Requests come and go in any order, past the limit too."""

    requests = Bundle("requests")

    def __init__(self) -> None:
        super().__init__()
        self.inflight = InFlight(LIMIT)
        self.known: list[Cause] = []
        self.unknown: list[Cause] = []
        self.abandoned: list[tuple[int, Cause]] = []
        self.ended: set[bytes] = set()
        self.last_given: dict[bytes, bytes] = {}
        self.count = 0
        self.now = 1

    @rule(target=requests, trace=TRACES, request_id=IDS, others=st.sets(IDS.filter(bool)))
    def begin(self, trace: int, request_id: bytes, others: set[bytes]) -> Cause:
        self.count += 1
        span_id = self.count.to_bytes(8, "big")
        cause = Cause(SpanContext(trace_id(trace), span_id), "GET /", self.now, request_id)
        cause.correlation_ids = tuple(others - {request_id})
        registered = self.inflight.add(cause)
        self.expire(self.now)
        assert registered is (len(self.known) < LIMIT)
        (self.known if registered else self.unknown).append(cause)
        return cause

    @rule(cause=consumes(requests))
    def end(self, cause: Cause) -> None:
        self.inflight.remove(cause)
        if cause in self.known:
            self.known.remove(cause)
            self.over(cause)
        else:
            self.unknown.remove(cause)

    @rule(cause=consumes(requests))
    def abandon(self, cause: Cause) -> None:
        self.inflight.abandon(cause, self.now)
        if cause in self.unknown:
            self.unknown.remove(cause)
            return
        self.known.remove(cause)
        self.abandoned.append((self.now + ABANDONED_NS, cause))
        if len(self.abandoned) > LIMIT:
            self.expire(self.abandoned[0][0])

    def expire(self, now: int) -> None:
        over = [cause for until, cause in self.abandoned if until <= now]
        for cause in over:
            self.abandoned.pop(0)
            self.over(cause)

    def over(self, cause: Cause) -> None:
        trace = cause.context.trace_id
        self.ended.add(trace)
        if not any(each.context.trace_id == trace for each in self.nameable()):
            self.last_given[trace] = cause.context.span_id

    def late(self) -> list[Cause]:
        return [cause for _, cause in self.abandoned]

    def nameable(self) -> list[Cause]:
        return [*self.known, *self.late()]

    def of_trace(self, trace: int) -> set[Cause]:
        return {each for each in self.nameable() if each.context.trace_id == trace_id(trace)}

    @rule(seconds=st.integers(1, 8))
    def wait(self, seconds: int) -> None:
        self.now += seconds * 1_000_000_000

    @rule()
    def ask_for_candidates(self) -> None:
        """All that the service may be working on, but what was abandoned never alone."""
        found = self.inflight.candidates(self.now)
        if self.known:
            self.expire(self.now)
        assert found == ([*self.known, *self.late()] if self.known else [])

    @rule(trace=TRACES, span=st.integers(1, 40))
    def ask_whether_it_is_outlived(self, trace: int, span: int) -> None:
        """A child context of a request that is over; not the one that the request was given."""
        context = SpanContext(trace_id(trace), span.to_bytes(8, "big"))
        outlived = self.inflight.is_outlived(context)
        over = trace_id(trace) in self.ended and not self.of_trace(trace)
        assert not outlived or over
        if over:
            assert outlived is (context.span_id != self.last_given[trace_id(trace)])

    @invariant()
    def agrees_with_a_plain_list(self) -> None:
        inflight = self.inflight
        assert list(inflight) == self.known
        assert len(inflight) == len(self.known) <= LIMIT
        assert inflight.complete is (not self.unknown and not self.abandoned)
        assert inflight.idle is (not self.known and not self.unknown)
        for trace in range(1, 5):
            same = self.of_trace(trace)
            assert set(inflight.of_trace(trace_id(trace))) == same
            over = trace_id(trace) in self.ended and not same
            assert inflight.is_over(trace_id(trace)) is over
        for value in (b"a", b"b", b"c"):
            with_id = {e for e in self.nameable() if value in (e.request_id, *e.correlation_ids)}
            assert set(inflight.of_request_id(value)) == with_id
        assert list(inflight.newest(2)) == self.known[::-1][:2]

    def teardown(self) -> None:
        """When all is over nothing is left but the names of the traces."""
        for cause in [*self.known, *self.unknown]:
            self.inflight.remove(cause)
        assert self.inflight.idle
        self.now += ABANDONED_NS
        self.inflight.add(last := Cause(SpanContext(trace_id(9), bytes(7) + b"9"), "", self.now))
        self.inflight.remove(last)
        assert self.inflight.complete
        for trace in range(1, 5):
            assert self.inflight.of_trace(trace_id(trace)) == ()
        for value in (b"a", b"b", b"c"):
            assert self.inflight.of_request_id(value) == ()


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_traces_that_are_over_are_remembered_within_bounds() -> None:
    inflight = InFlight()
    for number in range(1, 2 * REMEMBERED_TRACES + 11):
        cause = Cause(SpanContext(trace_id(number), bytes(7) + b"1"), "GET /", 0)
        inflight.add(cause)
        inflight.remove(cause)
    assert not inflight.is_over(trace_id(1))
    assert inflight.is_over(trace_id(REMEMBERED_TRACES + 11))
    assert inflight.is_over(trace_id(2 * REMEMBERED_TRACES + 10))


def test_attempts_are_remembered_within_bounds() -> None:
    cause = Cause(SpanContext(trace_id(1), bytes(7) + b"1"), "GET /", 0)
    calls = [(b"GET", b"host", b"/%d" % number) for number in range(REMEMBERED_ATTEMPTS + 5)]
    for call in calls:
        cause.failed(call, 0)
    assert [cause.resend_count(call) for call in calls] == [1] * REMEMBERED_ATTEMPTS + [0] * 5
    cause.failed(calls[0], 1)
    assert cause.resend_count(calls[0]) == 2
    cause.succeeded(calls[0])
    assert cause.resend_count(calls[0]) == 0
    cause.succeeded((b"GET", b"host", b"/never-seen"))
