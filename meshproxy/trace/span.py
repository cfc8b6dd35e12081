"""Finished spans as plain records.

A span's data is split in two. What many spans have in common (name, kind, and the attributes that
depend only on route, method, status and peer) is a `SpanShape`, built once and shared, so that an
exporter encodes it once. What differs from span to span is on the `Span` itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

from meshproxy.trace.context import SpanContext

AttributeValue = str | bool | int | float | Sequence[str]
Attributes = Sequence[tuple[str, AttributeValue]]


class Kind(IntEnum):
    """Span kinds, numbered as in OTLP (opentelemetry.proto.trace.v1.Span.SpanKind)."""

    INTERNAL = 1
    SERVER = 2
    CLIENT = 3
    PRODUCER = 4
    CONSUMER = 5


class Status(IntEnum):
    """Span status, numbered as in OTLP (opentelemetry.proto.trace.v1.Status.StatusCode)."""

    UNSET = 0
    OK = 1
    ERROR = 2


class SpanShape:
    """What many spans share. Compared by identity; whoever makes shapes keeps their number bounded.

    ``encoded`` belongs to the exporters: a cache, by encoder name, of what this shape looks like on
    the wire.
    """

    __slots__ = ("attributes", "encoded", "kind", "name")

    def __init__(self, name: str, kind: Kind, attributes: Attributes) -> None:
        self.name = name
        self.kind = kind
        self.attributes = tuple(attributes)
        self.encoded: dict[str, bytes] = {}


class SharedAttributes:
    """Attributes that many spans share beside their shape, such as those of one connection."""

    __slots__ = ("attributes", "encoded")

    def __init__(self, attributes: Attributes) -> None:
        self.attributes = tuple(attributes)
        self.encoded: dict[str, bytes] = {}


class Link:
    """A span link: another span that is related but not the parent."""

    __slots__ = ("attributes", "context")

    def __init__(self, context: SpanContext, attributes: Attributes = ()) -> None:
        self.context = context
        self.attributes = attributes


class Event:
    """A span event, such as ``exception``; ``time_ns`` is Unix time in nanoseconds."""

    __slots__ = ("attributes", "name", "time_ns")

    def __init__(self, name: str, time_ns: int, attributes: Attributes = ()) -> None:
        self.name = name
        self.time_ns = time_ns
        self.attributes = attributes


class Span:
    """One finished span.

    ``parent_id`` is 8 bytes, or empty for a root. ``parent_remote`` tells whether the parent lives
    in another process. Times are Unix nanoseconds. ``attributes`` come after those of ``shape``
    and ``shared``; no key stands in two of them.
    """

    __slots__ = (
        "attributes",
        "end_ns",
        "events",
        "flags",
        "links",
        "parent_id",
        "parent_remote",
        "shape",
        "shared",
        "span_id",
        "start_ns",
        "status",
        "status_message",
        "trace_id",
        "tracestate",
    )

    def __init__(
        self,
        shape: SpanShape,
        context: SpanContext,
        parent_id: bytes,
        start_ns: int,
        end_ns: int,
        attributes: Attributes = (),
        *,
        parent_remote: bool = True,
        status: int = 0,
        status_message: str = "",
        links: Sequence[Link] = (),
        events: Sequence[Event] = (),
        shared: SharedAttributes | None = None,
    ) -> None:
        self.shape = shape
        self.trace_id = context.trace_id
        self.span_id = context.span_id
        self.flags = context.flags
        self.tracestate = context.tracestate
        self.parent_id = parent_id
        self.parent_remote = parent_remote
        self.start_ns = start_ns
        self.end_ns = end_ns
        self.attributes = attributes
        self.status = status
        self.status_message = status_message
        self.links = links
        self.events = events
        self.shared = shared

    def all_attributes(self) -> Attributes:
        """Those of the shape, the shared ones, and the span's own."""
        shared = self.shared.attributes if self.shared is not None else ()
        return (*self.shape.attributes, *shared, *self.attributes)
