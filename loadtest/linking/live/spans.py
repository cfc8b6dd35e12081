"""The sidecar's spans, as its file exporter writes them (OTLP JSON lines)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from loadtest.linking.live.services.behaviour import CALL_NONCE, INBOUND_NONCE

SERVER, CLIENT = 2, 3
HEADER = "http.request.header."


@dataclass(frozen=True, slots=True)
class Received:
    """A SERVER span. Times are Unix nanoseconds."""

    nonce: str
    span_id: str
    trace_id: str
    start_ns: int
    end_ns: int


@dataclass(frozen=True, slots=True)
class Candidate:
    """A span link to a request that may have caused a call."""

    span_id: str
    rank: int
    confidence: float | None


@dataclass(frozen=True, slots=True)
class Made:
    """A CLIENT span. ``inbound`` is ``meshproxy.inbound.span_id``, if it is there."""

    nonce: str
    parent: str
    trace_id: str
    start_ns: int
    end_ns: int
    inbound: str
    evidence: str
    confidence: float | None
    propagation: str
    gap: str
    candidates: tuple[Candidate, ...]

    @property
    def linked(self) -> str:
        """The span id of the request that it was linked to, or nothing."""
        return self.inbound or self.parent


@dataclass(frozen=True, slots=True)
class Spans:
    received: tuple[Received, ...]
    made: tuple[Made, ...]


def read_spans(file: Path) -> Spans:
    """All spans with a nonce; the sidecar must have ended, so that all are there."""
    with file.open("rb") as lines:
        return spans_of(msgspec.json.decode(line) for line in lines if line.strip())


def spans_of(requests: Iterable[dict[str, Any]]) -> Spans:
    """The spans of decoded ExportTraceServiceRequests."""
    received, made = [], []
    for span in _each(requests):
        values = _values(span.get("attributes", []))
        if span["kind"] == SERVER and HEADER + INBOUND_NONCE in values:
            received.append(_received(span, values))
        elif span["kind"] == CLIENT and HEADER + CALL_NONCE in values:
            made.append(_made(span, values))
    return Spans(tuple(received), tuple(made))


def _each(requests: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for request in requests:
        for resource in request["resourceSpans"]:
            for scope in resource["scopeSpans"]:
                yield from scope["spans"]


def _received(span: dict[str, Any], values: dict[str, Any]) -> Received:
    return Received(
        nonce=values[HEADER + INBOUND_NONCE][0],
        span_id=span["spanId"],
        trace_id=span["traceId"],
        start_ns=int(span["startTimeUnixNano"]),
        end_ns=int(span["endTimeUnixNano"]),
    )


def _made(span: dict[str, Any], values: dict[str, Any]) -> Made:
    return Made(
        nonce=values[HEADER + CALL_NONCE][0],
        parent=span.get("parentSpanId", ""),
        trace_id=span["traceId"],
        start_ns=int(span["startTimeUnixNano"]),
        end_ns=int(span["endTimeUnixNano"]),
        inbound=values.get("meshproxy.inbound.span_id", ""),
        evidence=values.get("meshproxy.link.evidence", ""),
        confidence=values.get("meshproxy.link.confidence"),
        propagation=values.get("meshproxy.propagation", ""),
        gap=values.get("meshproxy.gap", ""),
        candidates=tuple(_candidates(span.get("links", []))),
    )


def _candidates(links: Iterable[dict[str, Any]]) -> Iterator[Candidate]:
    for link in links:
        values = _values(link.get("attributes", []))
        if "link.rank" in values:
            confidence = values.get("link.confidence")
            yield Candidate(link["spanId"], int(values["link.rank"]), confidence)


def _values(attributes: Iterable[dict[str, Any]]) -> dict[str, Any]:
    return {each["key"]: _value(each["value"]) for each in attributes}


def _value(value: dict[str, Any]) -> Any:
    ((kind, found),) = value.items()
    if kind == "intValue":
        return int(found)
    if kind == "doubleValue":
        return float(found)
    if kind == "arrayValue":
        return [_value(each) for each in found.get("values", [])]
    return found
