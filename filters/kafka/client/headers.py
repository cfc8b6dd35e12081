"""Trace context in the headers of Kafka records: pairs of a text and bytes or None."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, get_args

from meshproxy.config.model import Format
from meshproxy.trace.context import SpanContext
from meshproxy.trace.propagator import TRACECONTEXT, Extracted, Propagator

Header = tuple[str, bytes | None]

BAGGAGE: Final = b"baggage"

CONTEXT_KEYS: Final = frozenset(Propagator.fields - {BAGGAGE, b"tracestate"})
"""Lower-case keys that name a span. A record with one of them carries a context."""

FIRST: Final = "traceparent"
"""Of the headers that `with_context` adds."""

_PROPAGATOR: Final = Propagator(get_args(Format), (TRACECONTEXT,))
_MARKS: Final = Propagator.fields
_PREFIXES: Final = Propagator.prefixes


def carries_context(headers: Iterable[Header]) -> bool:
    """Whether a record has a context, good or bad, in any format and by a key of any case."""
    return any(_key(header[0]) in CONTEXT_KEYS for header in headers)


def extract(headers: Iterable[Header]) -> Extracted:
    """Read the context and baggage of a record.

    Of several headers with the same key the last counts, as for `Headers.lastHeader` of Kafka's
    own client: a list of headers that is used again and again has the newest context last.
    """
    fields: dict[bytes, list[bytes]] = {}
    for key, value in headers:
        name = _key(key)
        if value is not None and (name in _MARKS or name.startswith(_PREFIXES)):
            fields[name] = [bytes(value)]
    return _PROPAGATOR.extract(fields) if fields else Extracted()


def with_context(headers: Sequence[Header], span: SpanContext, baggage: bytes) -> list[Header]:
    """Give a new list with the span's context at its end; what is there already is not added."""
    present = {_key(header[0]) for header in headers}
    pairs = _PROPAGATOR.inject(span, None)
    if baggage:
        pairs.append((BAGGAGE, baggage))
    added: list[Header] = [(k.decode(), value) for k, value in pairs if k not in present]
    return [*headers, *added]


def _key(key: object) -> bytes:
    """A key in lower case; what is no text at all is for aiokafka to complain of."""
    return key.lower().encode("utf-8", "surrogatepass") if isinstance(key, str) else b""
