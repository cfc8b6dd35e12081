"""Evidence from content: a call repeats a rare token of exactly one request in flight.

A token is a word that looks like an id (`meshproxy.linking.tokens`). What is not rare tells itself
by coming again: a token of one request only, lately, is *fresh* and points at that request; one of
several requests narrows the choice to them; one that comes again and again (a user's session, a
tenant) is never certain, since it may belong to work that goes on after an answer, or to a request
that arrives in a moment; one that most requests carry says nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from meshproxy.linking.evidence import Verdict
from meshproxy.linking.inflight import Cause, InFlight
from meshproxy.linking.tokens import KIND_MASK, KINDS, OPAQUE, Tokens

FRESH: Final = 0
MADE: Final = 1
REPEATED: Final = 2
USER: Final = 3
LEVELS: Final = 4
COMMON: Final = 4
"""How a token came to be known: in one request only; first in a call that the service made; in
several requests; where a user's session stands. And in so many that it tells nothing."""

NARROWED: Final = KINDS * LEVELS
WEAK: Final = NARROWED + 1
CONTRADICTED: Final = NARROWED + 2
"""Grades beside those of kind and level: several requests are left; one is, but not all is known
of the others; two fresh tokens point at two."""

QUIET_NS: Final = 60_000_000_000
"""So long after the last call that needed content, it is not looked at any more."""

WARM_UP: Final = 100
"""Requests that must have been seen before a token may count as fresh, unless it is so long that
nobody else can have made it up."""

COMMON_COUNT: Final = 32
COMMON_SHARE: Final = 4
"""A token seen so often, and in more than one of so many requests, is a constant."""

MOST_NARROWED: Final = 8
"""More causes than that are no answer."""

MOST_PER_REQUEST: Final = 1024
WEAK_AT_MOST: Final = 0.95
SURE_AT_MOST: Final = 0.9995

FRESH_PRIORS: Final = (*[(300.0, 0.5)] * 4, (100.0, 0.5), (60.0, 0.6))
"""Right and wrong, by kind, as if they had been observed: the first four start above 0.99."""

OTHER_PRIOR: Final = (97.0, 3.0)
MEMORY: Final = 2000.0
"""Observations after which older ones begin to fade."""

CAUTION: Final = 1.28
"""Standard deviations below the mean: nine in ten estimates are too low rather than too high."""


class Judgement(Verdict):
    """What content says of a call.

    ``contradicts``: fresh tokens of several requests stand in it, and ``causes`` are these.
    ``grade`` names what the confidence was estimated from.
    """

    __slots__ = ("contradicts", "grade")

    def __init__(self, confidence: float, causes: Sequence[Cause], grade: int) -> None:
        super().__init__("content", confidence, causes)
        self.grade = grade
        self.contradicts = grade == CONTRADICTED


class Estimate:
    """How often one grade of evidence was right, with older observations fading."""

    __slots__ = ("_right", "_wrong", "cautious")

    def __init__(self, right: float, wrong: float) -> None:
        self._right = right
        self._wrong = wrong
        self.cautious = 0.0
        """The share of right ones that may be relied on."""
        self._conclude()

    def observe(self, right: bool) -> None:
        """Note one more."""
        if right:
            self._right += 1
        else:
            self._wrong += 1
        if self._right + self._wrong > MEMORY:
            self._right /= 2
            self._wrong /= 2
        self._conclude()

    def _conclude(self) -> None:
        count = self._right + self._wrong
        mean = self._right / count
        low = mean - CAUTION * math.sqrt(mean * (1 - mean) / (count + 1))
        self.cautious = min(max(low, 0.0), SURE_AT_MOST)


def _priors() -> list[Estimate]:
    """One estimate for each grade, in the order of grades."""
    estimates = []
    for right, wrong in FRESH_PRIORS:
        estimates.append(Estimate(right, wrong))
        estimates += [Estimate(*OTHER_PRIOR) for _ in range(1, LEVELS)]
    return [*estimates, *(Estimate(*OTHER_PRIOR) for _ in (NARROWED, WEAK, CONTRADICTED))]


class Holders:
    """Causes by token. Most tokens have one, and that is kept cheap."""

    def __init__(self) -> None:
        self._one: dict[int, Cause] = {}
        self._more: dict[int, dict[Cause, None]] = {}

    def has(self, identity: int, cause: Cause) -> bool:
        """Whether this cause holds the token."""
        if self._one.get(identity) is cause:
            return True
        more = self._more.get(identity)
        return more is not None and cause in more

    def add(self, identity: int, cause: Cause) -> None:
        """Put a cause under a token that it does not hold yet."""
        if self._one.setdefault(identity, cause) is not cause:
            self._more.setdefault(identity, {})[cause] = None

    def remove(self, identity: int, cause: Cause) -> None:
        """Take it out again."""
        more = self._more.get(identity)
        if more is None:
            del self._one[identity]
            return
        if cause in more:
            del more[cause]
        else:
            self._one[identity] = next(iter(more))
            del more[self._one[identity]]
        if not more:
            del self._more[identity]

    def of(self, identity: int) -> tuple[Cause, ...]:
        """All causes that hold a token."""
        one = self._one.get(identity)
        if one is None:
            return ()
        more = self._more.get(identity)
        return (one, *more) if more else (one,)


class Sightings:
    """In how many requests a token was seen lately: two generations of at most ``size`` tokens."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._young: dict[int, int] = {}
        self._old: dict[int, int] = {}
        self._young_requests = 0
        self._old_requests = 0

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    @property
    def requests(self) -> int:
        """How many requests this tells of."""
        return self._young_requests + self._old_requests

    def request(self) -> None:
        """One more request."""
        self._young_requests += 1

    def note(self, identity: int, times: int, level: int) -> None:
        """The token was seen so many times more; ``level`` is kept from the first time on."""
        known = self._young.get(identity, 0)
        if not known:
            if len(self._young) >= self._size:
                self._old, self._young = self._young, {}
                self._old_requests, self._young_requests = self._young_requests, 0
            before = self._old.get(identity, 0)
            known = before % LEVELS if before else level
        if level == USER:
            known |= USER
        self._young[identity] = known + times * LEVELS

    def level(self, identity: int) -> int:
        """How the token came to be known; ``REPEATED`` when that is forgotten."""
        young = self._young.get(identity, 0)
        old = self._old.get(identity, 0)
        count = young // LEVELS + old // LEVELS
        if count == 1:
            return (young or old) % LEVELS
        if count >= COMMON_COUNT and count * COMMON_SHARE > self.requests:
            return COMMON
        return USER if (young or old) % LEVELS == USER else REPEATED


class Content:
    """Which request in flight holds which tokens. At most ``limit`` entries are kept, of any sort.

    Half of them are for requests in flight: past that, the oldest request is given up, and past an
    eighth (or `MOST_PER_REQUEST`) a request gets no more. The other half remembers what was seen
    lately. Services whose calls need no content pay nothing: see `wants`.

    ``given_up`` counts requests whose tokens had to go, ``refused`` tokens that were not kept.
    """

    def __init__(self, key: bytes, limit: int) -> None:
        self.tokens = Tokens(key)
        self.given_up = 0
        self.refused = 0
        self._limit = limit // 2
        self._quota = min(MOST_PER_REQUEST, max(1, limit // 8))
        self._lately_size = max(1, limit // 4)
        self._until_ns = 0
        self._estimates = _priors()
        self._clear()

    def _clear(self) -> None:
        self._size = 0
        self._held: dict[Cause, list[int]] = {}
        self._partial: set[Cause] = set()
        self._holders = Holders()
        self._lately = Sightings(self._lately_size)

    def __len__(self) -> int:
        return self._size + len(self._lately)

    def wants(self, now_ns: int) -> bool:
        """Whether tokens are to be looked for: calls needed them in the last minute."""
        return now_ns < self._until_ns

    def need(self, now_ns: int) -> bool:
        """A call is there that stronger evidence said nothing of. True when this woke it up.

        Nothing is known then; the requests in flight are best begun at once, as not whole.
        """
        woken = now_ns >= self._until_ns
        self._until_ns = now_ns + QUIET_NS
        if woken:
            self._clear()
        return woken

    def begin(self, cause: Cause, tokens: Sequence[int], *, whole: bool = True) -> None:
        """A request is in flight; to be called for each, even if it has no tokens.

        ``whole`` is false when some of what it was given so far was not looked at.
        """
        if cause in self._held:
            return
        self._held[cause] = []
        self._size += 1
        self._lately.request()
        if not whole:
            self._partial.add(cause)
        self.hold(cause, tokens)

    def hold(self, cause: Cause | None, tokens: Sequence[int], *, made: bool = False) -> None:
        """The request has come to know more: the rest of its body, or an answer to a call.

        ``made``: they stood in a call of the service, which may have made them up or have them
        from elsewhere. What nobody holds, since the request is unknown or over, is noted as seen.
        """
        held = self._held.get(cause) if cause is not None else None
        if held is None or cause is None:
            self.hold_perhaps((), tokens)
            return
        level = MADE if made else FRESH
        for token in tokens:
            identity = token >> 1
            if not self._holders.has(identity, cause):
                self._lately.note(identity, 1, USER if token & 1 else level)
                self._keep(cause, held, identity)
        self._make_room()

    def hold_perhaps(self, candidates: Sequence[Cause], tokens: Sequence[int]) -> None:
        """It is not known which request has come to know these: perhaps one of the candidates.

        From then on these tokens are fresh for nobody, and point at all of the candidates.
        """
        for token in tokens:
            self._lately.note(token >> 1, 2, USER if token & 1 else FRESH)
        for cause in candidates:
            held = self._held.get(cause)
            if held is not None:
                for token in tokens:
                    if not self._holders.has(token >> 1, cause):
                        self._keep(cause, held, token >> 1)
        self._make_room()

    def _make_room(self) -> None:
        """The oldest request's tokens have to go; from then on nothing is known of it."""
        while self._size > self._limit:
            self.given_up += 1
            self.release(next(iter(self._held)))

    def _keep(self, cause: Cause, held: list[int], identity: int) -> None:
        if self._lately.level(identity) == COMMON:
            return
        if len(held) >= self._quota:
            self.refused += 1
            self._partial.add(cause)
            return
        held.append(identity)
        self._size += 1
        self._holders.add(identity, cause)

    def release(self, cause: Cause) -> None:
        """The request is over, or nobody waits for it any more."""
        held = self._held.pop(cause, None)
        if held is None:
            return
        self._size -= len(held) + 1
        self._partial.discard(cause)
        for identity in held:
            self._holders.remove(identity, cause)

    def judge(self, tokens: Sequence[int], inflight: InFlight) -> Judgement | None:
        """Which requests in flight the tokens of a call point at; None when they say nothing.

        One cause with the confidence of its best token; at most `WEAK_AT_MOST` when another token
        speaks against it, or when requests in flight are not known well enough. Several causes when
        it is one of these, or, if the judgement ``contradicts``, when each of them has a fresh
        token in the call.
        """
        grades: dict[Cause, int] = {}
        groups: list[tuple[Cause, ...]] = []
        for token in tokens:
            identity = token >> 1
            causes = self._holders.of(identity)
            level = self._lately.level(identity) if causes else COMMON
            if level == COMMON:
                continue
            if len(causes) > 1:
                groups.append(causes)
                continue
            cause = causes[0]
            grade = (identity & KIND_MASK) * LEVELS + level
            if cause not in grades or self._is_better(grade, grades[cause]):
                grades[cause] = grade
        if grades:
            return self._pointed(grades, groups, inflight)
        return self._narrowed(groups, inflight) if groups else None

    def _is_better(self, grade: int, other: int) -> bool:
        """Fresh ones first, whatever was observed: only they can contradict."""
        if grade == other:
            return False
        fresh = grade % LEVELS == FRESH
        if fresh != (other % LEVELS == FRESH):
            return fresh
        mine, others = self._estimates[grade].cautious, self._estimates[other].cautious
        return mine > others or (mine == others and grade < other)

    def _pointed(
        self, grades: dict[Cause, int], groups: list[tuple[Cause, ...]], inflight: InFlight
    ) -> Judgement | None:
        fresh = [cause for cause, grade in grades.items() if grade % LEVELS == FRESH]
        if len(fresh) > 1:
            return self._judgement(list(grades), CONTRADICTED)
        if not fresh and len(grades) > 1:
            few = len(grades) <= MOST_NARROWED
            return self._judgement(list(grades), NARROWED) if few else None
        cause = fresh[0] if fresh else next(iter(grades))
        grade = grades[cause]
        disputed = len(grades) > 1 or any(cause not in group for group in groups)
        if disputed or not self._is_enough(grade, inflight):
            return self._judgement([cause], WEAK)
        return self._judgement([cause], grade)

    def _narrowed(self, groups: list[tuple[Cause, ...]], inflight: InFlight) -> Judgement | None:
        """What all groups have in common, if that leaves anything out."""
        groups.sort(key=len)
        left = [cause for cause in groups[0] if all(cause in group for group in groups)]
        if len(left) == 1:
            return self._judgement(left, WEAK)
        if not left or len(left) > MOST_NARROWED or len(left) >= len(inflight):
            return None
        return self._judgement(left, NARROWED)

    def _is_enough(self, grade: int, inflight: InFlight) -> bool:
        """Whether enough is known of the other requests for a sole holder to be the right one.

        What was dropped or abandoned was seen all the same, so that its tokens are not fresh when
        they come again; the others need every request in flight to be known in full.
        """
        if inflight.unregistered or len(inflight) > len(self._held):
            return False
        if grade % LEVELS == FRESH:
            return grade // LEVELS <= OPAQUE or self._lately.requests >= WARM_UP
        return inflight.complete and not self._partial

    def _judgement(self, causes: list[Cause], grade: int) -> Judgement:
        confidence = self._estimates[grade].cautious
        if grade >= NARROWED:
            confidence = min(confidence, WEAK_AT_MOST)
        causes.sort(key=lambda cause: cause.start_ns, reverse=True)
        return Judgement(confidence, causes, grade)

    def observe(self, judgement: Judgement, cause: Cause | None) -> None:
        """Certain evidence says what was right: this cause, or None, no request in flight."""
        self._estimates[judgement.grade].observe(cause is not None and cause in judgement.causes)
