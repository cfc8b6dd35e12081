"""``meshproxy gaps``: what a sidecar's ``/gaps`` tells, for people and for scripts."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

OK, FAILED = 0, 1

FETCH_TIMEOUT = 5.0
"""Seconds in which a sidecar has to say something."""

FETCH_LIMIT = 16 << 20
"""Bytes of an answer that are read."""

PARAGRAPH = 100
"""Columns of running text at most."""

LONGEST_CELL = 120
NARROWEST = 8
"""Columns that a text keeps when the terminal is too narrow for the table."""

COLUMNS = (
    ("SERVICE", "<"),
    ("ROUTE", "<"),
    ("DESTINATION", "<"),
    ("KIND", "<"),
    ("CALLS", ">"),
    ("SHARE", ">"),
    ("EVIDENCE", "<"),
    ("NOTE", "<"),
)
"""Titles and alignments."""

SHRINKING = ("SERVICE", "ROUTE", "DESTINATION", "EVIDENCE")
"""Columns that may be cut."""

Gaps = list[dict[str, Any]]


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command with its options."""
    gaps = commands.add_parser("gaps", help="show where a service loses trace context")
    gaps.add_argument("--sidecar", metavar="URL", help="a sidecar's admin address (admin.listen)")
    gaps.add_argument("--json", action="store_true", help="print JSON")
    gaps.set_defaults(misused=gaps.error)


def run(options: argparse.Namespace) -> int:
    """Ask the sidecar and print its report; raises SystemExit when it is not said which one."""
    if not options.sidecar:
        options.misused("which sidecar? for example: --sidecar http://127.0.0.1:15000")
    try:
        found = fetch(options.sidecar)
    except ValueError as error:
        print(f"meshproxy: {error}", file=sys.stderr)
        return FAILED
    if options.json:
        print(json.dumps({"gaps": found}, indent=2))
    elif found:
        width = shutil.get_terminal_size((0, 0)).columns  # 0: no terminal, so no limit
        print(*report(found, width), sep="\n")
    else:
        print("no gaps: every call that the sidecar saw carried its trace context")
    return OK


def fetch(url: str) -> Gaps:
    """The gaps that the sidecar with its admin endpoints at ``url`` has counted.

    Raises ValueError, with a message for people, when they cannot be had.
    """
    from http.client import HTTPException
    from urllib.error import HTTPError
    from urllib.request import ProxyHandler, build_opener

    base = (url if "://" in url else f"http://{url}").rstrip("/")
    if not base.startswith(("http://", "https://")):
        raise ValueError(f"{url} is not an http:// or https:// URL")
    # Never through HTTP_PROXY: that may be the very sidecar that is asked.
    opener = build_opener(ProxyHandler({}))
    try:
        with opener.open(f"{base}/gaps", timeout=FETCH_TIMEOUT) as response:
            body = response.read(FETCH_LIMIT)
    except HTTPError as error:
        raise ValueError(f"{base}/gaps answers {error.code}: is it a sidecar?") from None
    except (OSError, HTTPException, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise ValueError(f"no sidecar to be reached at {base}: {reason}") from None
    return _read(body, base)


def _read(body: bytes, base: str) -> Gaps:
    try:
        found = json.loads(body)["gaps"]
        usable = isinstance(found, list) and all(isinstance(gap, dict) for gap in found)
    except (ValueError, LookupError, TypeError, RecursionError):
        usable = False
    if not usable:
        raise ValueError(f"{base}/gaps does not answer as a sidecar does")
    return list(found)


def report(found: Gaps, width: int) -> Iterator[str]:
    """The lines of the table, and of a note for each kind and advice; ``width`` 0: no limit."""
    notes: dict[tuple[str, str], Gaps] = {}
    numbers: dict[tuple[str, str], int] = {}
    rows = []
    for gap in found:
        key = (_cell(gap.get("kind")), _cell(gap.get("advice"), sys.maxsize))
        notes.setdefault(key, []).append(gap)
        rows.append(_row(gap, numbers.setdefault(key, len(numbers) + 1)))
    yield from _table(rows, width)
    yield from ("", "What to change:")
    for number, ((kind, advice), gaps) in enumerate(notes.items(), 1):
        yield from _paragraph(f"[{number}] ", f"{kind}: {advice}", width)
        yield from _paragraph("    ", f"example traces: {_examples(gaps)}", width)


def _row(gap: dict[str, Any], number: int) -> list[str]:
    names = [_cell(gap.get(key)) for key in ("service", "route", "destination", "kind")]
    calls = "/".join(_cell(gap.get(key)) for key in ("count", "calls"))
    share, evidence = _share(gap.get("share")), _evidence(gap.get("evidence"))
    return [*names, calls, share, evidence, f"[{number}]"]


def _share(share: object) -> str:
    if not isinstance(share, int | float):
        return "-"
    return "<1%" if 0 < share < 0.01 else f"{share:.0%}"


def _evidence(evidence: object) -> str:
    if not isinstance(evidence, dict):
        return _cell(evidence)
    return _cell(", ".join(f"{name} {count}" for name, count in evidence.items()))


def _examples(gaps: Gaps, most: int = 3) -> str:
    """The newest trace of each row first: rows differ in what there is to see."""
    listed = [ids for gap in gaps if isinstance(ids := gap.get("example_trace_ids"), list)]
    ranks = range(max(map(len, listed), default=0))
    found = dict.fromkeys(_cell(ids[rank]) for rank in ranks for ids in listed if rank < len(ids))
    return " ".join([*found][:most]) or "-"


def _cell(value: object, most: int = LONGEST_CELL) -> str:
    """``value`` for a terminal: one line, without control characters, cut when it is long."""
    text = "-" if value is None or value == "" else str(value)
    return _cut("".join(c if c.isprintable() else "?" for c in text), most)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _paragraph(begin: str, text: str, width: int) -> list[str]:
    columns = max(min(width or PARAGRAPH, PARAGRAPH), 2 * len(begin) + NARROWEST)
    return textwrap.wrap(
        text, columns, initial_indent=begin, subsequent_indent=" " * len(begin),
        break_on_hyphens=False,
    )  # fmt: skip


def _table(rows: Sequence[Sequence[str]], width: int) -> Iterator[str]:
    lines = [[title for title, _ in COLUMNS], *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    if width:
        _fit(widths, width)
    for line in lines:
        yield "  ".join(
            format(_cut(text, size), f"{align}{size}")
            for text, (_, align), size in zip(line, COLUMNS, widths, strict=True)
        ).rstrip()


def _fit(widths: list[int], width: int) -> None:
    """Take columns from the widest texts until the table fits, or nothing more can be taken."""
    indexes = [i for i, (title, _) in enumerate(COLUMNS) if title in SHRINKING]
    while sum(widths) + 2 * (len(widths) - 1) > width:
        widest = max(indexes, key=lambda i: widths[i])
        if widths[widest] <= NARROWEST:
            return
        widths[widest] -= 1
