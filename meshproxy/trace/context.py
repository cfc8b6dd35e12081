"""The identity of a span as it travels between processes (W3C Trace Context)."""

from __future__ import annotations

from typing import Final

SAMPLED: Final = 0x01
"""The caller may have recorded this trace (W3C Trace Context level 1, section 3.2.2.5.1)."""

RANDOM: Final = 0x02
"""At least the low 56 bits of the trace id are random (level 2, section 3.2.2.5.2)."""

KNOWN_FLAGS: Final = SAMPLED | RANDOM


class SpanContext:
    """Trace id, span id, flags and tracestate of one span. Treat as immutable.

    ``trace_id`` is 16 bytes, ``span_id`` 8 bytes, neither all zero. ``flags`` holds only
    `KNOWN_FLAGS`. ``tracestate`` is a valid list as it goes on the wire, or empty.
    """

    __slots__ = ("flags", "span_id", "trace_id", "tracestate")

    def __init__(
        self, trace_id: bytes, span_id: bytes, flags: int = 0, tracestate: str = ""
    ) -> None:
        self.trace_id = trace_id
        self.span_id = span_id
        self.flags = flags
        self.tracestate = tracestate

    @property
    def sampled(self) -> bool:
        """Whether the sampled flag is set."""
        return bool(self.flags & SAMPLED)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SpanContext):
            return NotImplemented
        return (self.trace_id, self.span_id, self.flags, self.tracestate) == (
            other.trace_id,
            other.span_id,
            other.flags,
            other.tracestate,
        )

    def __hash__(self) -> int:
        return hash((self.trace_id, self.span_id))

    def __repr__(self) -> str:
        return (
            f"SpanContext({self.trace_id.hex()}-{self.span_id.hex()}-{self.flags:02x}"
            f"{', ' + self.tracestate if self.tracestate else ''})"
        )
