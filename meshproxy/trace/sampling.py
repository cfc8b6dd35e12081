"""Head sampling: consistent probability, rules, and a rate limit.

Consistent probability (OpenTelemetry, "TraceState: Probability Sampling"): a trace has a random
number R of 56 bits, and a ratio p is a threshold T = (1 - p) * 2**56. The trace is kept when
R >= T. All who decide so agree without talking, and who keeps less keeps a part of what others
keep. ``ot=th:...`` in tracestate tells T to those after us.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import Final

from meshproxy.trace import tracestate as states
from meshproxy.trace.glob import Glob
from meshproxy.trace.propagator import Extracted

_RANDOM_BITS: Final = 56
NEVER: Final = 1 << _RANDOM_BITS
"""The threshold that no trace reaches."""

_DIGITS = _RANDOM_BITS // 4
_KEY: Final = "ot"
_MEMBER_SIZE: Final = 256
_is_th = re.compile(r"[0-9a-f]{1,14}").fullmatch
_is_rv = re.compile(r"[0-9a-f]{14}").fullmatch


class Action(IntEnum):
    """What becomes of a request's span.

    DROP: no span at all. RECORD_ONLY: the trace is not sampled, the span is kept for the case that
    it turns out an error. SAMPLE: the trace is sampled.
    """

    DROP = 0
    RECORD_ONLY = 1
    SAMPLE = 2


class Decision:
    """An action, and the tracestate that goes with it. Treat as immutable."""

    __slots__ = ("action", "tracestate")

    def __init__(self, action: Action, tracestate: str) -> None:
        self.action = action
        self.tracestate = tracestate


class SamplingRequest:
    """What rules look at.

    ``path`` comes without its query, ``route`` is such as ``/users/{id}``, ``headers`` are by
    lower-case name.
    """

    __slots__ = ("headers", "method", "path", "route")

    def __init__(
        self, method: str, path: str, route: str, headers: Mapping[bytes, Sequence[bytes]]
    ) -> None:
        self.method = method
        self.path = path
        self.route = route
        self.headers = headers


class Rule:
    """What applies to the requests that fit all given patterns, in which ``*`` matches anything.

    A route pattern may start with a method (``POST /checkout``). ``ratio`` None stands for the
    sampler's default. ``drop`` makes no span at all. Raises ValueError for a ratio outside 0..1.
    """

    __slots__ = ("_headers", "_method", "_path", "_route", "drop", "priority", "threshold")

    def __init__(
        self,
        *,
        path: str | None = None,
        route: str | None = None,
        method: str | None = None,
        headers: Mapping[str, str] | None = None,
        ratio: float | None = None,
        drop: bool = False,
        priority: int = 0,
    ) -> None:
        self._path = None if path is None else Glob(path)
        if route is not None and " " not in route:
            route = f"* {route}"
        self._route = None if route is None else Glob(route)
        self._method = None if method is None else Glob(method)
        self._headers = [(n.lower().encode(), Glob(v)) for n, v in (headers or {}).items()]
        self.threshold = None if ratio is None else threshold(ratio)
        self.drop = drop
        self.priority = priority

    def fits(self, request: SamplingRequest) -> bool:
        """Tell whether the rule applies to a request."""
        if self._method is not None and not self._method.matches(request.method):
            return False
        if self._path is not None and not self._path.matches(request.path):
            return False
        if self._route is not None and not self._route.matches(f"{request.method} {request.route}"):
            return False
        return all(
            any(pattern.matches(value.decode("latin-1")) for value in request.headers.get(name, ()))
            for name, pattern in self._headers
        )


class TokenBucket:
    """Lets ``rate`` events a second through, after a pause up to a second's worth at once."""

    __slots__ = ("_capacity", "_last", "_rate", "_tokens")

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._capacity = max(rate, 1.0)
        self._tokens = self._capacity
        self._last: float | None = None

    def take(self, now: float) -> bool:
        """Tell whether one more may pass at ``now``, in monotonic seconds."""
        elapsed = 0.0 if self._last is None else max(now - self._last, 0.0)
        self._last = now
        self._tokens = min(self._tokens + elapsed * self._rate, self._capacity)
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True


class Sampler:
    """Decides about requests, in this order: drop rules, debug, the parent, ratio, rate limit.

    The first rule that fits, by falling priority and then by order, is the request's rule.
    ``default`` is the ratio without a rule. ``parent_based`` takes over the caller's decision;
    callers that are not trusted are passed as None. ``rate_limit`` is in traces a second and
    concerns only traces that start here. Raises ValueError for a ratio outside 0..1.
    """

    __slots__ = ("_bucket", "_by_ratio_alone", "_fresh", "_parent_based", "_rules", "_threshold")

    def __init__(
        self,
        default: float = 1.0,
        rules: Sequence[Rule] = (),
        *,
        parent_based: bool = True,
        rate_limit: float | None = None,
    ) -> None:
        self._threshold = threshold(default)
        self._rules = tuple(sorted(rules, key=lambda rule: -rule.priority))
        self._parent_based = parent_based
        self._bucket = None if rate_limit is None else TokenBucket(rate_limit)
        self._by_ratio_alone = not self._rules and self._bucket is None
        self._fresh = _kept("", self._threshold) if self._threshold < NEVER else _NOT_SAMPLED

    @property
    def reads_requests(self) -> bool:
        """Whether `sample` looks at requests at all; if not, they may be None."""
        return bool(self._rules)

    def sample(
        self,
        request: SamplingRequest | None,
        parent: Extracted | None,
        trace_id: bytes,
        now: float,
    ) -> Decision:
        """Decide about one request of the trace ``trace_id``; ``now`` is in monotonic seconds.

        ``parent`` is what came in, None when nothing did or it is not trusted.
        """
        if parent is None and self._by_ratio_alone:
            kept = int.from_bytes(trace_id[9:], "big") >= self._threshold
            return self._fresh if kept else _NOT_SAMPLED
        rule = self._rule_for(request) if self._rules and request is not None else None
        tracestate = ""
        if parent is not None:
            if parent.context is not None:
                tracestate = parent.context.tracestate
            if rule is not None and rule.drop:
                return Decision(Action.DROP, tracestate)
            if parent.debug:
                return Decision(Action.SAMPLE, without_threshold(tracestate))
            if self._parent_based and parent.decision is not None:
                action = Action.SAMPLE if parent.decision else Action.RECORD_ONLY
                return Decision(action, tracestate)
        elif rule is not None and rule.drop:
            return _DROPPED
        own = self._threshold if rule is None or rule.threshold is None else rule.threshold
        is_root = parent is None or parent.context is None
        return self._by_probability(own, tracestate, trace_id, is_root, now)

    def _by_probability(
        self, own: int, tracestate: str, trace_id: bytes, is_root: bool, now: float
    ) -> Decision:
        if not tracestate:
            if int.from_bytes(trace_id[9:], "big") < own:
                return _NOT_SAMPLED
            decision = self._fresh if own == self._threshold else _kept("", own)
        else:
            before = OtMember.read(tracestate).th
            own = max(own, before or 0)  # those downstream may only keep less
            if randomness(trace_id, tracestate) < own:
                return Decision(Action.RECORD_ONLY, without_threshold(tracestate))
            decision = _kept(tracestate, own)
        if self._bucket is None or not is_root:
            return decision
        # What passes a rate limit was not chosen by probability alone: it has no threshold.
        action = Action.SAMPLE if self._bucket.take(now) else Action.RECORD_ONLY
        return Decision(action, without_threshold(decision.tracestate))

    def _rule_for(self, request: SamplingRequest) -> Rule | None:
        for rule in self._rules:
            if rule.fits(request):
                return rule
        return None


class OtMember:
    """The ``ot`` member of a tracestate: threshold, explicit randomness, and what else is there."""

    __slots__ = ("others", "rv", "th")

    def __init__(self, th: int | None, rv: int | None, others: tuple[str, ...] = ()) -> None:
        self.th = th
        self.rv = rv
        self.others = others

    @classmethod
    def read(cls, tracestate: str) -> OtMember:
        """Read it from a whole tracestate; sub-keys that are not valid count as absent."""
        th = rv = None
        others = []
        for part in (states.get(tracestate, _KEY) or "").split(";"):
            key, _, value = part.partition(":")
            if key == "th":
                th = int(value.ljust(_DIGITS, "0"), 16) if _is_th(value) else None
            elif key == "rv":
                rv = int(value, 16) if _is_rv(value) else None
            elif part:
                others.append(part)
        return cls(th, rv, tuple(others))

    def write(self, tracestate: str) -> str:
        """Put it into a tracestate, leftmost; sub-keys that no longer fit go from the right."""
        parts = []
        if self.th is not None:
            parts.append(f"th:{encode_threshold(self.th)}")
        if self.rv is not None:
            parts.append(f"rv:{self.rv:0{_DIGITS}x}")
        parts += self.others
        while len(";".join(parts)) > _MEMBER_SIZE:
            parts.pop()
        if not parts:
            return states.remove(tracestate, _KEY)
        return states.put(tracestate, _KEY, ";".join(parts))


def threshold(ratio: float) -> int:
    """Give T of a ratio, as a number up to 2**56. Raises ValueError for one outside 0..1."""
    if not 0.0 <= ratio <= 1.0:
        raise ValueError(f"a sampling ratio lies between 0 and 1, not {ratio}")
    return NEVER - round(ratio * NEVER)


def encode_threshold(value: int) -> str:
    """Write T below 2**56 as 1 to 14 hexadecimal digits: zeros at the end are left out."""
    return f"{value:0{_DIGITS}x}".rstrip("0") or "0"


def randomness(trace_id: bytes, tracestate: str = "") -> int:
    """Give R: the explicit ``rv`` of the tracestate, otherwise the low 56 bits of the trace id."""
    explicit = OtMember.read(tracestate).rv if tracestate else None
    return int.from_bytes(trace_id[9:], "big") if explicit is None else explicit


def without_threshold(tracestate: str) -> str:
    """Take out ``th``: what was not chosen by probability must not be counted up by it."""
    member = OtMember.read(tracestate)
    if member.th is None:
        return tracestate
    return OtMember(None, member.rv, member.others).write(tracestate)


def _kept(tracestate: str, th: int) -> Decision:
    member = OtMember.read(tracestate)
    return Decision(Action.SAMPLE, OtMember(th, member.rv, member.others).write(tracestate))


_DROPPED = Decision(Action.DROP, "")
_NOT_SAMPLED = Decision(Action.RECORD_ONLY, "")
