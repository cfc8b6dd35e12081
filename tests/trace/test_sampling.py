"""Head sampling: consistent probability, order of decisions, rules, rate limit."""

from __future__ import annotations

import random

import pytest

from meshproxy.trace import sampling, tracestate
from meshproxy.trace.context import SpanContext
from meshproxy.trace.glob import Glob
from meshproxy.trace.propagator import Extracted
from meshproxy.trace.sampling import Action, Decision, Rule, Sampler, SamplingRequest, TokenBucket

SPAN_ID = b"s" * 8
LOWEST = b"t" * 9 + bytes(7)
HIGHEST = b"t" * 9 + b"\xff" * 7
MIDDLE = b"t" * 9 + b"\x80" + bytes(6)
REQUEST = SamplingRequest("GET", "/healthz", "/healthz", {b"x-tier": [b"gold", b"beta"]})


def _parent(
    decision: bool | None, state: str = "", *, debug: bool = False, trace_id: bytes = LOWEST
) -> Extracted:
    extracted = Extracted(SpanContext(trace_id, SPAN_ID, int(decision or 0), state), decision)
    extracted.debug = debug
    return extracted


def _sample(
    sampler: Sampler,
    parent: Extracted | None = None,
    trace_id: bytes = LOWEST,
    now: float = 0.0,
    request: SamplingRequest = REQUEST,
) -> Decision:
    return sampler.sample(request, parent, trace_id, now)


class TestThreshold:
    @pytest.mark.parametrize(
        ("ratio", "encoded"),
        [(1.0, "0"), (0.5, "8"), (0.25, "c"), (0.75, "4"), (2**-56, "f" * 14)],
    )
    def test_exact_ratios(self, ratio: float, encoded: str) -> None:
        assert sampling.encode_threshold(sampling.threshold(ratio)) == encoded

    @pytest.mark.parametrize(
        ("ratio", "begins"), [(0.1, "e6666"), (0.01, "fd70a"), (0.001, "ffbe7")]
    )
    def test_decimal_ratios(self, ratio: float, begins: str) -> None:
        assert sampling.encode_threshold(sampling.threshold(ratio)).startswith(begins)

    def test_leading_zeros_are_written(self) -> None:
        assert sampling.encode_threshold(0x00FF_0000_0000_00) == "00ff"

    def test_zero_is_reached_by_no_trace(self) -> None:
        assert sampling.threshold(0.0) == sampling.NEVER == 2**56

    @pytest.mark.parametrize("ratio", [-0.1, 1.1, float("nan"), float("inf")])
    def test_what_is_no_ratio_is_refused(self, ratio: float) -> None:
        with pytest.raises(ValueError, match="ratio"):
            sampling.threshold(ratio)
        with pytest.raises(ValueError, match="ratio"):
            Sampler(ratio)
        with pytest.raises(ValueError, match="ratio"):
            Rule(ratio=ratio)


class TestRandomness:
    def test_the_low_56_bits_of_the_trace_id(self) -> None:
        assert sampling.randomness(bytes(range(16))) == 0x090A0B0C0D0E0F

    def test_an_explicit_value_goes_before(self) -> None:
        assert sampling.randomness(HIGHEST, "a=1,ot=rv:0000000000000f") == 15

    @pytest.mark.parametrize("rv", ["f", "0" * 15, "0000000000000F", "", "xyz"])
    def test_an_invalid_explicit_value_does_not_count(self, rv: str) -> None:
        assert sampling.randomness(HIGHEST, f"ot=rv:{rv}") == 2**56 - 1


class TestProbability:
    @pytest.mark.parametrize(
        ("ratio", "trace_id", "action", "state"),
        [
            (1.0, LOWEST, Action.SAMPLE, "ot=th:0"),
            (0.5, LOWEST, Action.RECORD_ONLY, ""),
            (0.5, MIDDLE, Action.SAMPLE, "ot=th:8"),
            (0.5, HIGHEST, Action.SAMPLE, "ot=th:8"),
            (0.0, HIGHEST, Action.RECORD_ONLY, ""),
        ],
    )
    def test_a_trace_that_starts_here(
        self, ratio: float, trace_id: bytes, action: Action, state: str
    ) -> None:
        decision = _sample(Sampler(ratio), None, trace_id)
        assert (decision.action, decision.tracestate) == (action, state)

    def test_other_members_and_sub_keys_stay(self) -> None:
        parent = _parent(None, "a=1,ot=x:y;rv:ffffffffffffff;z:1,b=2")
        decision = _sample(Sampler(0.5), parent)
        assert decision.action == Action.SAMPLE
        assert decision.tracestate == "ot=th:8;rv:ffffffffffffff;x:y;z:1,a=1,b=2"

    def test_downstream_only_raises_the_threshold(self) -> None:
        sampler = Sampler(1.0, parent_based=False)
        assert _sample(sampler, _parent(True, "ot=th:8"), MIDDLE).tracestate == "ot=th:8"
        lower = _sample(Sampler(0.25, parent_based=False), _parent(True, "ot=th:8"), HIGHEST)
        assert lower.tracestate == "ot=th:c"
        assert _sample(sampler, _parent(True, "ot=th:8"), LOWEST).action == Action.RECORD_ONLY

    def test_a_trace_that_is_not_kept_has_no_threshold(self) -> None:
        decision = _sample(
            Sampler(0.1, parent_based=False), _parent(True, "a=1,ot=th:0;rv:" + "0" * 14)
        )
        assert decision.action == Action.RECORD_ONLY
        assert decision.tracestate == "ot=rv:00000000000000,a=1"

    def test_an_overfull_member_makes_room(self) -> None:
        full = "ot=" + ";".join(f"k{n}:{'x' * 20}" for n in range(10))
        decision = _sample(Sampler(0.5), _parent(None, full), HIGHEST)
        assert tracestate.parse([decision.tracestate.encode()]) == decision.tracestate
        assert decision.tracestate.startswith("ot=th:8;k0:")

    @pytest.mark.parametrize("ratio", [0.01, 0.1, 0.5, 0.9])
    def test_the_share_kept_is_the_ratio(self, ratio: float) -> None:
        rng = random.Random(7)
        count = 20_000
        sampler = Sampler(ratio)
        kept = sum(
            _sample(sampler, None, rng.randbytes(16)).action == Action.SAMPLE for _ in range(count)
        )
        deviation = (ratio * (1 - ratio) / count) ** 0.5
        assert abs(kept / count - ratio) < 4 * deviation


class TestOrder:
    DROP = Rule(path="/healthz", drop=True)
    NONE = Rule(path="/healthz", ratio=0)
    ALL = Rule(path="/healthz", ratio=1)

    def test_drop_goes_before_debug_and_the_parent(self) -> None:
        sampler = Sampler(1, [self.DROP])
        assert _sample(sampler, _parent(True, "a=1", debug=True)).action == Action.DROP
        assert _sample(sampler, _parent(True, "a=1")).tracestate == "a=1"
        assert _sample(sampler).action == Action.DROP

    def test_debug_goes_before_the_parent_and_erases_the_threshold(self) -> None:
        decision = _sample(Sampler(0), _parent(False, "ot=th:8;x:1", debug=True))
        assert (decision.action, decision.tracestate) == (Action.SAMPLE, "ot=x:1")

    def test_debug_alone_at_the_root(self) -> None:
        alone = Extracted()
        alone.debug = True
        decision = _sample(Sampler(0, rate_limit=1), alone)
        assert (decision.action, decision.tracestate) == (Action.SAMPLE, "")

    @pytest.mark.parametrize("state", ["", "ot=th:8", "a=1,ot=th:0;rv:00000000000000"])
    @pytest.mark.parametrize("rules", [(), (NONE,), (ALL,)])
    @pytest.mark.parametrize("yes", [True, False])
    def test_the_parent_goes_before_ratios_and_keeps_tracestate(
        self, yes: bool, rules: tuple[Rule, ...], state: str
    ) -> None:
        decision = _sample(Sampler(0.5, rules), _parent(yes, state))
        assert decision.action == (Action.SAMPLE if yes else Action.RECORD_ONLY)
        assert decision.tracestate == state

    def test_a_decision_without_ids_is_the_parents_too(self) -> None:
        assert _sample(Sampler(1), Extracted(None, False)).action == Action.RECORD_ONLY
        assert _sample(Sampler(0), Extracted(None, True)).action == Action.SAMPLE

    def test_a_parent_that_defers_leaves_it_to_the_ratio(self) -> None:
        assert _sample(Sampler(0), _parent(None)).action == Action.RECORD_ONLY
        assert _sample(Sampler(1), _parent(None)).action == Action.SAMPLE

    def test_the_parent_is_not_asked_when_so_configured(self) -> None:
        assert _sample(Sampler(0, parent_based=False), _parent(True)).action == Action.RECORD_ONLY
        assert _sample(Sampler(1, parent_based=False), _parent(False)).action == Action.SAMPLE

    def test_a_rules_ratio_goes_before_the_default(self) -> None:
        assert _sample(Sampler(0, [self.ALL])).tracestate == "ot=th:0"
        assert _sample(Sampler(1, [self.NONE])).action == Action.RECORD_ONLY

    def test_a_rule_without_a_ratio_stands_for_the_default(self) -> None:
        sampler = Sampler(1, [Rule(path="/healthz"), self.NONE])
        assert _sample(sampler).action == Action.SAMPLE


class TestRules:
    @pytest.mark.parametrize(
        ("rule", "fits"),
        [
            (Rule(), True),
            (Rule(path="/healthz"), True),
            (Rule(path="/health"), False),
            (Rule(path="/health*"), True),
            (Rule(path="*"), True),
            (Rule(method="GET"), True),
            (Rule(method="POST"), False),
            (Rule(route="/healthz"), True),
            (Rule(route="GET /healthz"), True),
            (Rule(route="POST /healthz"), False),
            (Rule(route="GET /heal*"), True),
            (Rule(headers={"X-Tier": "gold"}), True),
            (Rule(headers={"X-Tier": "b*"}), True),
            (Rule(headers={"X-Tier": "silver"}), False),
            (Rule(headers={"X-Other": "*"}), False),
            (Rule(path="/healthz", method="GET", headers={"x-tier": "*"}), True),
            (Rule(path="/healthz", method="PUT", headers={"x-tier": "*"}), False),
        ],
    )
    def test_all_that_is_given_must_fit(self, rule: Rule, fits: bool) -> None:
        assert rule.fits(REQUEST) is fits

    def test_the_first_by_priority_and_then_by_order_decides(self) -> None:
        none, every, drop = Rule(ratio=0), Rule(ratio=1), Rule(drop=True, priority=5)
        assert _sample(Sampler(0.5, [none, every])).action == Action.RECORD_ONLY
        assert _sample(Sampler(0.5, [every, none])).action == Action.SAMPLE
        assert _sample(Sampler(0.5, [every, drop])).action == Action.DROP
        assert _sample(Sampler(0.5, [Rule(ratio=1, priority=9), drop])).action == Action.SAMPLE

    def test_without_rules_no_request_is_needed(self) -> None:
        sampler = Sampler(1)
        assert not sampler.reads_requests
        assert sampler.sample(None, None, LOWEST, 0.0).action == Action.SAMPLE
        assert Sampler(1, [Rule()]).reads_requests


class TestRateLimit:
    def test_roots_beyond_the_rate_are_not_sampled(self) -> None:
        sampler = Sampler(1, rate_limit=2)
        actions = [_sample(sampler, now=10.0).action for _ in range(4)]
        assert actions == [Action.SAMPLE] * 2 + [Action.RECORD_ONLY] * 2
        assert _sample(sampler, now=10.5).action == Action.SAMPLE
        assert _sample(sampler, now=10.5).action == Action.RECORD_ONLY

    def test_what_passes_has_no_threshold(self) -> None:
        assert _sample(Sampler(1, rate_limit=1)).tracestate == ""

    def test_what_the_ratio_refuses_uses_nothing_up(self) -> None:
        sampler = Sampler(0.5, rate_limit=1)
        assert _sample(sampler, trace_id=LOWEST).action == Action.RECORD_ONLY
        assert _sample(sampler, trace_id=HIGHEST).action == Action.SAMPLE

    def test_it_counts_traces_at_their_root_only(self) -> None:
        sampler = Sampler(1, rate_limit=1)
        assert _sample(sampler).action == Action.SAMPLE
        assert _sample(sampler).action == Action.RECORD_ONLY
        assert _sample(sampler, _parent(True)).action == Action.SAMPLE
        deferred = _sample(sampler, _parent(None))
        assert (deferred.action, deferred.tracestate) == (Action.SAMPLE, "ot=th:0")

    def test_a_bucket_below_one_a_second(self) -> None:
        bucket = TokenBucket(0.125)
        taken = [bucket.take(float(second)) for second in range(17)]
        assert [second for second, passed in enumerate(taken) if passed] == [0, 8, 16]

    def test_a_pause_saves_no_more_than_a_second(self) -> None:
        bucket = TokenBucket(3)
        assert sum(bucket.take(0.0) for _ in range(9)) == 3
        assert sum(bucket.take(3600.0) for _ in range(9)) == 3

    def test_a_clock_that_goes_back_gives_nothing(self) -> None:
        bucket = TokenBucket(1)
        assert bucket.take(10.0)
        assert not bucket.take(5.0)


@pytest.mark.parametrize(
    ("pattern", "text", "matches"),
    [
        ("", "", True),
        ("", "a", False),
        ("a", "a", True),
        ("*", "", True),
        ("a*", "a", True),
        ("*a", "ba", True),
        ("a*b", "ab", True),
        ("a*a", "a", False),
        ("a*b*c", "a-b-b-c", True),
        ("a*b*c", "acb", False),
        ("**", "x", True),
        ("a?[b]", "a?[b]", True),
        ("a?", "ab", False),
        ("/users/*/orders", "/users/1/2/orders", True),
    ],
)
def test_patterns(pattern: str, text: str, matches: bool) -> None:
    assert Glob(pattern).matches(text) is matches
