"""The figures of a run as Markdown tables, which can be read as they are, and as JSON."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

from loadtest.linking.live.judge import LATE, Judged
from loadtest.linking.live.registry import BY_NAME
from loadtest.linking.live.rig import Outcome
from loadtest.linking.live.score import Score, score
from loadtest.linking.live.targets import missed
from loadtest.report import EMPTY, date, machine, table

WHERE = ("service", "mix", "echo", "in flight")
FIGURES = (
    "calls", "links", "precision", "recall", "wrong", "wrong of all", "whole requests",
    "abstained", "true first", "ECE links", "ECE candidates", "evidence: right/links",
)  # fmt: skip

LEGEND = """\
A row counts all calls of its runs. Precision: right links by links. Recall, abstained and whole
requests: of the calls made for a request before it was answered. Wrong links: by all calls, also
those after the answer (`late`) and those that no request causes (`background`). True first: of the
abstained, the share whose first candidate is the true request. ECE: expected calibration error of
the confidence of links, and of candidates where nothing was linked."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run of the rig."""

    command: str
    elapsed: float
    outcomes: Sequence[Outcome]
    remarks: Sequence[str]


def text_of(run: Run) -> str:
    """All tables."""
    parts = [
        "## Live: which request caused this call?",
        f"`{run.command}`, {date()}, {run.elapsed:.0f} s. {machine()}.",
        _services(run.outcomes),
        LEGEND,
        "### By load",
        _by_case(run.outcomes),
        "### By behaviour, all loads together",
        _by_behaviour(run.outcomes),
        _by_echo(run.outcomes),
        "### Targets missed",
        _missed(run.outcomes),
        "### Confusing or false",
        _oddities(run.outcomes),
        "\n".join(f"- {remark}" for remark in [*run.remarks, *_failures(run.outcomes)]),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def json_of(run: Run) -> dict[str, object]:
    """Everything, down to each behaviour and way to echo of each case."""
    return {
        "command": run.command,
        "machine": machine(),
        "remarks": list(run.remarks),
        "cases": [_case_json(outcome) for outcome in run.outcomes],
    }


def _case_json(outcome: Outcome) -> dict[str, object]:
    calls = outcome.verdict.calls
    return {
        **asdict(outcome.case),
        "answered": outcome.sent.answered,
        "failures": Counter(outcome.sent.failures),
        "score": score(calls),
        "by_behaviour": _scores(calls, lambda each: each.told.behaviour),
        "by_echo": _scores(calls, lambda each: each.told.echo),
        "oddities": outcome.verdict.oddities,
        "examples": outcome.verdict.examples,
        "metrics": outcome.metrics,
    }


def _scores(calls: Iterable[Judged], key: Callable[[Judged], str]) -> dict[str, Score]:
    groups: defaultdict[str, list[Judged]] = defaultdict(list)
    for each in calls:
        groups[key(each)].append(each)
    return {name: score(group) for name, group in groups.items()}


def _services(outcomes: Iterable[Outcome]) -> str:
    names = dict.fromkeys(outcome.case.service for outcome in outcomes)
    return "\n".join(f"- {name}: {BY_NAME[name].about}" for name in names)


def _by_case(outcomes: Iterable[Outcome]) -> str:
    rows = [[*_where(outcome), *_figures(score(outcome.verdict.calls))] for outcome in outcomes]
    return table([*WHERE, *FIGURES], rows)


def _where(outcome: Outcome) -> list[str]:
    case = outcome.case
    return [case.service, case.mix, f"{case.echo} %", case.load]


def _by_behaviour(outcomes: Iterable[Outcome]) -> str:
    groups: defaultdict[tuple[str, str, int], list[Judged]] = defaultdict(list)
    for outcome in outcomes:
        case = outcome.case
        for each in outcome.verdict.calls:
            groups[case.service, each.told.behaviour, case.echo].append(each)
    order = _order(outcome.case.service for outcome in outcomes)
    keys = sorted(groups, key=lambda key: (order[key[0]], *key[1:]))
    rows = [
        [service, behaviour, f"{echo} %", *_figures(score(groups[service, behaviour, echo]))]
        for service, behaviour, echo in keys
    ]
    return table(["service", "behaviour", "echo", *FIGURES], rows)


def _by_echo(outcomes: Iterable[Outcome]) -> str:
    """Only calls of requests not answered yet; without those of runs where nothing echoes."""
    calls = [
        each
        for outcome in outcomes
        if outcome.case.echo
        for each in outcome.verdict.calls
        if each.told.caused and each.told.behaviour != LATE
    ]
    scores = _scores(calls, lambda each: each.told.echo)
    rows = [[name, *_figures(scores[name])] for name in sorted(scores)]
    title = "### By what a call echoes, all services together"
    return f"{title}\n\n{table(['echo', *FIGURES], rows)}" if rows else ""


def _figures(figures: Score) -> list[str]:
    evidence = [f"{name or '?'} {r}/{n}" for name, (n, r) in figures.evidence.items()]
    return [
        str(figures.calls),
        str(figures.linked),
        _percent(figures.precision),
        _percent(figures.recall),
        str(figures.wrong),
        _percent(figures.wrong_share),
        _percent(figures.whole_share),
        _percent(figures.abstained_share),
        _percent(figures.top_share),
        _error(figures.link_error),
        _error(figures.candidate_error),
        ", ".join(evidence) or EMPTY,
    ]


def _missed(outcomes: Iterable[Outcome]) -> str:
    rows = [
        [*_where(outcome), "; ".join(found)]
        for outcome in outcomes
        if (found := list(missed(outcome.case, outcome.verdict.calls)))
    ]
    return table([*WHERE, "what"], rows) or "None."


def _oddities(outcomes: Iterable[Outcome]) -> str:
    """How often spans contradict themselves, each other or the truth, beside wrong links."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for outcome in outcomes:
        for oddity, count in outcome.verdict.oddities.items():
            counts[oddity][outcome.case.service] += count
    rows = [
        [oddity, str(found.total()), ", ".join(f"{n} {c}" for n, c in found.most_common())]
        for oddity, found in sorted(counts.items(), key=lambda item: -item[1].total())
    ]
    return table(["what", "calls", "in"], rows) or "Nothing."


def _failures(outcomes: Iterable[Outcome]) -> list[str]:
    lines = []
    for outcome in outcomes:
        case = outcome.case
        where = f"{case.service}, {case.mix}, echo {case.echo} %, {case.load} in flight"
        for failure, count in Counter(outcome.sent.failures).items():
            lines.append(f"{where}: {count} requests failed: {failure}")
        dropped = sum(v for k, v in outcome.metrics.items() if "spans_dropped" in k)
        if dropped:
            lines.append(f"{where}: {dropped:.0f} spans dropped")
    return lines


def _order(names: Iterable[str]) -> Mapping[Hashable, int]:
    return {name: place for place, name in enumerate(dict.fromkeys(names))}


def _percent(share: float | None) -> str:
    return EMPTY if share is None else f"{share:.2%}"


def _error(error: float | None) -> str:
    return EMPTY if error is None else f"{error:.3f}"
