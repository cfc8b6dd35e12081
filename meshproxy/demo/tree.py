"""Spans to trees to text. Pure: no I/O, no clock."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from meshproxy.demo.paint import Palette
from meshproxy.trace.span import Kind

Value = str | bool | int | float | list["Value"] | None
Key = tuple[str, str]

WIDTH = 100
LEFT_WIDTH = 48
STATUS_WIDTH = 13
DURATION_WIDTH = 9
NOTE_WIDTH = WIDTH - LEFT_WIDTH - STATUS_WIDTH - DURATION_WIDTH - 3

STATUS_ATTRIBUTES = ("http.response.status_code", "error.type", "messaging.system")
"""Attributes that tell what came of it, by falling precision; the last one that it is a message."""

MISSING_PARENT = "parent missing"
CYCLE = "cycle cut here"


@dataclass(frozen=True, slots=True)
class LinkRecord:
    """A span link as received; ids in hex."""

    trace_id: str
    span_id: str
    attributes: Mapping[str, Value] = field(default_factory=dict)

    @property
    def key(self) -> Key:
        """Which span is linked."""
        return self.trace_id, self.span_id


@dataclass(frozen=True, slots=True)
class SpanRecord:
    """A span as received; ids in hex, ``parent_id`` empty for a root, times in Unix nanoseconds."""

    service: str
    trace_id: str
    span_id: str
    parent_id: str
    name: str
    kind: Kind
    start_ns: int
    end_ns: int
    error: bool = False
    attributes: Mapping[str, Value] = field(default_factory=dict)
    links: tuple[LinkRecord, ...] = ()

    @property
    def key(self) -> Key:
        """The span's identity: ids are unique within a trace only."""
        return self.trace_id, self.span_id

    @property
    def parent_key(self) -> Key | None:
        """The parent's identity; None for a root."""
        return (self.trace_id, self.parent_id) if self.parent_id else None

    @property
    def propagation(self) -> str:
        """What meshproxy says about the edge to the parent: ``ok``, ``repaired``, …"""
        return str(self.attributes.get("meshproxy.propagation", ""))

    @property
    def evidence(self) -> str:
        """Why a repaired edge, or the candidates of an ambiguous one, are believed."""
        return str(self.attributes.get("meshproxy.link.evidence", ""))

    @property
    def message_key(self) -> str:
        """The key of the message that the span is about; empty if it is about none, or several."""
        return str(self.attributes.get("messaging.kafka.message.key", ""))

    @property
    def is_poll(self) -> bool:
        """Whether it is about fetching messages: a trace of its own, with links to the messages."""
        return self.attributes.get("messaging.operation.name") == "poll"

    @property
    def mended(self) -> bool:
        """Whether meshproxy found the parent that the service did not tell."""
        return self.propagation == "repaired"

    @property
    def abstained(self) -> bool:
        """Whether meshproxy left the parent open."""
        return self.propagation in ("ambiguous", "unlinked")


@dataclass(slots=True)
class Node:
    """A span and what it caused, in the order of the start times.

    ``flaw`` tells why a span that names a parent stands at the root.
    """

    span: SpanRecord
    children: list[Node] = field(default_factory=list)
    flaw: str = ""


def index(spans: Iterable[SpanRecord]) -> dict[Key, SpanRecord]:
    """Spans by identity. Of two with the same identity (an exporter's resend) the first stays."""
    found: dict[Key, SpanRecord] = {}
    for span in spans:
        found.setdefault(span.key, span)
    return found


def build(spans: Iterable[SpanRecord]) -> list[Node]:
    """Trees, in the order of their start. Every span stands in exactly one of them, once.

    A span whose parent was not received becomes a root with a flaw; so does the earliest span of a
    cycle.
    """
    by_key = index(spans)
    ordered = sorted(by_key.values(), key=lambda span: (span.start_ns, span.end_ns))
    cuts = _cycle_cuts(by_key)
    nodes = {span.key: Node(span) for span in ordered}
    roots = []
    for span in ordered:
        node, parent = nodes[span.key], span.parent_key
        if parent in nodes and span.key not in cuts:
            nodes[parent].children.append(node)
            continue
        if parent is not None:
            node.flaw = CYCLE if span.key in cuts else MISSING_PARENT
        roots.append(node)
    return roots


def _cycle_cuts(by_key: Mapping[Key, SpanRecord]) -> set[Key]:
    """The earliest span of each cycle of parents."""
    cuts: set[Key] = set()
    done: set[Key] = set()
    for start in by_key:
        path: dict[Key, None] = {}
        key: Key | None = start
        while key is not None and key in by_key and key not in done and key not in path:
            path[key] = None
            key = by_key[key].parent_key
        if key in path:
            walked = list(path)
            cycle = walked[walked.index(key) :]
            cuts.add(min(cycle, key=lambda member: by_key[member].start_ns))
        done.update(path)
    return cuts


def render(root: Node, known: Mapping[Key, SpanRecord], palette: Palette) -> Iterator[str]:
    """The lines of one tree, indented by two.

    ``known`` resolves the candidates of ambiguous edges.
    """
    stack = [(root, "  ", "  ")]
    while stack:
        node, branch, indent = stack.pop()
        yield _line(node, branch, palette)
        if node.span.abstained:
            yield from _candidates(node.span, indent, known, palette)
        for position, child in enumerate(reversed(node.children)):
            last = position == 0
            edge = "~" if child.span.mended else "─"
            corner = "└" if last else "├"
            stack.append((child, indent + corner + edge + " ", indent + ("  " if last else "│ ")))


def _line(node: Node, branch: str, palette: Palette) -> str:
    span = node.span
    left = fit(f"{branch}{span.service} {span.kind.name} {span.name}", LEFT_WIDTH)
    status = fit(_status(span), STATUS_WIDTH)
    duration = f"{(span.end_ns - span.start_ns) / 1e6:.1f} ms".rjust(DURATION_WIDTH)
    if span.error:
        status = palette.red(status)
    line = f"{left} {status}{duration}  {_note(node, palette)}"
    return line.rstrip()


def _status(span: SpanRecord) -> str:
    told = (span.attributes.get(name) for name in STATUS_ATTRIBUTES)
    words = [next((str(value) for value in told if value is not None), "-")]
    resend = span.attributes.get("http.request.resend_count")
    if resend:
        words.append(f"resend {resend}")
    if span.error:
        words.append("error")
    return " ".join(words)


def _note(node: Node, palette: Palette) -> str:
    span = node.span
    if node.flaw:
        return palette.red(node.flaw)
    if span.mended:
        return palette.green(fit(f"~ {span.evidence}{_confidence(span.attributes)}", NOTE_WIDTH))
    if span.abstained:
        return palette.yellow(f"? {span.propagation}, {len(span.links)} candidates")
    return ""


def _confidence(attributes: Mapping[str, Value]) -> str:
    confidence = attributes.get("meshproxy.link.confidence")
    if isinstance(confidence, (int, float)):
        return f" {confidence:.4g}"
    return ""


def _candidates(
    span: SpanRecord, indent: str, known: Mapping[Key, SpanRecord], palette: Palette
) -> Iterator[str]:
    for link in span.links:
        candidate = known.get(link.key)
        name = describe(candidate) if candidate else f"a span not received, {link.span_id}"
        yield palette.yellow(
            fit(f"{indent}  ? {name}{_confidence(link.attributes)}", WIDTH).rstrip()
        )


def describe(span: SpanRecord) -> str:
    """A span in a few words, with its path rather than its route, or its message."""
    path = span.attributes.get("url.path")
    name = f"{span.name.partition(' ')[0]} {path}" if path else f"{span.name} {span.message_key}"
    return f"{span.service} {span.kind.name} {name}".rstrip()


def fit(text: str, width: int) -> str:
    """``text`` padded or cut to ``width`` characters."""
    return text.ljust(width) if len(text) <= width else text[: width - 1] + "…"


def mended_by_evidence(spans: Sequence[SpanRecord]) -> dict[str, int]:
    """How many edges were mended, by evidence, most first."""
    counts: dict[str, int] = {}
    for span in spans:
        if span.mended:
            counts[span.evidence or "?"] = counts.get(span.evidence or "?", 0) + 1
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
