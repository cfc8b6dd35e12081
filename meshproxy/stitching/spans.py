"""OTLP JSON lines to observations (OTLP specification, "JSON Protobuf Encoding").

Of each span only what decides is kept: the file is read again when it is written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

import msgspec

from meshproxy.linking.stitch import IN, OUT, Observation
from meshproxy.stitching.source import Source, UnusableError

_KINDS: Final = {
    "SPAN_KIND_SERVER": 2,
    "SPAN_KIND_CLIENT": 3,
    "SPAN_KIND_PRODUCER": 4,
    "SPAN_KIND_CONSUMER": 5,
}
_REQUESTS: Final = frozenset((2, 5))
"""Kinds of spans that cause calls: SERVER, CONSUMER."""

_CALLS: Final = frozenset((3, 4))
"""Kinds of spans that are caused: CLIENT, PRODUCER."""

PROPAGATION: Final = "meshproxy.propagation"
EVIDENCE: Final = "meshproxy.link.evidence"
CONFIDENCE: Final = "meshproxy.link.confidence"
INBOUND: Final = "meshproxy.inbound.span_id"

_OPEN: Final = frozenset(("ambiguous", "unlinked", "root"))
"""Values of `PROPAGATION` of calls whose request is not known."""

_KNOWN: Final = "known"
"""Evidence for a parent that the file has without saying why."""

Warn = Callable[[str], None]
Json = dict[str, Any]
SpanId = tuple[str, str]
"""Trace id and span id."""


class Record(NamedTuple):
    """What is kept of a span. ``number`` counts the spans of the file."""

    number: int
    id: SpanId
    parent: str
    kind: int
    service: str
    group: str
    operation: str
    start_ns: int
    end_ns: int
    propagation: str
    inbound: str
    evidence: str
    confidence: float


class Recording(NamedTuple):
    """All usable spans of a file; ``bad`` are the numbers of lines to be passed on as they are."""

    records: list[Record]
    lines: int
    bad: frozenset[int]


def read(source: Source, warn: Warn, *, tolerant: bool) -> Recording:
    """Read all lines.

    A last line without an end that is no request is what a live file looks like: it is left alone,
    with a warning. Raises UnusableError for any other, unless ``tolerant``: then likewise.
    """
    records: list[Record] = []
    bad: set[int] = set()
    count = number = 0
    for number, line in enumerate(source.lines(), 1):
        try:
            for service, group, span in spans_of(decode(line)):
                record = _record(count, service, group, span)
                if record is not None:
                    records.append(record)
                count += 1
        except (msgspec.DecodeError, ValueError) as error:
            where = f"{source.name}:{number}"
            torn = not line.endswith(b"\n")
            if not (torn or tolerant):
                raise UnusableError(f"{where}: no OTLP JSON line: {error}") from error
            what = "the last line is not complete" if torn else f"no OTLP JSON line: {error}"
            warn(f"{where}: {what}: passed on as it is")
            bad.add(number)
    return Recording(records, number, frozenset(bad))


def decode(line: bytes) -> Json:
    """Read a line; a blank one is an empty request. Raises msgspec.DecodeError, ValueError."""
    if not line.strip():
        return {}
    request = msgspec.json.decode(line)
    if not isinstance(request, dict):
        raise ValueError("not an object")
    check(request)
    return request


def check(request: Json) -> None:
    """Raise ValueError where the lists and objects around spans are something else."""
    for resource_spans in _objects(request, "resourceSpans"):
        for scope_spans in _objects(resource_spans, "scopeSpans"):
            _objects(scope_spans, "spans")


def spans_of(request: Json) -> Iterator[tuple[str, str, Json]]:
    """All spans of a checked request, each with its service and what tells the service's pods."""
    for resource_spans in _objects(request, "resourceSpans"):
        resource = resource_spans.get("resource")
        attributes = attributes_of(resource if isinstance(resource, dict) else {})
        names = [
            str(attributes.get(key, ""))
            for key in ("service.namespace", "service.name", "service.instance.id")
        ]
        for scope_spans in _objects(resource_spans, "scopeSpans"):
            for span in _objects(scope_spans, "spans"):
                yield "/".join(names[:2]), names[2], span


def _objects(parent: Json, key: str) -> list[Json]:
    found = parent.get(key) or []
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise ValueError(f"{key} is not a list of objects")
    return found


def attributes_of(holder: Json) -> dict[str, str | float]:
    """The attributes of a span or resource that are plain values."""
    found: dict[str, str | float] = {}
    attributes = holder.get("attributes")
    for attribute in attributes if isinstance(attributes, list) else ():
        if isinstance(attribute, dict) and isinstance(attribute.get("value"), dict):
            for value in attribute["value"].values():
                if isinstance(value, str | int | float):
                    found[str(attribute.get("key"))] = value
    return found


def _record(number: int, service: str, group: str, span: Json) -> Record | None:
    """What is kept of a span, None if it lacks ids or times."""
    kind = span.get("kind")
    attributes = attributes_of(span)
    try:
        start, end = int(span["startTimeUnixNano"]), int(span["endTimeUnixNano"])
        confidence = float(attributes.get(CONFIDENCE, 1.0))
        identity = (str(span["traceId"]).lower(), str(span["spanId"]).lower())
    except (KeyError, TypeError, ValueError):
        return None
    number_of_kind = kind if isinstance(kind, int) else _KINDS.get(str(kind), 0)
    return Record(
        number=number,
        id=identity,
        parent=str(span.get("parentSpanId") or "").lower(),
        kind=number_of_kind,
        service=service,
        group=group,
        operation=_operation(number_of_kind, span, attributes),
        start_ns=start,
        end_ns=end,
        propagation=str(attributes.get(PROPAGATION, "")),
        inbound=str(attributes.get(INBOUND, "")).lower(),
        evidence=str(attributes.get(EVIDENCE, "")),
        confidence=confidence,
    )


def _operation(kind: int, span: Json, attributes: dict[str, str | float]) -> str:
    if kind not in _CALLS:
        return str(span.get("name", ""))
    peer = attributes.get("peer.service") or attributes.get("server.address", "")
    return f"{span.get('name', '')} {peer}"


def observations(records: list[Record]) -> list[Observation]:
    """What is to be stitched; the key of each is the number of its span.

    A call is certain if its parent, or its recorded request, is a SERVER (or CONSUMER) span of the
    same service. Calls that meshproxy could not link are open. Others (right by a context that the
    file does not explain, or not seen by meshproxy) take no part.
    """
    servers: dict[tuple[str, str], Record] = {}
    for record in records:
        if record.kind in _REQUESTS:
            servers[record.service, record.id[1]] = record
    found: list[Observation] = []
    for record in records:
        if record.kind in _REQUESTS:
            found.append(_observation(record, IN, None))
        elif record.kind in _CALLS:
            parent = servers.get((record.service, record.parent)) if record.parent else None
            parent = parent or servers.get((record.service, record.inbound))
            if parent is not None and parent.group == record.group:
                found.append(_observation(record, OUT, parent))
            elif record.propagation in _OPEN:
                found.append(_observation(record, OUT, None))
    return found


def _observation(record: Record, direction: str, parent: Record | None) -> Observation:
    return Observation(
        key=str(record.number),
        service=record.service,
        direction=direction,
        operation=record.operation,
        start_ns=record.start_ns,
        end_ns=record.end_ns,
        parent=str(parent.number) if parent else None,
        evidence=(record.evidence or _KNOWN) if parent else "",
        confidence=record.confidence if parent else 1.0,
        group=record.group,
        old_parent=record.parent or None,
    )
