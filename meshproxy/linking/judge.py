"""The ladder of evidence: certain kinds first, then what is usual, then abstention.

Certain evidence is asked for in the order of its strength, until one kind points at one request.
What does not point narrows the choice. If two kinds point at different requests, neither counts.
Among the requests that are left, the odds decide (`meshproxy.linking.timing`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from meshproxy.linking.behaviour import PIECE_BYTES
from meshproxy.linking.calibration import MOST_ESTIMATED, Calibration
from meshproxy.linking.call import Call, Candidate, Finding
from meshproxy.linking.content import Content
from meshproxy.linking.content import Judgement as ContentJudgement
from meshproxy.linking.evidence import Verdict
from meshproxy.linking.habits import Habits
from meshproxy.linking.inflight import Cause, InFlight
from meshproxy.linking.lately import Lately
from meshproxy.linking.owners import OwnerEvidence
from meshproxy.linking.timing import LIKELY, Made, Odds, Timing
from meshproxy.linking.tracks import Track

MAX_CANDIDATES: Final = 8
"""Links on a call that could not be linked; more would say nothing."""

REQUEST_ID_CONFIDENCE: Final = 0.999

OWNERS: Final = frozenset({"process", "thread"})
"""Evidence that leaves a request by excluding the others."""

MOST_WEIGHED: Final = 128
"""Requests in flight between which the odds are worked out; the time that takes is bounded so."""

TOKEN_BYTES: Final = 200
"""What a content token takes, about."""

STRANGE: Final = 0.85
"""How sure it is at most that the only request makes a call that is unusual from where it is."""

DOUBTFUL: Final = 0.1
"""From this probability on, that no request caused a call, it is not held against the service."""

ACTIVE_NS: Final = 60_000_000_000
"""So long after the last call without certain evidence the service is still followed."""


class Knowledge:
    """All that is learnt of a service, and lives as long as the sidecar.

    ``memory`` is how many bytes it may take, about; ``key`` is a secret of 16 to 64 random bytes.
    """

    def __init__(self, key: bytes, memory: int) -> None:
        self.timing = Timing(memory * 2 // 3 // PIECE_BYTES)
        self.content = Content(key, memory // 3 // TOKEN_BYTES)
        self.calibration = Calibration()
        self.lately = Lately()
        self.active_until_ns = 0
        self.habits = Habits()


class Judge:
    """Finds the request that caused a call. Nothing is linked that is less sure than ``threshold``.

    Follows the requests of a service only while it makes calls that need it: the service that
    passes its context on costs nothing.
    """

    def __init__(
        self,
        inflight: InFlight,
        knowledge: Knowledge,
        owners: OwnerEvidence,
        threshold: float,
    ) -> None:
        self._inflight = inflight
        self._timing = knowledge.timing
        self._content = knowledge.content
        self._owners = owners
        self._calibration = knowledge.calibration
        self._knowledge = knowledge
        self._threshold = threshold

    # Following requests

    def begun(self, cause: Cause, now_ns: int) -> None:
        """A request is in flight."""
        if now_ns < self._knowledge.active_until_ns:
            now = now_ns // 1000
            self._timing.passed(now, len(self._inflight) - 1)
            self._timing.arrived(now)
            cause.track = self._timing.start(cause.route, now)

    def ended(self, cause: Cause, now_ns: int) -> None:
        """A request is over."""
        track = cause.track
        if track is not None:
            self._timing.passed(now_ns // 1000, len(self._inflight) + 1)
            cause.track = None
            self._timing.end(track, self._inflight.idle, now_ns // 1000)

    def answered(self, made: Made, now_ns: int) -> None:
        """A call was answered."""
        self._timing.answered(made, now_ns // 1000)

    def _tracks(self, causes: Sequence[Cause]) -> list[Track]:
        tracks: list[Track] = []
        for cause in causes:
            track = cause.track
            if track is None:
                track = cause.track = self._timing.start(cause.route, cause.start_ns // 1000)
                if cause.calls:
                    track.doubt = 1.0
            tracks.append(track)
        return tracks

    # Judging calls

    def certain(self, call: Call, cause: Cause) -> Finding:
        """The call carries the context of a request: what else is known must agree with it."""
        named = self._by_request_id(call)
        if named and cause not in named:
            return _contradiction(
                [Candidate(cause, "traceparent", 1.0)], [Verdict("request_id", 0.0, named)]
            )
        finding = Finding(cause, "traceparent", 1.0)
        cause.calls += 1
        self._learn(call, finding, cause)
        return finding

    def judge(self, call: Call) -> Finding:
        """Find the request in flight that caused a call, from all but its trace context."""
        inflight = self._inflight
        crowd = inflight.is_crowd(MOST_WEIGHED)
        causes = [] if crowd else inflight.candidates(call.now_ns)
        verdicts: list[Verdict] = []
        content = self._naming(call, verdicts)
        if len(causes) > (0 if self._timing.rough else 1) and not _is_named_by_id(verdicts):
            owner = self._owners.judge(call.socket, causes)
            if owner is not None:
                verdicts.append(owner)
        finding = self._settled(verdicts)
        if finding is not None:
            if content is not None:
                self._teach(content, verdicts)
            if finding.cause is not None:
                self._learn(call, finding, finding.cause)
            return finding
        if crowd:
            return self._lost(call)
        return self._likely(call, causes, verdicts)

    def named(self, call: Call) -> Finding | None:
        """What the call itself says for certain, by ids or by content; None when that is nothing.

        Asked in place of `judge` when those in flight now are not those in question.
        """
        verdicts: list[Verdict] = []
        self._naming(call, verdicts)
        return self._settled(verdicts)

    def _naming(self, call: Call, verdicts: list[Verdict]) -> ContentJudgement | None:
        """Add what the call itself says of its cause; returns what its content says."""
        named = self._by_request_id(call)
        if named:
            verdicts.append(Verdict("request_id", REQUEST_ID_CONFIDENCE, named))
        if call.tokens is None or not self._content.wants(call.now_ns):
            return None
        content = self._content.judge(call.tokens(), self._inflight)
        if content is not None:
            verdicts.append(content)
        return content

    def _by_request_id(self, call: Call) -> Sequence[Cause]:
        found: dict[Cause, None] = {}
        for value in call.request_ids:
            for cause in self._inflight.of_request_id(value):
                found[cause] = None
        return tuple(found)

    def _settled(self, verdicts: list[Verdict]) -> Finding | None:
        """What certain evidence says; None when it leaves the question open.

        Owners alone leave it open whether a request caused the call: processes have timers, too.
        """
        best: Verdict | None = None
        pointed: Cause | None = None
        for each in verdicts:
            if len(each.causes) == 1 and each.confidence >= self._threshold:
                if pointed is not None and pointed is not each.causes[0]:
                    if each.evidence in OWNERS:
                        self._owners.refuted(each)
                    return _contradiction([], verdicts)
                pointed = each.causes[0]
                named = each.evidence not in OWNERS
                if named and (best is None or each.confidence > best.confidence):
                    best = each
            elif isinstance(each, ContentJudgement) and each.contradicts:
                return _contradiction([], verdicts)
        if best is None:
            return None
        return Finding(best.causes[0], best.evidence, best.confidence)

    def _teach(self, content: ContentJudgement, verdicts: list[Verdict]) -> None:
        """Tell the content what other evidence says for certain, be it right or wrong."""
        for each in verdicts:
            if each is not content and len(each.causes) == 1 and each.confidence >= self._threshold:
                self._content.observe(content, each.causes[0])
                return

    def _learn(self, call: Call, finding: Finding, cause: Cause) -> None:
        """Compare the odds with what is certain, and follow the request."""
        if call.now_ns >= self._knowledge.active_until_ns:
            return
        now = call.now_ns // 1000
        self._timing.passed(now, len(self._inflight))
        endpoint = self._timing.endpoint(call.destination, call.operation)
        if finding.evidence != "content" and not self._inflight.is_crowd(MOST_WEIGHED):
            self._compare(call, cause, endpoint, now)
        finding.made = self._timing.make_for(self._tracks((cause,))[0], endpoint, now)

    def _compare(self, call: Call, cause: Cause, endpoint: int, now: int) -> None:
        """How far the odds would have been right."""
        causes = self._inflight.candidates(call.now_ns)
        if len(causes) > 1:
            tracks = self._tracks(causes)
            odds = self._timing.weigh(tracks, endpoint, now)
            estimate = self._timing.confidence(tracks, odds)
            self._calibration.observe(estimate, causes[odds.best] is cause)

    def _lost(self, call: Call) -> Finding:
        """There are too many requests to work anything out."""
        self._knowledge.active_until_ns = call.now_ns + ACTIVE_NS
        self._timing.missed(call.now_ns // 1000)
        newest = self._inflight.newest(MAX_CANDIDATES)
        return Finding(candidates=[Candidate(cause, "timing", 0.0) for cause in newest])

    def _likely(self, call: Call, causes: Sequence[Cause], verdicts: list[Verdict]) -> Finding:
        """What the odds say."""
        now = call.now_ns // 1000
        self._knowledge.active_until_ns = call.now_ns + ACTIVE_NS
        timing = self._timing
        timing.passed(now, len(self._inflight))
        endpoint = timing.endpoint(call.destination, call.operation)
        left = self._left(causes, verdicts)
        tracks = self._tracks(left)
        odds = timing.weigh(tracks, endpoint, now)
        if not left:
            found = Finding(background=True)
            found.made = timing.make(tracks, odds, endpoint, now)
            return found
        for verdict in verdicts:
            if verdict.confidence < self._threshold:
                _lean(odds, left, verdict)
        if len(causes) == 1 and tracks[0].is_unusual(endpoint):
            odds.shares[0] = min(odds.shares[0], STRANGE)
            odds.background = 1.0 - odds.shares[0]
        if odds.background >= LIKELY:
            unsure = odds.background < self._threshold
            finding = Finding(
                candidates=_ranked(left, odds, "timing") if unsure else (), background=True
            )
        elif len(left) == 1 and len(causes) > 1:
            finding = self._by_exclusion(left[0], odds, verdicts)
        else:
            finding = self._by_odds(left, tracks, odds, endpoint)
        finding.doubtful = odds.background >= DOUBTFUL
        finding.made = timing.make(tracks, odds, endpoint, now)
        return finding

    def _left(self, causes: Sequence[Cause], verdicts: list[Verdict]) -> Sequence[Cause]:
        """The causes that certain verdicts leave; all, if the verdicts exclude each other.

        A verdict that names no request counts at any threshold: it keeps from linking.
        """
        left = causes
        for verdict in verdicts:
            if verdict.confidence >= self._threshold or not verdict.causes:
                left = [cause for cause in left if cause in verdict.causes]
                if not left and verdict.causes:
                    return causes
        return left

    def _by_exclusion(self, cause: Cause, odds: Odds, verdicts: list[Verdict]) -> Finding:
        """One request is left: it caused the call unless none did.

        The owners have excluded the others. Where they say nothing, two kinds have that narrow the
        choice together; then the less sure one counts.
        """
        owners = [each for each in verdicts if each.evidence in OWNERS]
        excluding = min(owners or verdicts, key=lambda verdict: verdict.confidence)
        confidence = excluding.confidence * odds.shares[0]
        if confidence >= self._threshold:
            return Finding(cause, excluding.evidence, confidence)
        return Finding(candidates=[Candidate(cause, excluding.evidence, confidence)])

    def _by_odds(
        self, causes: Sequence[Cause], tracks: list[Track], odds: Odds, endpoint: int
    ) -> Finding:
        if len(causes) == 1:
            evidence = "only_in_flight"
        elif self._timing.is_by_graph(tracks, odds, endpoint):
            evidence = "call_graph"
        else:
            evidence = "timing"
        confidence = self._timing.confidence(tracks, odds)
        if len(causes) > 1:
            confidence = self._calibration.corrected(confidence)
        elif confidence > MOST_ESTIMATED:
            confidence = MOST_ESTIMATED
        if confidence >= self._threshold:
            return Finding(causes[odds.best], evidence, confidence)
        return Finding(candidates=_ranked(causes, odds, evidence))


def _is_named_by_id(verdicts: list[Verdict]) -> bool:
    """Whether a request id names one request: nothing else has to be asked then."""
    return any(each.evidence == "request_id" and len(each.causes) == 1 for each in verdicts)


def _lean(odds: Odds, causes: Sequence[Cause], verdict: Verdict) -> None:
    """Let evidence count that is not certain: so likely it is one of these, otherwise another."""
    other = 1.0 - verdict.confidence
    odds.background *= other
    odds.any_time *= other
    total = odds.background
    for index in range(len(causes)):
        share = odds.shares[index]
        share *= verdict.confidence if causes[index] in verdict.causes else other
        odds.shares[index] = share
        total += share
    odds.background /= total
    odds.any_time /= total
    odds.best = 0
    for index in range(len(causes)):
        odds.shares[index] /= total
        if odds.shares[index] > odds.shares[odds.best]:
            odds.best = index


def _contradiction(candidates: list[Candidate], verdicts: list[Verdict]) -> Finding:
    for verdict in verdicts:
        for cause in verdict.causes[:MAX_CANDIDATES]:
            candidates.append(Candidate(cause, verdict.evidence, 0.0))
    return Finding(candidates=candidates[:MAX_CANDIDATES], contradiction=True)


def _ranked(causes: Sequence[Cause], odds: Odds, evidence: str) -> list[Candidate]:
    """The likeliest requests; equally likely ones, the newest first."""
    found: list[Candidate] = []
    for index in range(len(causes) - 1, -1, -1):
        share = odds.shares[index]
        at = len(found)
        while at > 0 and found[at - 1].confidence < share:
            at -= 1
        if at < MAX_CANDIDATES:
            found.insert(at, Candidate(causes[index], evidence, share))
            if len(found) > MAX_CANDIDATES:
                found.pop()
    return found
