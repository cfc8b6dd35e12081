"""Requests and calls as CSV: columns in, the same columns and the parents out."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import IO, Final

from meshproxy.linking.stitch import IN, OUT, Link, Observation
from meshproxy.stitching.source import Source, UnusableError

REQUIRED: Final = ("start_us", "end_us", "service", "direction", "operation", "span")
"""Columns that must be there. ``caused_by`` is an old parent; it is never used to decide."""

ADDED: Final = ("parent", "evidence", "confidence", "old_parent")

Warn = Callable[[str], None]
Row = list[str]


class Table:
    """The rows of a CSV file, as they came."""

    def __init__(self, header: Row, rows: list[Row], skipped: int) -> None:
        self.skipped = skipped
        self._header = header
        self._rows = rows
        self._place = {name: header.index(name) for name in reversed(header)}

    def observations(self) -> list[Observation]:
        """What is to be stitched; the key of each is the number of its row."""
        at = self._place
        start, end, span = at["start_us"], at["end_us"], at.get("caused_by")
        return [
            Observation(
                key=str(number),
                service=row[at["service"]],
                direction=row[at["direction"]],
                operation=row[at["operation"]],
                start_ns=int(row[start]) * 1000,
                end_ns=int(row[end]) * 1000,
                old_parent=row[span] if span is not None else None,
            )
            for number, row in enumerate(self._rows)
        ]

    def write(self, links: Iterable[Link], out: IO[bytes]) -> None:
        """Write all rows in the order they came; a call has its likeliest parent, however sure."""
        by_row = {int(link.key): link for link in links}
        out.write(_line([*self._header, *ADDED]))
        for number, row in enumerate(self._rows):
            link = by_row.get(number)
            out.write(_line([*row, *(self._added(link) if link else [""] * len(ADDED))]))

    def _added(self, link: Link) -> Row:
        span = "" if link.parent is None else self._rows[int(link.parent)][self._place["span"]]
        return [span, link.evidence, f"{link.confidence:.4f}", link.old_parent or ""]


def read(source: Source, warn: Warn) -> Table:
    """Read a table. A last line that is not complete is skipped with a warning.

    Raises UnusableError for any other line that is no row, and for columns that are missing.
    """
    complete = _Completeness()
    reader = csv.reader(complete.watch(_text(source)), strict=True)
    try:
        header = next(reader, [])
        _check_header(source.name, header)
        rows: list[Row] = []
        for row in reader:
            mistake = _mistake(header, row)
            if mistake and complete.ended:
                raise UnusableError(f"{source.name}:{reader.line_num}: {mistake}")
            if mistake:
                warn(f"{source.name}:{reader.line_num}: the last line is not complete: skipped")
                return Table(header, rows, 1)
            if row:
                rows.append(row)
    except csv.Error as error:
        raise UnusableError(f"{source.name}:{reader.line_num}: {error}") from error
    return Table(header, rows, 0)


class _Completeness:
    """Remembers whether the last line that was read had an end."""

    ended = True

    def watch(self, lines: Iterator[str]) -> Iterator[str]:
        for line in lines:
            self.ended = line.endswith("\n")
            yield line


def _text(source: Source) -> Iterator[str]:
    for number, line in enumerate(source.lines(), 1):
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError:
            raise UnusableError(f"{source.name}:{number}: not UTF-8") from None


def _check_header(name: str, header: Row) -> None:
    missing = [column for column in REQUIRED if column not in header]
    if missing:
        raise UnusableError(
            f"{name}:1: neither OTLP JSON lines nor CSV: no column {', '.join(missing)}"
        )


def _mistake(header: Row, row: Row) -> str:
    if not row:
        return ""
    if len(row) != len(header):
        return f"{len(row)} columns where the first line has {len(header)}"
    for column in ("start_us", "end_us"):
        text = row[header.index(column)]
        try:
            int(text)
        except ValueError:
            return f'{column} is no whole number: "{text}"'
    direction = row[header.index("direction")]
    return "" if direction in (IN, OUT) else f'direction is neither in nor out: "{direction}"'


class _Lines:
    """Takes what csv writes."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> None:
        self.text = text


_taken = _Lines()
_writer = csv.writer(_taken, lineterminator="\n")


def _line(row: Row) -> bytes:
    _writer.writerow(row)
    return _taken.text.encode()


def first_line(source: Source) -> bytes:
    """The first line that is not blank; nothing if there is none."""
    return next(islice((line for line in source.lines() if line.strip()), 1), b"")
