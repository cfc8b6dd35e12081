"""Trace ids (16 bytes) and span ids (8 bytes): minting from given randomness, reading from text."""

from __future__ import annotations

from binascii import Error as _NotHex
from binascii import unhexlify
from typing import Final

TRACE_ID_SIZE: Final = 16
SPAN_ID_SIZE: Final = 8
ZERO_TRACE_ID = bytes(TRACE_ID_SIZE)
ZERO_SPAN_ID = bytes(SPAN_ID_SIZE)
_LARGEST_U64: Final = 2**64 - 1
_DIGITS_OF_U64: Final = 20


def trace_id_from(random16: bytes) -> bytes:
    """Make a trace id of 16 random bytes; never all zero (Trace Context, section 3.2.2.3)."""
    return random16 if random16 != ZERO_TRACE_ID else b"\x01".rjust(TRACE_ID_SIZE, b"\0")


def span_id_from(random8: bytes) -> bytes:
    """Make a span id of 8 random bytes; never all zero (Trace Context, section 3.2.2.4)."""
    return random8 if random8 != ZERO_SPAN_ID else b"\x01".rjust(SPAN_ID_SIZE, b"\0")


def from_hex(text: bytes, size: int) -> bytes | None:
    """Read up to ``size`` bytes written in hexadecimal, padded with zeros on the left.

    None when the text is empty, too long, not hexadecimal or zero. Either case of letters is read:
    only W3C Trace Context is strict about it.
    """
    if not text or len(text) > 2 * size:
        return None
    try:
        raw = unhexlify(text.rjust(2 * size, b"0"))
    except _NotHex:
        return None
    return raw if any(raw) else None


def from_decimal(text: bytes) -> bytes | None:
    """Read a decimal unsigned 64-bit number as 8 bytes; None when it is none, or zero."""
    if not text.isdigit() or len(text) > _DIGITS_OF_U64:
        return None
    number = int(text)
    return number.to_bytes(8, "big") if 0 < number <= _LARGEST_U64 else None


def to_decimal(raw: bytes) -> bytes:
    """Write big-endian bytes as a decimal number."""
    return b"%d" % int.from_bytes(raw, "big")
