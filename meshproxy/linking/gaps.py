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
    CONSUMER_LOST = "consumer-lost"


ADVICE: Final[dict[Gap, str]] = {
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
    Gap.BAGGAGE_LOST: "baggage came in and is not passed on: copy the baggage header, or add "
    "baggage to the SDK's propagators.",
    Gap.UNSAMPLED: "The sampled flag was cleared: let the service follow its parent's decision "
    "(parent-based sampler).",
    Gap.CONSUMER_LOST: "The message carries no trace context: let its producer put traceparent "
    "into the message's headers, and whatever passes the message on keep them.",
}
"""What to change in the service; how often a gap occurs may tell more (`advice`)."""

OF_MESSAGES: Final[dict[Gap, str]] = {
    Gap.DROPPED: "Put traceparent, tracestate and baggage of the request (or message) that is "
    "worked on into the headers of this message.",
    Gap.DUPLICATED: "The message has two traceparent headers: set the header, don't append it; "
    "only one library should inject, and not into a list of headers that is used again.",
}
"""The same where it is a message that the service sends."""

ALWAYS: Final[dict[Gap, str]] = {
    Gap.DROPPED: "No call here carries context: what makes them knows nothing of the request.",
    Gap.UNSAMPLED: "It is cleared on every call here: sampling is switched off in the service.",
}
"""What it means that every call at a place has the gap, where that means something."""

SOMETIMES: Final[dict[Gap, str]] = {
    Gap.DROPPED: "Some calls here do carry it: a second client, or a hop to a thread pool, a task "
    "or a callback, loses the current request.",
    Gap.RESTARTED: "Some calls here are right: the context is lost on a hop to a thread pool, a "
    "task or a callback; hand it over there.",
    Gap.UNSAMPLED: "It is cleared on some calls only: a sampler in the service decides by itself.",
}
"""What it means that some calls have the gap and others do not."""

OTHERWISE_SOMETIMES: Final = "Other calls here are right: look for a second client or code path."

SAME_CONTEXT: Final[dict[Gap, str]] = {
    Gap.RESTARTED: "All these calls carry one and the same foreign trace: a context that was made "
    "once, in a constant, at start or in a shared client, is sent with each of them.",
    Gap.STALE: "All these calls carry one and the same old context: it is kept in a global or in "
    "the default headers of a shared client.",
}
"""What it means that the wrong context never changes."""

CHANGING_CONTEXT: Final[dict[Gap, str]] = {
    Gap.STALE: "Contexts of several earlier requests come back: pooled threads, workers or "
    "connections keep the one that they had before; set it anew for each request.",
}
"""What it means that the wrong context is not always the same."""

NOT_LINKED: Final = (
    "It is not known which requests these calls belong to; passing X-Request-Id on would tell."
)

TELLING: Final = 5
"""Gaps at a place before their share, or what they have in common, is taken to mean something."""

MAX_ROWS: Final = 1000
"""Rows of the report, and places that it knows; what comes after is counted at ``(other)``."""

MAX_EXAMPLES: Final = 5
"""Example traces of a row."""

LONGEST_NAME: Final = 256
"""Characters of a route or a destination that are kept."""

OTHER: Final = "(other)"
UNKNOWN: Final = "(unknown)"


class Occurrence:
    """One call with a gap.

    ``evidence`` is what the call was linked by, ``none`` if it was not. ``trace_id`` is that of the
    call's span. ``at_ns`` is when the call was made, in Unix nanoseconds. ``carried`` is the trace
    id that the call carried in place of the right one; empty if it carried none. ``message``: the
    call is a message that is sent.
    """

    __slots__ = ("at_ns", "carried", "evidence", "kind", "message", "trace_id")

    def __init__(
        self, kind: Gap, evidence: str, trace_id: bytes, at_ns: int, carried: bytes = b""
    ) -> None:
        self.kind = kind
        self.evidence = evidence
        self.trace_id = trace_id
        self.at_ns = at_ns
        self.carried = carried
        self.message = False


class GapRow:
    """One kind of gap at one place."""

    __slots__ = ("carried", "changing", "count", "evidence", "examples", "first_ns", "last_ns",
                 "message")  # fmt: skip

    def __init__(self, first: Occurrence) -> None:
        self.count = 0
        self.evidence: dict[str, int] = {}
        self.examples: list[bytes] = []
        self.first_ns = first.at_ns
        self.last_ns = first.at_ns
        self.carried = first.carried
        self.changing = False
        self.message = first.message

    def add(self, found: Occurrence, count: int) -> None:
        """Count ``count`` more, and keep their trace as the newest example."""
        self.count += count
        self.evidence[found.evidence] = self.evidence.get(found.evidence, 0) + count
        self.last_ns = max(self.last_ns, found.at_ns)
        if found.carried != self.carried:
            self.changing = True
        examples = self.examples
        if found.trace_id in examples:
            examples.remove(found.trace_id)
        elif len(examples) == MAX_EXAMPLES:
            del examples[0]
        examples.append(found.trace_id)


class Tally:
    """A number of calls, and how many of them are known to be right."""

    __slots__ = ("calls", "right")

    def __init__(self, calls: int, right: int) -> None:
        self.calls = calls
        self.right = right


class Place:
    """The calls that requests of one route make to one destination.

    ``received``: messages that are consumed from there instead.
    """

    __slots__ = ("calls", "received", "rows")

    def __init__(self) -> None:
        self.calls = 0
        self.received = False
        self.rows: dict[Gap, GapRow] = {}

    def tally(self) -> Tally:
        """All calls, and those without a gap."""
        return Tally(self.calls, self.calls - sum([row.count for row in self.rows.values()]))


Key = tuple[str, str]


class GapReport:
    """Counts of calls and gaps by inbound route, destination and kind; bounded."""

    def __init__(self) -> None:
        self._places: dict[Key, Place] = {}
        self._other = Place()
        self._row_count = 0

    def call(
        self, route: str, destination: str, found: Occurrence | None = None, count: int = 1
    ) -> None:
        """Count a call that a request of ``route`` made to ``destination``, and its gap if any.

        ``count`` is how many such calls there are at once. An empty ``route`` means that it is not
        known which request made the call.
        """
        self._count(route, destination, found, count)

    def received(
        self, group: str, source: str, found: Occurrence | None = None, count: int = 1
    ) -> None:
        """Count messages that ``group`` consumes, and where they came from: as if it called."""
        self._count(group, source, found, count).received = True

    def _count(self, route: str, destination: str, found: Occurrence | None, count: int) -> Place:
        place = self._places.get((route, destination))
        if place is None:
            place = self._new_place(route[:LONGEST_NAME], destination[:LONGEST_NAME])
        if found is not None:
            if found.kind not in place.rows:
                place = self._with_row(place, found)
            place.rows[found.kind].add(found, count)
        place.calls += count
        return place

    def _new_place(self, route: str, destination: str) -> Place:
        key = (route, destination)
        if key not in self._places and len(self._places) >= MAX_ROWS:
            return self._other
        return self._places.setdefault(key, Place())

    def _with_row(self, place: Place, found: Occurrence) -> Place:
        """The place, or the one for all others, now with a row for this kind."""
        if place is not self._other:
            if self._row_count < MAX_ROWS:
                self._row_count += 1
            else:
                place = self._other
        place.rows.setdefault(found.kind, GapRow(found))
        return place

    def counts(self) -> dict[tuple[Gap, str, str], int]:
        """Gaps by kind, route and destination."""
        return {
            (kind, route, destination): row.count
            for (route, destination), place in self._named()
            for kind, row in place.rows.items()
        }

    def rows(self, service: str) -> list[dict[str, object]]:
        """The report as plain values for JSON, most frequent gap first.

        ``calls`` are those that could have had the gap: those of the route to the destination. Of
        a call that was not linked the route is not known; so there it is all calls to the
        destination. ``share`` is ``count / calls``. Times are Unix nanoseconds.
        """
        of_destination = self._of_destination()
        found: list[tuple[int, dict[str, object]]] = []
        for (route, destination), place in self._named():
            calls = place.tally()
            if route == UNKNOWN:
                calls = of_destination[destination]
            for kind, row in place.rows.items():
                where = {"service": service, "route": route, "destination": destination}
                found.append((row.count, where | _view(kind, row, calls, route != UNKNOWN)))
        found.sort(key=lambda item: -item[0])
        return [view for _, view in found]

    def _of_destination(self) -> dict[str, Tally]:
        """All calls to each destination. That one is right is known of those that were linked."""
        found: dict[str, Tally] = {}
        for (route, destination), place in self._places.items():
            if place.received:
                continue
            tally = found.setdefault(destination, Tally(0, 0))
            tally.calls += place.calls
            if route:
                tally.right += place.tally().right
        return found

    def _named(self) -> list[tuple[Key, Place]]:
        """All places, as they are called in the report."""
        places = [((r or UNKNOWN, d), place) for (r, d), place in self._places.items()]
        return [*places, ((OTHER, OTHER), self._other)]


def _view(kind: Gap, row: GapRow, calls: Tally, linked: bool) -> dict[str, object]:
    return {
        "kind": kind.value,
        "count": row.count,
        "calls": calls.calls,
        "share": round(row.count / calls.calls, 4),
        "evidence": dict(row.evidence),
        "example_trace_ids": [trace_id.hex() for trace_id in reversed(row.examples)],
        "first_seen_ns": row.first_ns,
        "last_seen_ns": row.last_ns,
        "advice": advice(kind, row, calls, linked),
    }


def advice(kind: Gap, row: GapRow, calls: Tally, linked: bool) -> str:
    """What to change, and what is known of why: by what was carried, or else how often."""
    sentences = [OF_MESSAGES.get(kind, ADVICE[kind]) if row.message else ADVICE[kind]]
    if row.count >= TELLING:
        sentences += _pattern(kind, row, calls)
    if not linked:
        sentences.append(NOT_LINKED)
    return " ".join(sentences)


def _pattern(kind: Gap, row: GapRow, calls: Tally) -> list[str]:
    context = CHANGING_CONTEXT if row.changing else SAME_CONTEXT
    if kind in context:
        return [context[kind]]
    if row.count == calls.calls and kind in ALWAYS:
        return [ALWAYS[kind]]
    return [SOMETIMES.get(kind, OTHERWISE_SOMETIMES)] if calls.right else []
