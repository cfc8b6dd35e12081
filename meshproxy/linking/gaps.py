"""Where propagation breaks: the kinds, the counts, and what to do about each."""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class Gap(StrEnum):
    """The ways in which a service breaks a chain (docs/gaps.md tells them apart)."""

    DROPPED = "dropped"
    RESTARTED = "restarted"
    STALE = "stale"
    MALFORMED = "malformed"
    DUPLICATED = "duplicated"
    FORMAT = "format"
    TRACESTATE_LOST = "tracestate-lost"
    BAGGAGE_LOST = "baggage-lost"
    UNSAMPLED = "unsampled"


ADVICE = {
    Gap.DROPPED: "Pass the request's traceparent, tracestate and baggage headers on to this call.",
    Gap.RESTARTED: "The client library starts a trace of its own: give it the current context "
    "(extract it from the inbound request) instead of a new root.",
    Gap.STALE: "The context of an earlier request is reused: read it from the current request, "
    "not from a global, a cached client or a pooled thread.",
    Gap.MALFORMED: "The traceparent is not valid W3C Trace Context (lower-case hex, "
    "00-<32>-<16>-<2>): copy the header unchanged or use a current SDK.",
    Gap.DUPLICATED: "Two traceparent headers are sent: set the header, don't append it; "
    "only one library should inject.",
    Gap.FORMAT: "Only a format that is not in propagation.extract is sent: add it there, "
    "or switch the service's propagator to tracecontext.",
    Gap.TRACESTATE_LOST: "tracestate came in and is not passed on: copy it beside traceparent.",
    Gap.BAGGAGE_LOST: "baggage came in and is not passed on: copy the baggage header.",
    Gap.UNSAMPLED: "The sampled flag was cleared: let the service follow its parent's decision "
    "(parent-based sampler).",
}

MAX_ROWS: Final = 1000
"""Rows of the report; what comes after is counted under ``(other)``."""

OTHER: Final = "(other)"


class GapRow:
    """One place where a chain breaks."""

    __slots__ = ("count", "evidence", "example_trace_id")

    def __init__(self) -> None:
        self.count = 0
        self.evidence: dict[str, int] = {}
        self.example_trace_id = ""


class GapReport:
    """Counts of calls and gaps by inbound route, destination and kind; bounded."""

    def __init__(self, service: str) -> None:
        self._service = service
        self._calls: dict[tuple[str, str], int] = {}
        self._rows: dict[tuple[str, str, Gap], GapRow] = {}

    def call(self, route: str, destination: str) -> None:
        """Count a call that a request of ``route`` (empty: unknown) made to ``destination``."""
        key = (route, destination)
        calls = self._calls
        if key in calls:
            calls[key] += 1
        else:
            key = key if len(calls) < MAX_ROWS else (OTHER, OTHER)
            calls[key] = calls.get(key, 0) + 1

    def gap(self, route: str, destination: str, kind: Gap, evidence: str, trace_id: bytes) -> None:
        """Count a gap, and keep the newest trace as its example."""
        key = (route, destination, kind)
        row = self._rows.get(key)
        if row is None:
            if len(self._rows) >= MAX_ROWS:
                key = (OTHER, OTHER, kind)
            row = self._rows.setdefault(key, GapRow())
        row.count += 1
        row.evidence[evidence] = row.evidence.get(evidence, 0) + 1
        row.example_trace_id = trace_id.hex()

    def counts(self) -> dict[Gap, int]:
        """Gaps by kind."""
        totals = dict.fromkeys(Gap, 0)
        for (_, _, kind), row in self._rows.items():
            totals[kind] += row.count
        return totals

    def rows(self) -> list[dict[str, object]]:
        """The report, most frequent gap first."""
        return [
            {
                "service": self._service,
                "route": route,
                "destination": destination,
                "kind": kind.value,
                "count": row.count,
                "calls": max(row.count, self._calls.get((route, destination), 0)),
                "evidence": dict(row.evidence),
                "example_trace_id": row.example_trace_id,
                "advice": ADVICE[kind],
            }
            for (route, destination, kind), row in sorted(
                self._rows.items(), key=lambda item: -item[1].count
            )
        ]
