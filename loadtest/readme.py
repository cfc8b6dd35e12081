"""Copies the figures of RESULTS.md that a reader wants first into the README.

.venv/bin/python -m loadtest.readme
"""

from __future__ import annotations

import re
from pathlib import Path

from loadtest.report import NOT_QUIET, RESULTS

README = Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- cost -->", "<!-- /cost -->"

COLUMNS = {
    "Proxy": "Proxy",
    "CPU µs a request": "CPU µs a request",
    "× envoy-traced": "× traced Envoy",
    "RSS MiB": "RSS MiB",
    "p50 added µs at 1000/s": "p50 added µs",
    "p99 added µs": "p99 added µs",
    "1 MB: MB/s": "1 MB body, MB/s",
}
"""Titles there (the first column of that title) and here."""


def cost(results: str) -> str:
    """The run's command and date, and the table with fewer columns. Raises ValueError without."""
    section = re.search(r"<!-- begin bench -->\n(.*?)<!-- end bench -->", results, flags=re.S)
    run = section and re.search(r"^(`python -m loadtest\.bench.*?`, .*? UTC)", section[1], re.M)
    table = section and re.search(r"^\| Proxy .*?$((?:\n\|.*)+)", section[1], re.M)
    if section is None or run is None or table is None:
        raise ValueError("no complete run in the results: run make bench")
    titles, _, *rows = [_cells(line) for line in table[0].splitlines()]
    at = [titles.index(title) for title in COLUMNS]
    body = [[re.sub(r" *\(.*?\)", "", row[index]) for index in at] for row in rows]
    lines = [
        f"{run[1]}; medians, the extremes are in [loadtest/RESULTS.md](loadtest/RESULTS.md).",
        "",
        _row(list(COLUMNS.values())),
        _row(["---", *["---:"] * (len(COLUMNS) - 1)]),
        *map(_row, body),
    ]
    if NOT_QUIET in section[1]:
        lines += ["", NOT_QUIET]
    return "\n".join(lines) + "\n"


def inserted(readme: str, text: str) -> str:
    """``readme`` with ``text`` between the markers."""
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"no {BEGIN} … {END} in the README")
    return f"{before}{BEGIN}\n{text}{END}{after}"


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    README.write_text(inserted(README.read_text(), cost(RESULTS.read_text())))
