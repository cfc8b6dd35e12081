"""Recorded requests and calls with their truth, and ways to make them harder.

A set is a CSV file (may be gzipped) with the columns of `Row`. `Row.caused_by` and `Row.trace` are
the truth: what judges may read, and what must never reach a linker (`without_truth`).
"""

from __future__ import annotations

import csv
import gzip
import os
import random
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]

VARIABLE = "MESHPROXY_CAUSALITY_DATA"
"""Environment variable that names the folder of the sets."""

DEFAULT = Path("../shared/data/causality")
"""The folder of the sets otherwise, relative to the repository's root."""

COLUMNS = ("start_us", "end_us", "service", "direction", "operation", "span", "caused_by", "trace")


class MissingDataError(Exception):
    """There are no sets where they are looked for; the message says where and what to do."""


class Row(NamedTuple):
    """One request that a service received (``in``) or one call that it made (``out``).

    ``operation`` is the route of a request, or the callee of a call. ``caused_by`` is the span of
    the request that caused a call; None for requests, and for calls that no request caused.
    Spans are unique within a set.
    """

    start_us: int
    end_us: int
    service: str
    direction: str
    operation: str
    span: str
    caused_by: str | None
    trace: str


def folder() -> Path:
    """Where the sets are."""
    return Path(os.environ.get(VARIABLE) or ROOT / DEFAULT)


def sets(where: Path | None = None) -> list[Path]:
    """The files of all sets in a folder (`folder` if None), by name.

    Raises MissingDataError when there are none.
    """
    where = where or folder()
    found = sorted([*where.glob("*.csv"), *where.glob("*.csv.gz")])
    if not found:
        raise MissingDataError(
            f"no sets (*.csv, *.csv.gz) in {where}: name another with {VARIABLE}"
        )
    return found


def name(path: Path) -> str:
    """What to call the set in a file."""
    return path.name.split(".csv")[0]


def load(path: Path) -> list[Row]:
    """Read a set, in the order of time. Raises MissingDataError when there is no such file.

    Some sets use the same span in many traces: spans are numbered anew where that is so.
    """
    if not path.exists():
        raise MissingDataError(f"{path}: no such file: name the folder of the sets with {VARIABLE}")
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", newline="", encoding="utf-8") as file:
        rows = in_order(_row(fields) for fields in csv.DictReader(file))
    return rows if len({row.span for row in rows}) == len(rows) else _numbered_anew(rows)


def _row(fields: dict[str, str]) -> Row:
    start, end, *names, caused_by, trace = (fields[column] for column in COLUMNS)
    service, direction, operation, span = names
    return Row(int(start), int(end), service, direction, operation, span, caused_by or None, trace)


def _numbered_anew(rows: list[Row]) -> list[Row]:
    spans = {(row.trace, row.span): str(number) for number, row in enumerate(rows)}
    return [
        row._replace(
            span=spans[row.trace, row.span],
            caused_by=spans[row.trace, row.caused_by] if row.caused_by else None,
        )
        for row in rows
    ]


def in_order(rows: Iterable[Row]) -> list[Row]:
    """Rows by start; what starts at the same moment, by end and span."""
    return sorted(rows, key=lambda row: (row.start_us, row.end_us, len(row.span), row.span))


def without_truth(rows: Iterable[Row]) -> list[Row]:
    """The same rows as a linker may see them."""
    return [row._replace(caused_by=None, trace="") for row in rows]


def compressed(rows: Iterable[Row], factor: float) -> list[Row]:
    """Let the traces start ``factor`` times as often; each trace keeps its durations and delays."""
    rows = list(rows)
    begins: dict[str, int] = {}
    for row in rows:
        begins[row.trace] = min(begins.get(row.trace, row.start_us), row.start_us)
    earlier = {trace: begin - int(begin / factor) for trace, begin in begins.items()}
    return in_order(
        row._replace(
            start_us=row.start_us - earlier[row.trace], end_us=row.end_us - earlier[row.trace]
        )
        for row in rows
    )


def with_skips(rows: Iterable[Row], share: float, seed: int) -> list[Row]:
    """Leave out a share of the calls with all that they caused, as a cache in the caller would.

    Which ones depends on the rows and the seed only.
    """
    rows = in_order(rows)
    answered_by = callees(rows)
    calls_of: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row.caused_by is not None:
            calls_of[row.caused_by].append(row)
    rng = random.Random(seed)
    skipped = [row.span for row in rows if row.direction == "out" and rng.random() < share]
    gone: set[str] = set()
    while skipped:
        call = skipped.pop()
        gone.add(call)
        request = answered_by.get(call)
        if request is not None and request not in gone:
            gone.add(request)
            skipped += [caused.span for caused in calls_of[request]]
    return [row for row in rows if row.span not in gone]


def callees(rows: Iterable[Row]) -> dict[str, str]:
    """For each call the span of the request that the callee received, where it was recorded.

    The sets do not say: it is the request of the same trace at the callee that is nearest in time.
    """
    calls: dict[tuple[str, str], list[Row]] = defaultdict(list)
    requests: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        if row.direction == "out":
            calls[row.trace, row.operation].append(row)
        else:
            requests[row.trace, row.service].append(row)
    found: dict[str, str] = {}
    for key, made in calls.items():
        pairs = sorted(
            (abs(call.start_us - got.start_us) + abs(call.end_us - got.end_us), call.span, got.span)
            for call in made
            for got in requests[key]
        )
        taken: set[str] = set()
        for _, call_span, request_span in pairs:
            if call_span not in found and request_span not in taken:
                found[call_span] = request_span
                taken.add(request_span)
    return found
