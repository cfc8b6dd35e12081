"""What the project wants to reach, and which cases miss it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from loadtest.linking.live.cases import Case
from loadtest.linking.live.judge import Judged
from loadtest.linking.live.score import Score, score

PRECISION = 0.99
"""At the injection threshold, everywhere."""
WRONG_SHARE = 0.005
OFF_THREAD = ("pool", "threads-shared", "asyncio", "node")
"""Where the thread or the connection of a call tells nothing."""

CERTAIN_PRECISION = 0.999
RECALL = {"prefork": 0.99, "prefork-close": 0.99, "gunicorn": 0.99}
"""Of the plain mix."""
THREAD_RECALL = {"threads": 0.90, "threads-close": 0.90}
"""Of the plain mix, of the calls that a request's own thread makes."""
OWN_THREAD = "seq"


def missed(case: Case, calls: Sequence[Judged]) -> Iterator[str]:
    """The targets that the calls of a case miss, in words."""
    figures = score(calls)
    plain = case.mix == "plain"
    certain = plain and case.service in (*RECALL, *THREAD_RECALL)
    target = CERTAIN_PRECISION if certain else PRECISION
    counts = f" ({figures.wrong} wrong of {figures.linked})"
    yield from _below("precision", figures.precision, target, counts)
    if case.service in OFF_THREAD and (figures.wrong_share or 0.0) > WRONG_SHARE:
        yield f"wrong links {figures.wrong_share:.2%} of all calls, over {WRONG_SHARE:.2%}"
    if plain and case.service in RECALL:
        yield from _below("recall", figures.recall, RECALL[case.service])
    if plain and case.service in THREAD_RECALL:
        own = _of_own_thread(calls)
        yield from _below(f"recall of {OWN_THREAD}", own.recall, THREAD_RECALL[case.service])


def _of_own_thread(calls: Sequence[Judged]) -> Score:
    return score([each for each in calls if each.told.behaviour == OWN_THREAD])


def _below(name: str, share: float | None, target: float, counts: str = "") -> Iterator[str]:
    if share is not None and share < target:
        yield f"{name} {share:.2%}{counts}, below {target:.2%}"
