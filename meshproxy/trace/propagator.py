"""Reading and writing trace context, in W3C form and all other formats, for one message.

A proxy takes all `Propagator.fields` out of a message and puts in what `Propagator.inject` gives,
so that a message never carries two opinions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar, Final

from meshproxy.trace import baggage, traceparent, tracestate
from meshproxy.trace.context import SAMPLED, SpanContext
from meshproxy.trace.formats import FORMATS, Fields, Foreign, Format
from meshproxy.trace.ids import ZERO_SPAN_ID

TRACECONTEXT: Final = "tracecontext"
"""The name of W3C Trace Context among the formats."""

_W3C_FIELDS: Final = (b"traceparent", b"tracestate", b"baggage")


class Extracted:
    """What a message said about its trace. Treat as immutable.

    ``context`` is the parent span, None when there is none that counts: start a trace then, with
    ``trace_id`` unless that is empty (a load balancer may name a trace without a span).
    ``decision`` is the caller's sampling decision, None when it left that open; ``debug`` asks for
    the trace whatever sampling says. ``baggage`` is one header value, or empty. ``winner`` names
    the format of ``context`` or ``trace_id``, or is empty. ``came_in`` is what the formats beside
    W3C said, by order of precedence; ``disagreeing`` are other contexts, to be linked.
    ``attributes`` are ids that had to be replaced. ``w3c`` tells that a traceparent came in, good
    or bad; ``malformed`` that a header did not count, ``duplicated`` that there were several
    traceparent headers, and ``tracestate_lost`` that a tracestate had to be discarded.
    """

    __slots__ = (
        "attributes",
        "baggage",
        "came_in",
        "context",
        "debug",
        "decision",
        "disagreeing",
        "duplicated",
        "malformed",
        "trace_id",
        "tracestate_lost",
        "w3c",
        "winner",
    )

    def __init__(
        self,
        context: SpanContext | None = None,
        decision: bool | None = None,
        winner: str = "",
        baggage: bytes = b"",
        w3c: bool = False,
        malformed: bool = False,
        duplicated: bool = False,
        tracestate_lost: bool = False,
    ) -> None:
        self.context = context
        self.decision = decision
        self.winner = winner
        self.baggage = baggage
        self.w3c = w3c
        self.malformed = malformed
        self.duplicated = duplicated
        self.tracestate_lost = tracestate_lost
        self.debug = False
        self.trace_id = b""
        self.came_in: tuple[Foreign, ...] = ()
        self.disagreeing: tuple[SpanContext, ...] = ()
        self.attributes: tuple[tuple[str, str], ...] = ()


class Propagator:
    """Reads the formats in ``extract``, the first that is valid wins; writes those in ``inject``.

    Raises ValueError for a format that does not exist.
    """

    fields: ClassVar[frozenset[bytes]] = frozenset(_W3C_FIELDS).union(
        *(f.fields for f in FORMATS.values())
    )
    """Lower-case names of the header fields of all formats, read or not."""

    prefixes: ClassVar[tuple[bytes, ...]] = tuple(p for f in FORMATS.values() for p in f.prefixes)
    """Lower-case prefixes of further header fields of all formats."""

    def __init__(self, extract: Sequence[str], inject: Sequence[str] = (TRACECONTEXT,)) -> None:
        unknown = {*extract, *inject} - {TRACECONTEXT, *FORMATS}
        if unknown:
            raise ValueError(f"no such propagation format: {', '.join(sorted(unknown))}")
        self._order = tuple(dict.fromkeys(extract))
        self._reads_w3c = TRACECONTEXT in extract
        self._writes_w3c = TRACECONTEXT in inject
        self._reads = _without_w3c(extract)
        self._writes = _without_w3c(inject)
        self._format_of = {name: f for f in self._reads for name in f.fields}
        self._foreign_fields = frozenset(self._format_of)
        self._prefixes = tuple(prefix for f in self._reads for prefix in f.prefixes)
        self._first_bytes = frozenset(prefix[0] for prefix in self._prefixes)

    @staticmethod
    def fields_of(formats: Iterable[str]) -> frozenset[bytes]:
        """Lower-case names of the header fields of some formats, with baggage."""
        own = [FORMATS[name].fields for name in formats if name != TRACECONTEXT]
        return frozenset(_W3C_FIELDS if TRACECONTEXT in formats else (b"baggage",)).union(*own)

    def extract(self, fields: Fields) -> Extracted:
        """Read the header fields of a message, by lower-case name. Raises nothing."""
        extracted = self._extract_w3c(fields)
        prefixed = self._prefixed_names(fields)
        if prefixed or not self._foreign_fields.isdisjoint(fields):
            self._add_foreign(extracted, fields, prefixed)
        return extracted

    def inject(
        self, context: SpanContext, extracted: Extracted | None
    ) -> list[tuple[bytes, bytes]]:
        """Write the header fields of a message whose parent span is ``context``.

        ``extracted`` is what came in with the message that is sent on, None when nothing of it may
        go out. Each format that came in goes out again, saying the same as all others.
        """
        pairs: list[tuple[bytes, bytes]] = []
        if self._writes_w3c or (extracted is not None and extracted.w3c):
            pairs.append((b"traceparent", traceparent.format(context)))
            if context.tracestate:
                pairs.append((b"tracestate", context.tracestate.encode("ascii")))
        if extracted is None:
            for format in self._writes:
                pairs += format.inject(context, None)
            return pairs
        if self._writes or extracted.came_in:
            came_in = {foreign.format: foreign for foreign in extracted.came_in}
            for format in _union(self._writes, came_in):
                pairs += format.inject(context, came_in.get(format.name), debug=extracted.debug)
        if extracted.baggage:
            pairs.append((b"baggage", extracted.baggage))
        return pairs

    def _extract_w3c(self, fields: Fields) -> Extracted:
        items = fields.get(b"baggage")
        members = baggage.normalise(items) if items else b""
        values = fields.get(b"traceparent") if self._reads_w3c else None
        if not values:
            return Extracted(baggage=members)
        if len(values) > 1:
            extracted = Extracted(baggage=members, w3c=True, duplicated=True)
            found = map(traceparent.parse, values)
            extracted.disagreeing = tuple(dict.fromkeys(c for c in found if c is not None))
            return extracted
        context = traceparent.parse(values[0])
        if context is None:
            return Extracted(baggage=members, w3c=True, malformed=True)
        lost = False
        states = fields.get(b"tracestate")
        if states:
            context.tracestate = tracestate.parse(states)
            lost = not context.tracestate and any(value.strip(b" \t,") for value in states)
        return Extracted(
            context, context.sampled, TRACECONTEXT, members, True, tracestate_lost=lost
        )

    def _prefixed_names(self, fields: Fields) -> list[bytes]:
        first = self._first_bytes  # for every message: a look at one byte is half of startswith()
        return [n for n in fields if n and n[0] in first and n.startswith(self._prefixes)]

    def _add_foreign(self, extracted: Extracted, fields: Fields, prefixed: list[bytes]) -> None:
        """Let the formats beside W3C have their say."""
        present = {self._format_of[name] for name in self._foreign_fields.intersection(fields)}
        for format in self._reads if prefixed else ():
            if any(name.startswith(format.prefixes) for name in prefixed):
                present.add(format)
        came_in = []
        for format in self._reads:
            if format in present:
                foreign = format.extract(fields)
                extracted.malformed |= foreign is None
                came_in.append(foreign or _without_ids(format, fields))
        extracted.came_in = tuple(came_in)
        extracted.attributes = tuple([pair for f in came_in for pair in f.attributes])
        members = [member for foreign in came_in for member in foreign.baggage]
        if members:
            extracted.baggage = baggage.merge(extracted.baggage, members)
        if not extracted.duplicated:
            self._choose(extracted, came_in)

    def _choose(self, extracted: Extracted, came_in: list[Foreign]) -> None:
        """Find the winner by precedence, and what differs from it."""
        w3c = winner = extracted.context
        for foreign in came_in:
            if foreign.context is not None:
                if w3c is None or self._precedes_w3c(foreign.format):
                    winner = foreign.context
                    extracted.winner = foreign.format
                    extracted.decision = foreign.sampled
                break
        if winner is None:
            _take_what_needs_no_span(extracted, came_in)
            return
        disagreeing = []
        for foreign in came_in:
            if foreign.context is None or _agree(foreign.context, winner):
                extracted.debug |= foreign.debug
            elif foreign.context not in disagreeing:
                disagreeing.append(foreign.context)
        if w3c is not None and not _agree(w3c, winner):
            disagreeing.append(w3c)
        elif w3c is not None and winner is not w3c:
            winner = _with_decision(w3c, winner)
        extracted.context = winner
        extracted.disagreeing = tuple(disagreeing)

    def _precedes_w3c(self, name: str) -> bool:
        return self._order.index(name) < self._order.index(TRACECONTEXT)


def _without_w3c(names: Iterable[str]) -> tuple[Format, ...]:
    return tuple(FORMATS[name] for name in dict.fromkeys(names) if name != TRACECONTEXT)


def _union(configured: tuple[Format, ...], came_in: Iterable[str]) -> list[Format]:
    return [*configured, *(f for name in came_in if (f := FORMATS[name]) not in configured)]


def _without_ids(format: Format, fields: Fields) -> Foreign:
    """Where a format's ids do not count, its baggage still does, and it goes out again."""
    rest = {name: values for name, values in fields.items() if name not in format.fields}
    return format.extract(rest) or Foreign(format.name)


def _take_what_needs_no_span(extracted: Extracted, came_in: Iterable[Foreign]) -> None:
    """Without a parent span, a trace id or a decision alone may still be there."""
    for foreign in came_in:
        if not extracted.trace_id and foreign.trace_id:
            extracted.trace_id = foreign.trace_id
            extracted.winner = foreign.format
        if extracted.decision is None:
            extracted.decision = foreign.sampled
        extracted.debug |= foreign.debug


def _agree(one: SpanContext, other: SpanContext) -> bool:
    """Tell whether two contexts mean the same span; 64-bit trace ids are compared as such."""
    if one.span_id != other.span_id:
        return False
    if one.trace_id.startswith(ZERO_SPAN_ID) or other.trace_id.startswith(ZERO_SPAN_ID):
        return one.trace_id[8:] == other.trace_id[8:]
    return one.trace_id == other.trace_id


def _with_decision(w3c: SpanContext, winner: SpanContext) -> SpanContext:
    """Where both mean the same span, traceparent knows more: the full trace id, and tracestate."""
    flags = w3c.flags & ~SAMPLED | winner.flags & SAMPLED
    return SpanContext(w3c.trace_id, w3c.span_id, flags, w3c.tracestate)
