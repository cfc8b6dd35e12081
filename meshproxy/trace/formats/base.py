"""What all propagation formats have in common: their shape, what they give, how fields are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol
from urllib.parse import unquote_to_bytes

from meshproxy.trace import baggage, ids
from meshproxy.trace.context import SAMPLED, SpanContext

Fields = Mapping[bytes, list[bytes]]
"""Header values by lower-case name, each list in the order of arrival."""

Pairs = Sequence[tuple[bytes, bytes]]
"""Names and values; as header fields, names are in their customary case."""


class Foreign:
    """What one format other than W3C said about a request.

    ``context`` is None when it named no parent span; ``trace_id`` may be there all the same (a load
    balancer that starts a trace without a span of its own), otherwise it is empty. ``sampled`` is
    None when the decision is left to us; ``debug`` asks for the trace whatever sampling says.
    ``short`` tells that the trace id came in as 64 bits. ``baggage`` holds W3C baggage members.
    ``attributes`` are ids that did not fit and belong on the span. ``carried`` is what the format
    hands from `Format.extract` to `Format.inject`, with a meaning of its own.
    """

    __slots__ = (
        "attributes",
        "baggage",
        "carried",
        "context",
        "debug",
        "format",
        "sampled",
        "short",
        "trace_id",
    )

    def __init__(
        self,
        format: str,
        context: SpanContext | None = None,
        *,
        sampled: bool | None = None,
        debug: bool = False,
        short: bool = False,
        trace_id: bytes = b"",
        baggage: tuple[bytes, ...] = (),
        carried: Pairs = (),
        attributes: tuple[tuple[str, str], ...] = (),
    ) -> None:
        self.format = format
        self.context = context
        self.sampled = sampled
        self.debug = debug
        self.short = short
        self.trace_id = context.trace_id if context is not None else trace_id
        self.baggage = baggage
        self.carried = carried
        self.attributes = attributes

    def __repr__(self) -> str:
        return f"Foreign({self.format}, {self.context!r}, sampled={self.sampled})"


class Format(Protocol):
    """One propagation format. Implementations have no state."""

    @property
    def name(self) -> str:
        """How the configuration calls it."""

    @property
    def fields(self) -> tuple[bytes, ...]:
        """Lower-case names of all its header fields."""

    @property
    def prefixes(self) -> tuple[bytes, ...]:
        """Lower-case prefixes of its other header fields."""

    def extract(self, fields: Fields) -> Foreign | None:
        """Read a request; None when its fields are absent or malformed. Raises nothing."""

    def inject(
        self, context: SpanContext, came_in: Foreign | None, *, debug: bool = False
    ) -> list[tuple[bytes, bytes]]:
        """Write the header fields for ``context``.

        ``came_in`` is what the same format said in the request that is sent on, if it was there.
        """


def one_value(fields: Fields, name: bytes) -> bytes:
    """Give the value of a field that may stand only once; empty when it is absent.

    A repeated field is fine when it says the same each time. Otherwise the values come joined by a
    comma, which no format allows, so that they are malformed.
    """
    values = fields.get(name)
    if not values:
        return b""
    if len(values) > 1 and any(value != values[0] for value in values):
        return b",".join(values)
    return values[0].strip(b" \t")


def foreign_context(
    trace_id: bytes, span_id: bytes, sampled: bool | None, tracestate: str = ""
) -> SpanContext:
    """Make a context of foreign ids.

    The random flag is never set: no other format promises random bits, and padding a 64-bit id
    takes them away (Trace Context level 2, section 3.2.2.5.2).
    """
    return SpanContext(trace_id, span_id, SAMPLED if sampled else 0, tracestate)


def goes_out_short(context: SpanContext, came_in: Foreign | None) -> bool:
    """Tell whether the trace id has to be written as 64 bits: it has no more, or it came so."""
    no_more = context.trace_id.startswith(ids.ZERO_SPAN_ID)
    return no_more or (came_in is not None and came_in.short)


def prefixed(fields: Fields, prefix: bytes) -> Pairs:
    """Give all fields whose names start with ``prefix``, as they came."""
    return [(n, value) for n, values in fields.items() if n.startswith(prefix) for value in values]


def prefixed_baggage(pairs: Pairs, prefix: bytes) -> tuple[bytes, ...]:
    """Make W3C baggage members of header fields that hold one percent-encoded value each."""
    members = (
        baggage.member(name[len(prefix) :], unquote_to_bytes(value.strip(b" \t")))
        for name, value in pairs
    )
    return tuple(member for member in members if member is not None)
