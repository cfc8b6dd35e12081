"""From links to spans: new parents, new trace ids for all below them, links where unsure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import IO, Any, Final

import msgspec

from meshproxy.linking.stitch import Candidate, Link
from meshproxy.stitching.source import Source
from meshproxy.stitching.spans import (
    CONFIDENCE,
    EVIDENCE,
    INBOUND,
    PROPAGATION,
    Json,
    Record,
    Recording,
    SpanId,
    decode,
    spans_of,
)

OLD_TRACE: Final = "meshproxy.link.old_trace_id"
OLD_PARENT: Final = "meshproxy.link.old_parent_span_id"

_MAX_LINKS: Final = 8


class Mending:
    """What changes in which span, by the span's number in the file."""

    def __init__(
        self, recording: Recording, links: Iterable[Link], open_calls: set[str], threshold: float
    ) -> None:
        self._bad = recording.bad
        self._lines = recording.lines
        self._records = {record.number: record for record in recording.records}
        self._parents: dict[int, Link] = {}
        self._unsure: dict[int, Link] = {}
        for link in links:
            if link.key not in open_calls:
                continue
            if link.parent is not None and link.confidence >= threshold:
                self._parents[int(link.key)] = link
            elif link.candidates:
                self._unsure[int(link.key)] = link
        self._traces = self._moves(recording.records)

    @property
    def mended(self) -> int:
        """Calls that get a parent."""
        return len(self._parents)

    @property
    def unsure(self) -> int:
        """Calls that get links to candidates."""
        return len(self._unsure)

    def _moves(self, records: list[Record]) -> dict[int, str]:
        """The trace id of every span after mending.

        A span follows its parent, or the call that now continues what was its trace's root.
        """
        numbers: dict[SpanId, int] = {record.id: record.number for record in records}
        roots: dict[str, int] = {}
        for number in self._parents:
            record = self._records[number]
            if not record.parent:
                roots.setdefault(record.id[0], number)
        traces: dict[int, str] = {}
        for record in records:
            while record.number not in traces:
                self._follow(record.number, numbers, roots, traces)
        return traces

    def _follow(
        self, start: int, numbers: dict[SpanId, int], roots: dict[str, int], traces: dict[int, str]
    ) -> None:
        """Find the trace of a span and of all above it, or give up a new parent that is below it.

        Clocks that disagree can make a call the cause of its own cause.
        """
        path: dict[int, None] = {}
        at: int | None = start
        while at is not None and at not in traces and at not in path:
            path[at] = None
            at = self._above(at, numbers, roots)
        if at is not None and at in path:
            for number in path:
                link = self._parents.pop(number, None)
                if link is not None:
                    self._unsure[number] = link
                    roots.pop(self._records[number].id[0], None)
                    return
        last = next(reversed(path))
        trace = traces[at] if at is not None and at in traces else self._records[last].id[0]
        for number in path:
            traces[number] = trace

    def _above(self, number: int, numbers: dict[SpanId, int], roots: dict[str, int]) -> int | None:
        """The span whose trace a span belongs to; None if it is its own."""
        link = self._parents.get(number)
        if link is not None and link.parent is not None:
            return int(link.parent)
        record = self._records[number]
        trace = record.id[0]
        parent = numbers.get((trace, record.parent)) if record.parent else None
        if parent is not None:
            return parent
        root = roots.get(trace)
        return root if root != number else None

    def write(self, source: Source, out: IO[bytes]) -> None:
        """Write all lines that were read; those in which nothing changes, byte by byte."""
        count = 0
        for number, line in enumerate(source.lines(), 1):
            if number > self._lines:
                break
            if number in self._bad:
                out.write(line)
                continue
            request = decode(line)
            changed = False
            for _, _, span in spans_of(request):
                changed |= self._change(count, span)
                count += 1
            out.write(msgspec.json.encode(request) + b"\n" if changed else line)

    def _change(self, number: int, span: Json) -> bool:
        record = self._records.get(number)
        if record is None:
            return False
        trace = self._traces[number]
        moved = trace != record.id[0]
        if moved:
            _set(span, OLD_TRACE, {"stringValue": span["traceId"]})
            span["traceId"] = trace
        link = self._parents.get(number)
        if link is not None and link.parent is not None:
            self._set_parent(span, link, self._records[int(link.parent)])
        unsure = self._unsure.get(number)
        if unsure is not None:
            self._add_links(span, unsure)
        return moved or link is not None or unsure is not None

    def _set_parent(self, span: Json, link: Link, parent: Record) -> None:
        if span.get("parentSpanId"):
            _set(span, OLD_PARENT, {"stringValue": span["parentSpanId"]})
        span["parentSpanId"] = parent.id[1]
        _set(span, PROPAGATION, {"stringValue": "repaired"})
        _set(span, EVIDENCE, {"stringValue": link.evidence})
        _set(span, CONFIDENCE, {"doubleValue": round(link.confidence, 4)})
        _set(span, INBOUND, {"stringValue": parent.id[1]})

    def _add_links(self, span: Json, link: Link) -> None:
        links = _list(span, "links")
        for rank, candidate in enumerate(link.candidates[:_MAX_LINKS], 1):
            links.append(self._span_link(rank, candidate))

    def _span_link(self, rank: int, candidate: Candidate) -> Json:
        number = int(candidate.parent)
        attributes: list[Json] = []
        holder: Json = {"attributes": attributes}
        _set(holder, "link.rank", {"intValue": str(rank)})
        _set(holder, "link.evidence", {"stringValue": "timing"})
        _set(holder, "link.confidence", {"doubleValue": round(candidate.confidence, 4)})
        return {
            "traceId": self._traces[number],
            "spanId": self._records[number].id[1],
            "attributes": attributes,
        }


def _set(holder: Json, key: str, value: Json) -> None:
    """Set an attribute, in its place if it is there."""
    attributes = _list(holder, "attributes")
    for attribute in attributes:
        if isinstance(attribute, dict) and attribute.get("key") == key:
            attribute["value"] = value
            return
    attributes.append({"key": key, "value": value})


def _list(holder: Json, key: str) -> list[Any]:
    found = holder.get(key)
    if not isinstance(found, list):
        found = holder[key] = []
    return found
