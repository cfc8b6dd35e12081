"""Figures of judged calls. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from loadtest.linking.live.judge import BACKGROUND, LATE, Fate, Judged

EDGES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.995, 0.999)
"""Where the bins of the calibration error begin; finer where links are injected."""


@dataclass(frozen=True, slots=True)
class Score:
    """Of a set of calls. Shares are None where there is nothing to divide by."""

    calls: int
    caused: int
    """Calls made for a request before it was answered."""
    late: int
    background: int
    linked: int
    right: int
    wrong: int
    abstained: int
    lost: int
    precision: float | None
    """Right links by all links."""
    recall: float | None
    """Right links by calls, of those in ``caused``."""
    wrong_share: float | None
    """Wrong links by all calls."""
    abstained_share: float | None
    """Of those in ``caused``."""
    whole_share: float | None
    """Requests of which all calls in ``caused`` are right."""
    top_share: float | None
    """Of the abstained in ``caused``: the true request is the first candidate."""
    link_error: float | None
    """Expected calibration error of ``meshproxy.link.confidence`` of the links."""
    candidate_error: float | None
    """The same for ``link.confidence`` of the candidates of calls that were not linked."""
    evidence: dict[str, tuple[int, int]]
    """By evidence: links, and how many are right."""


def score(calls: Sequence[Judged]) -> Score:
    """The figures of some calls."""
    caused = [each for each in calls if each.told.caused and each.told.behaviour != LATE]
    fates = Counter(each.fate for each in calls)
    fates_of_caused = Counter(each.fate for each in caused)
    linked = fates[Fate.RIGHT] + fates[Fate.WRONG]
    abstained = [each for each in caused if each.fate is Fate.ABSTAINED]
    return Score(
        calls=len(calls),
        caused=len(caused),
        late=sum(each.told.behaviour == LATE for each in calls),
        background=sum(each.told.behaviour == BACKGROUND for each in calls),
        linked=linked,
        right=fates[Fate.RIGHT],
        wrong=fates[Fate.WRONG],
        abstained=fates[Fate.ABSTAINED],
        lost=fates[Fate.LOST],
        precision=_share(fates[Fate.RIGHT], linked),
        recall=_share(fates_of_caused[Fate.RIGHT], len(caused)),
        wrong_share=_share(fates[Fate.WRONG], len(calls)),
        abstained_share=_share(len(abstained), len(caused)),
        whole_share=_whole(caused),
        top_share=_share(sum(each.right_rank == 1 for each in abstained), len(abstained)),
        link_error=calibration_error(
            (each.confidence, each.fate is Fate.RIGHT)
            for each in calls
            if each.confidence is not None
        ),
        candidate_error=calibration_error(
            pair for each in calls if each.fate is Fate.ABSTAINED for pair in each.confidences
        ),
        evidence=_by_evidence(calls),
    )


def calibration_error(pairs: Iterable[tuple[float, bool]]) -> float | None:
    """Expected calibration error: how far claimed confidence is from the share that is right.

    The mean over bins of confidence, weighted by how many fall into each; None without pairs.
    """
    bins: defaultdict[int, list[tuple[float, bool]]] = defaultdict(list)
    for confidence, right in pairs:
        bins[bisect_right(EDGES, confidence)].append((confidence, right))
    total = sum(map(len, bins.values()))
    if not total:
        return None
    gaps = (abs(sum(c for c, _ in each) - sum(r for _, r in each)) for each in bins.values())
    return sum(gaps) / total


def _whole(caused: Iterable[Judged]) -> float | None:
    whole: dict[str, bool] = {}
    for each in caused:
        right = each.fate is Fate.RIGHT
        whole[each.told.inbound] = whole.get(each.told.inbound, True) and right
    return _share(sum(whole.values()), len(whole))


def _by_evidence(calls: Iterable[Judged]) -> dict[str, tuple[int, int]]:
    links: Counter[str] = Counter()
    right: Counter[str] = Counter()
    for each in calls:
        if each.fate in (Fate.RIGHT, Fate.WRONG):
            links[each.evidence] += 1
            right[each.evidence] += each.fate is Fate.RIGHT
    return {name: (count, right[name]) for name, count in links.most_common()}


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
