"""Replays recorded requests and calls through the sidecar's linker, as they would have come.

    python -m loadtest.linking.online [--sets hotel_load100,...] [--quick] [--results]

The linker is given no header, body or process: what it says is from being alone, from the call
graph and from timing. The second half of each set, in time, is judged; the first is for learning.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence

from loadtest import report
from loadtest.linking import data
from loadtest.linking.data import Row
from loadtest.linking.score import COLUMNS, Guess, Score
from meshproxy.linking import timing
from meshproxy.linking.call import Call, Decision
from meshproxy.linking.inflight import Cause, InFlight
from meshproxy.linking.judge import Knowledge
from meshproxy.linking.linker import Linker
from meshproxy.linking.owners import OwnerEvidence
from meshproxy.linking.ownership import NoLookup
from meshproxy.trace.context import SAMPLED, SpanContext

TITLE = "## Linking recorded calls online, from being alone, the call graph and timing"

CASES = [(factor, share) for factor in (1, 2, 4, 8, 16) for share in (0.0, 0.2, 0.5)]
"""By how much time is compressed, and which share of calls is skipped."""

THRESHOLD = 0.99
MEMORY = 2**24
OPENED, CALLED, ANSWERED, CLOSED = range(4)
"""Events of one moment happen in this order."""


class Replay:
    """One service's sidecar."""

    def __init__(self) -> None:
        self._inflight = InFlight()
        owners = OwnerEvidence(NoLookup(), time.monotonic)
        self._linker = Linker(self._inflight, Knowledge(bytes(16), MEMORY), owners, THRESHOLD)
        self._causes: dict[str, Cause] = {}
        self._spans: dict[Cause, str] = {}
        self._decisions: dict[str, Decision] = {}
        self.guesses: list[Guess] = []
        self.seconds = 0.0

    def run(self, rows: Sequence[Row]) -> None:
        """Everything that happened at the service."""
        events: list[tuple[int, int, int]] = []
        for number, row in enumerate(rows):
            opened, closed = (OPENED, CLOSED) if row.direction == "in" else (CALLED, ANSWERED)
            events.append((row.start_us, opened, number))
            events.append((row.end_us, closed, number))
        for moment, event, number in sorted(events):
            self._happened(moment * 1000, event, rows[number])

    def _happened(self, now_ns: int, event: int, row: Row) -> None:
        if event == OPENED:
            identity = int(row.span) + 1
            context = SpanContext(
                identity.to_bytes(16, "big"), identity.to_bytes(8, "big"), SAMPLED
            )
            cause = self._causes[row.span] = Cause(context, row.operation, now_ns)
            self._spans[cause] = row.span
            self._linker.begin(cause, now_ns)
        elif event == CLOSED:
            cause = self._causes.pop(row.span)
            self._linker.end(cause, now_ns)
            del self._spans[cause]
        elif event == CALLED:
            self._call(now_ns, row)
        else:
            self._linker.answered(self._decisions.pop(row.span), now_ns)

    def _call(self, now_ns: int, row: Row) -> None:
        call = Call(now_ns=now_ns, destination=row.operation, operation="")
        in_flight = len(self._inflight)
        before = time.perf_counter()
        decision = self._decisions[row.span] = self._linker.link(call)
        self.seconds += time.perf_counter() - before
        best, confidence = "", 0.0
        if decision.cause is not None:
            best, confidence = self._spans[decision.cause], decision.confidence
        elif decision.candidates:
            first = decision.candidates[0]
            best, confidence = self._spans[first.cause], first.confidence
        self.guesses.append(Guess(row, best, confidence, decision.cause is not None, in_flight))


def replay(rows: Iterable[Row]) -> tuple[list[Guess], float]:
    """What the linkers of all services say of all calls, and the seconds that they took."""
    services: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        services[row.service].append(row)
    guesses: list[Guess] = []
    seconds = 0.0
    for of_service in services.values():
        one = Replay()
        one.run(of_service)
        guesses += one.guesses
        seconds += one.seconds
    return guesses, seconds


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sets", help="names, separated by commas")
    parser.add_argument("--quick", action="store_true", help="few compressions and skips")
    parser.add_argument("--results", action="store_true", help="write it to RESULTS.md")
    options = parser.parse_args()
    wanted = options.sets.split(",") if options.sets else None
    cases = [(1, 0.0), (4, 0.0)] if options.quick else CASES
    lines: list[list[str]] = []
    try:
        paths = data.sets()
    except data.MissingDataError as error:
        print(f"online: {error}", file=sys.stderr)
        return 1
    print(" | ".join(COLUMNS))
    for path in paths:
        if wanted is None or data.name(path) in wanted:
            rows = data.load(path)
            for factor, share in cases:
                harder = data.with_skips(data.compressed(rows, factor), share, seed=1)
                guesses, seconds = replay(harder)
                lines.append(Score(harder, guesses, seconds).cells(data.name(path), factor, share))
                print(" | ".join(lines[-1]), flush=True)
    if options.results:
        form = "plain" if timing.__file__.endswith(".py") else "compiled"
        intro = f"`python -m loadtest.linking.online`, {report.date()}, linking {form}."
        report.write("linking-online", f"{TITLE}\n\n{intro}\n\n{report.table(COLUMNS, lines)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
