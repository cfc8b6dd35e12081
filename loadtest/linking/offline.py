"""Measures the offline stitcher: ``python -m loadtest.linking.offline [--quick] [SET …]``.

Every set, with time compressed and calls skipped. The stitcher sees no truth; here it is judged by
it. "traces" is the share of traces in which each call has its right parent, whatever the
confidence; the second figure leaves services out in which most requests make no call at all.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from loadtest import report
from loadtest.linking import data
from loadtest.linking.baselines import RULES, choose
from loadtest.linking.data import Row
from meshproxy.linking.stitch import Link, Observation, lattice, stitch

TITLE = "## Linking recorded calls offline"

THRESHOLD = 0.95
FACTORS = (1, 2, 4, 8, 16)
SKIPS = (0.0, 0.2, 0.5)
SEED = 1
BINS = 20

HEAD = "set             speed skip |  links  right  wrong   ECE traces  (most call)  spans/s |"


@dataclass(frozen=True, slots=True)
class Score:
    """Shares: calls linked, links right, calls linked wrongly, traces right, traces comparable.

    ``calibration`` is the expected calibration error of the confidence of all best parents.
    """

    coverage: float
    precision: float
    wrong: float
    calibration: float
    traces: float
    comparable: float


def main() -> int:
    """Print the table; the exit code says whether there was data."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sets", metavar="SET", nargs="*", help="only sets whose name begins so")
    parser.add_argument("--data", type=Path, help=f"folder of the sets (default: ${data.VARIABLE})")
    parser.add_argument(
        "--quick", action="store_true", help="as recorded, and x4 with 20 %% skipped"
    )
    parser.add_argument("--results", action="store_true", help="write it to RESULTS.md")
    options = parser.parse_args()
    try:
        paths = data.sets(options.data)
    except data.MissingDataError as error:
        print(error, file=sys.stderr)
        return 1
    wanted = tuple(options.sets) or ("",)
    cases = [(1, 0.0), (4, 0.2)] if options.quick else [(f, s) for f in FACTORS for s in SKIPS]
    lines = [f"{HEAD} {'  '.join(f'{rule:>10}' for rule in RULES)}"]
    print(lines[0])
    for path in paths:
        if data.name(path).startswith(wanted):
            rows = data.load(path)
            for factor, skip in cases:
                case = data.with_skips(data.compressed(rows, factor), skip, SEED)
                lines.append(f"{data.name(path):15} {f'x{factor}':>5} {skip:>4.0%} | {line(case)}")
                print(lines[-1], flush=True)
    if options.results:
        form = "plain" if lattice.__file__.endswith(".py") else "compiled"
        intro = f"`python -m loadtest.linking.offline`, {report.date()}, stitcher {form}."
        table = "\n".join(lines)
        report.write("linking-offline", f"{TITLE}\n\n{intro}\n\n```\n{table}\n```")
    return 0


def line(rows: Sequence[Row]) -> str:
    """The figures of one case: the stitcher's, then the share of traces right of the baselines."""
    links, seconds = stitched(rows)
    score = judge(rows, {link.key: (link.parent, link.confidence) for link in links})
    figures = (
        f"{score.coverage:6.1%} {score.precision:6.1%} {score.wrong:6.2%} {score.calibration:5.3f} "
        f"{score.traces:6.1%} {score.comparable:9.1%} {len(rows) / seconds:12,.0f} |"
    )
    others = [
        judge(rows, {key: (parent, 1.0) for key, parent in chosen(rows, rule).items()})
        for rule in RULES
    ]
    return f"{figures} {'  '.join(f'{other.traces:10.1%}' for other in others)}"


def stitched(rows: Sequence[Row]) -> tuple[list[Link], float]:
    """What the stitcher finds, and the processor time it took."""
    observations = [
        Observation(
            key=row.span,
            service=row.service,
            direction=row.direction,
            operation=row.operation,
            start_ns=row.start_us * 1000,
            end_ns=row.end_us * 1000,
        )
        for row in data.without_truth(rows)
    ]
    begin = time.process_time()
    links = stitch(observations)
    return links, max(time.process_time() - begin, 1e-6)


def chosen(rows: Sequence[Row], rule: str) -> dict[str, str | None]:
    """What a baseline finds."""
    services: dict[str, list[Row]] = defaultdict(list)
    for row in data.without_truth(rows):
        services[row.service].append(row)
    found: dict[str, str | None] = {}
    for of_service in services.values():
        found.update(choose(of_service, RULES[rule], offline=True))
    return found


def judge(rows: Sequence[Row], found: Mapping[str, tuple[str | None, float]]) -> Score:
    """Compare with the truth the parent and confidence of each call."""
    calls = [row for row in rows if row.direction == "out"]
    best = [(row, *found[row.span]) for row in calls]
    right = {row.span: parent == row.caused_by for row, parent, _ in best}
    sure = [row for row, parent, confidence in best if parent and confidence >= THRESHOLD]
    correct = sum(right[row.span] for row in sure)
    traces = {row.trace for row in rows}
    seldom = seldom_calling(rows)
    return Score(
        coverage=len(sure) / max(1, len(calls)),
        precision=correct / max(1, len(sure)),
        wrong=(len(sure) - correct) / max(1, len(calls)),
        calibration=calibration_error((c, right[row.span]) for row, parent, c in best if parent),
        traces=1 - len({row.trace for row in calls if not right[row.span]}) / len(traces),
        comparable=1
        - len({r.trace for r in calls if not right[r.span] and r.service not in seldom})
        / len(traces),
    )


def seldom_calling(rows: Sequence[Row]) -> set[str]:
    """Services that call, but not in most of their requests.

    The figures published for other tools on these sets leave them out.
    """
    causes = {row.caused_by for row in rows if row.caused_by}
    requests = Counter(row.service for row in rows if row.direction == "in")
    calling = Counter(row.service for row in rows if row.span in causes)
    return {service for service, count in requests.items() if calling[service] < count / 2}


def calibration_error(judged: Iterable[tuple[float, bool]]) -> float:
    """The expected calibration error over bins of equal width of the confidence."""
    count: Counter[int] = Counter()
    excess: dict[int, float] = defaultdict(float)
    for confidence, right in judged:
        number = min(BINS - 1, int(confidence * BINS))
        count[number] += 1
        excess[number] += confidence - right
    return sum(map(abs, excess.values())) / max(1, sum(count.values()))


if __name__ == "__main__":
    sys.exit(main())
