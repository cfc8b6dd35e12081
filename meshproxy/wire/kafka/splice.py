"""Headers put into records without making the records anew.

What a record is made of stays byte for byte as it is. Only its length and its count of headers are
written again, and headers are added behind those that it has.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from meshproxy.wire.kafka.batches import Record, check_count, check_end, read_record, varint

BYTES: Final = [bytes((byte,)) for byte in range(256)]
LONG_NAME: Final = 60
"""Names as long as this or longer count as equally long."""


class Addition:
    """The headers that a record is to be given, encoded once.

    A record that has a header of the same name (case ignored) is not given that one again. No
    headers at all is possible: the record stays as it is.
    """

    __slots__ = ("count", "encoded", "fields", "lengths", "names", "with_count")

    def __init__(self, pairs: Sequence[tuple[bytes, bytes]]) -> None:
        self.names: list[bytes] = []
        self.encoded: list[bytes] = []
        for name, value in pairs:
            pieces: list[bytes] = []
            _append_varint(pieces, len(name))
            pieces.append(name)
            _append_varint(pieces, len(value))
            pieces.append(value)
            self.names.append(name.lower())
            self.encoded.append(b"".join(pieces))
        self.lengths = _lengths(self.names)
        self.count = len(self.names)
        self.fields = b"".join(self.encoded)
        # All that follows the value of a record that has no headers of its own.
        pieces = []
        _append_varint(pieces, self.count)
        pieces.append(self.fields)
        self.with_count = b"".join(pieces)

    def without(self, names: list[bytes]) -> list[bytes]:
        """The encoded headers whose lower-cased names are not among ``names``."""
        found: list[bytes] = []
        for index in range(self.count):
            if self.names[index] not in names:
                found.append(self.encoded[index])
        return found


class Injected:
    """The payload with the headers in it, how many records got some, and how many stayed."""

    __slots__ = ("added", "kept", "payload")

    def __init__(self, payload: bytes, added: int, kept: int) -> None:
        self.payload = payload
        self.added = added
        self.kept = kept


def inject(
    payload: bytes, count: int, additions: Sequence[Addition], carried: frozenset[bytes]
) -> Injected:
    """Give each of the ``count`` records of an uncompressed payload its headers.

    ``additions`` has one element, for all of them, or ``count``. A record that has a header whose
    lower-cased name is in ``carried`` stays as it is, and so does one that has all headers of its
    addition already. When all stay, the payload of the result is the same object.

    Raises `Malformed` when the payload is not ``count`` records, and ValueError when there are
    neither one nor ``count`` additions.
    """
    shared = len(additions) == 1
    if not shared and len(additions) != count:
        raise ValueError(f"{len(additions)} additions for {count} records")
    end = len(payload)
    check_count(end, count)
    lengths = _lengths(carried)
    pieces: list[bytes] = []
    added = 0
    at = 0
    for index in range(count):
        record = read_record(payload, at, end)
        at = record.end
        addition = additions[0 if shared else index]
        if record.header_count == 0 and addition.count:
            body = payload[record.body_at : record.count_at]
            _append_varint(pieces, len(body) + len(addition.with_count))
            pieces.append(body)
            pieces.append(addition.with_count)
            added += 1
        elif _append_behind(pieces, payload, record, addition, carried, lengths):
            added += 1
        else:
            pieces.append(payload[record.at : record.end])
    check_end(end, count, at)
    return Injected(b"".join(pieces) if added else payload, added, count - added)


def _append_behind(
    pieces: list[bytes],
    payload: bytes,
    record: Record,
    addition: Addition,
    carried: frozenset[bytes],
    lengths: int,
) -> bool:
    """Append the record with what it lacks of the addition; False, and nothing, if it stays.

    ``lengths`` are those of the names in ``carried``.
    """
    count = addition.count
    fields = addition.fields
    names = _names(payload, record, lengths | addition.lengths)
    if names:
        for name in names:
            if name in carried:
                return False
        lacking = addition.without(names)
        count = len(lacking)
        fields = b"".join(lacking)
    if count == 0:
        return False
    total = record.header_count + count
    headers_at = record.headers_at
    size = record.end - record.body_at + len(fields)
    size += _size(total) - (headers_at - record.count_at)
    _append_varint(pieces, size)
    pieces.append(payload[record.body_at : record.count_at])
    _append_varint(pieces, total)
    pieces.append(payload[headers_at : record.end])
    pieces.append(fields)
    return True


def _names(payload: bytes, record: Record, lengths: int) -> list[bytes]:
    """The names, in lower case, of those headers whose names have one of these lengths."""
    names: list[bytes] = []
    at = record.headers_at
    for _ in range(record.header_count):
        length, at = varint(payload, at)
        if lengths >> min(length, LONG_NAME) & 1:
            names.append(payload[at : at + length].lower())
        length, at = varint(payload, at + length)
        if length > 0:
            at += length
    return names


def _lengths(names: Iterable[bytes]) -> int:
    """The lengths of the names, as bits: most names of others are told apart by that alone."""
    bits = 0
    for name in names:
        bits |= 1 << min(len(name), LONG_NAME)
    return bits


def _size(number: int) -> int:
    """Bytes that `_append_varint` appends."""
    size = 1
    number >>= 6
    while number:
        size += 1
        number >>= 7
    return size


def _append_varint(pieces: list[bytes], number: int) -> None:
    """Append a number that is not negative, as a signed varint in zigzag, byte by byte."""
    number <<= 1
    while number > 0x7F:
        pieces.append(BYTES[number & 0x7F | 0x80])
        number >>= 7
    pieces.append(BYTES[number])
