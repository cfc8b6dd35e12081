"""The ``traceparent`` header (W3C Trace Context level 2, section 3.2). Hot: once per message.

Upper-case hexadecimal is told by looking at the whole value once, not at every digit: all that
stands in a valid value is a digit, a lower-case letter or a dash.
"""

from __future__ import annotations

from binascii import Error as _NotHex
from binascii import hexlify, unhexlify
from struct import Struct
from typing import Final

from meshproxy.trace.context import KNOWN_FLAGS, SpanContext
from meshproxy.trace.ids import ZERO_SPAN_ID, ZERO_TRACE_ID

_LENGTH: Final = 55
_DASH = ord("-")
_VERSION_00: Final = b"00-"
_HIGHER_VERSIONS: Final = frozenset(b"%02x-" % version for version in range(0x01, 0xFF))
_split = Struct("3s 32s c 16s 3s").unpack
"""Version with its dash, trace id, a dash, span id, flags with their dash."""

_FLAGS = {b"-%02x" % bits: bits & KNOWN_FLAGS for bits in range(256)}
_FLAGS_TEXT = tuple(b"-%02x" % bits for bits in range(KNOWN_FLAGS + 1))


def parse(value: bytes) -> SpanContext | None:
    """Read a header value; None when it does not count and the trace has to be restarted.

    Blanks around it are tolerated. A version above 00 is read as 00 when its first 55 characters
    have that form and it ends there or goes on with a dash (section 4.3). Unknown flags are zeroed.
    """
    if len(value) != _LENGTH:
        value = _first_55(value)
        if not value:
            return None
    version, trace_hex, dash, span_hex, flags_text = _split(value)
    try:
        flags = _FLAGS[flags_text]
        trace_id = unhexlify(trace_hex)
        span_id = unhexlify(span_hex)
    except (KeyError, _NotHex):
        return None
    if trace_id == ZERO_TRACE_ID or span_id == ZERO_SPAN_ID or dash != b"-":
        return None
    if version != _VERSION_00 and version not in _HIGHER_VERSIONS:
        return None
    if not value.islower() and value.lower() != value:  # islower() needs at least one letter
        return None
    return SpanContext(trace_id, span_id, flags)


def format(context: SpanContext) -> bytes:
    """Write the header value, in version 00."""
    return (
        b"00-"
        + hexlify(context.trace_id)
        + b"-"
        + hexlify(context.span_id)
        + _FLAGS_TEXT[context.flags & KNOWN_FLAGS]
    )


def _first_55(value: bytes) -> bytes:
    """Give the characters to read of a value that has not just 55; nothing when it has no such."""
    value = value.strip(b" \t")
    if len(value) > _LENGTH and value[_LENGTH] == _DASH and not value.startswith(_VERSION_00):
        return value[:_LENGTH]
    return value if len(value) == _LENGTH else b""
