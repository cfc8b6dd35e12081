"""The few pieces of the protobuf wire format that OTLP needs (protobuf.dev, "Encoding")."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

_UINT64: Final = 0xFFFF_FFFF_FFFF_FFFF
_MAX_VARINT_BYTES: Final = 10
_ONE_BYTE = tuple(bytes([number]) for number in range(0x80))

_VARINT, _FIXED64, _DELIMITED, _FIXED32 = 0, 1, 2, 5


class DecodeError(ValueError):
    """Bytes that are not a protobuf message."""


def varint(number: int) -> bytes:
    """Encode an integer of up to 64 bits; a negative one as its two's complement (10 bytes)."""
    if 0 <= number < 0x80:
        return _ONE_BYTE[number]
    if 0 <= number < 0x4000:
        return bytes((number & 0x7F | 0x80, number >> 7))
    if 0 <= number < 0x200000:
        return bytes((number & 0x7F | 0x80, number >> 7 & 0x7F | 0x80, number >> 14))
    number &= _UINT64
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def delimited(tag: bytes, payload: bytes) -> bytes:
    """Encode a length-delimited field; ``tag`` is the field's number and wire type, encoded."""
    return tag + varint(len(payload)) + payload


def utf8(text: str) -> bytes:
    """Encode a string; surrogates that stand alone become U+FFFD, as protobuf wants valid UTF-8."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()


def fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield (field number, value) of a message; fixed-width values as their bytes.

    Raises `DecodeError` when the message is cut short or has an unknown wire type.
    """
    at = 0
    while at < len(message):
        key, at = _read_varint(message, at)
        wire_type = key & 7
        if wire_type == _VARINT:
            number, at = _read_varint(message, at)
            yield key >> 3, number
            continue
        if wire_type == _DELIMITED:
            size, at = _read_varint(message, at)
        elif wire_type == _FIXED64:
            size = 8
        elif wire_type == _FIXED32:
            size = 4
        else:
            raise DecodeError(f"wire type {wire_type} at byte {at}")
        if at + size > len(message):
            raise DecodeError(f"field of {size} bytes is cut short at byte {at}")
        yield key >> 3, message[at : at + size]
        at += size


def _read_varint(message: bytes, at: int) -> tuple[int, int]:
    number = 0
    for index, byte in enumerate(message[at : at + _MAX_VARINT_BYTES]):
        number |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return number & _UINT64, at + index + 1
    raise DecodeError(f"varint without an end at byte {at}")
