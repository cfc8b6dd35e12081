"""The types that Kafka's messages are made of, read and written.

Every type comes in two encodings: the old one with fixed lengths, and the compact one of flexible
versions, with lengths as unsigned varints and tagged fields after each structure (KIP-482).
"""

from __future__ import annotations

from struct import Struct
from typing import Final

INT16: Final = Struct(">h")
INT32: Final = Struct(">i")

SIZE: Final = 4
"""Bytes before every frame, which tell how long it is without them."""
MAX_UINT32: Final = 0xFFFFFFFF
UUID_SIZE: Final = 16
LARGE: Final = 16384
"""Bytes that are worth not to be copied."""
MAX_VARINT: Final = 5
"""Bytes of the longest varint of 32 bits."""
MAX_VARLONG: Final = 10
"""Bytes of the longest varint of 64 bits."""


class Malformed(ValueError):  # noqa: N818 - the name that the rest of the room uses
    """The bytes are not what the protocol says they are. The text says what and where."""


class Reader:
    """Reads values one after the other, from ``at`` up to ``end`` (-1: all of ``data``).

    All methods raise `Malformed` when a value does not fit before ``end``, or is none. A count or
    length is believed only as far as there are bytes for it.
    """

    __slots__ = ("at", "data", "end")

    def __init__(self, data: bytes, at: int = 0, end: int = -1) -> None:
        size = len(data)
        self.data = data
        self.at = at
        self.end = size if end < 0 or end > size else end

    def take(self, size: int) -> int:
        """Step over ``size`` bytes; returns where they begin."""
        at = self.at
        if size < 0 or at + size > self.end:
            raise self.malformed(f"{size} bytes wanted, {self.end - at} are left")
        self.at = at + size
        return at

    def malformed(self, what: str) -> Malformed:
        """The exception for what is wrong where the reader is."""
        return Malformed(f"{what} (at byte {self.at})")

    def int16(self) -> int:
        """An int16."""
        value: int = INT16.unpack_from(self.data, self.take(2))[0]
        return value

    def int32(self) -> int:
        """An int32."""
        value: int = INT32.unpack_from(self.data, self.take(4))[0]
        return value

    def uvarint(self) -> int:
        """An unsigned varint of 32 bits."""
        at = self.at
        if at < self.end:
            first = self.data[at]
            if first < 128:
                self.at = at + 1
                return first
        return self._long_uvarint()

    def _long_uvarint(self) -> int:
        data = self.data
        at = self.at
        end = min(self.end, at + MAX_VARINT)
        value = 0
        shift = 0
        while at < end:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            if byte < 128:
                if value > MAX_UINT32:
                    break
                self.at = at
                return value
            shift += 7
        raise self.malformed("a varint that does not end, or is too large")

    def length(self, flexible: bool) -> int:
        """How many bytes, or elements of at least one byte each, follow; -1 for null."""
        return self._room(self.uvarint() - 1 if flexible else self.int32())

    def _string_length(self, flexible: bool) -> int:
        return self._room(self.uvarint() - 1 if flexible else self.int16())

    def _room(self, size: int) -> int:
        if size < -1 or size > self.end - self.at:
            raise self.malformed(f"length {size} where {self.end - self.at} bytes are left")
        return size

    def string(self, flexible: bool) -> str | None:
        """A nullable string. What is not UTF-8 in it is replaced."""
        size = self._string_length(flexible)
        if size < 0:
            return None
        at = self.at
        self.at = at + size
        return self.data[at : at + size].decode("utf-8", "replace")

    def text(self, flexible: bool) -> str:
        """A string that must not be null. What is not UTF-8 in it is replaced."""
        text = self.string(flexible)
        if text is None:
            raise self.malformed("null for a string")
        return text

    def skip_string(self, flexible: bool) -> None:
        """Step over a nullable string."""
        size = self._string_length(flexible)
        if size > 0:
            self.at += size

    def uuid(self) -> bytes:
        """The 16 bytes of a UUID."""
        at = self.take(UUID_SIZE)
        return self.data[at : at + UUID_SIZE]

    def skip_array(self, flexible: bool, size: int) -> None:
        """Step over an array of elements of ``size`` bytes each."""
        count = self.length(flexible)
        if count > 0:
            self.take(count * size)

    def skip_tags(self) -> None:
        """Step over tagged fields."""
        at = self.at
        if at < self.end and self.data[at] == 0:
            self.at = at + 1
            return
        for _ in range(self.uvarint()):
            self.uvarint()
            self.take(self.uvarint())

    def find_tag(self, wanted: int) -> int:
        """Step over tagged fields; returns where the size of the one that is wanted stands, or -1.

        Raises `Malformed` when it is there twice, since it is not said which of them counts.
        """
        found = -1
        for _ in range(self.uvarint()):
            tag = self.uvarint()
            at = self.at
            self.take(self.uvarint())
            if tag == wanted:
                if found >= 0:
                    raise self.malformed(f"tag {tag} twice")
                found = at
        return found


class Patch:
    """A frame of which some bytes are replaced; the rest stays as it is.

    ``growth`` is by how many bytes the result will be longer.
    """

    __slots__ = ("_changes", "_frame", "growth")

    def __init__(self, frame: bytes) -> None:
        self._frame = frame
        self._changes: list[tuple[int, int, tuple[bytes, ...]]] = []
        self.growth = 0

    def replace(self, start: int, end: int, *pieces: bytes) -> None:
        """Put ``pieces`` in the place of the bytes from ``start`` to ``end`` of the original.

        Replaced ranges must not overlap, nor begin at the same byte.
        """
        self._changes.append((start, end, pieces))
        self.growth += sum(map(len, pieces)) - (end - start)

    def frame(self) -> bytes:
        """The result, its size corrected; the very same object if nothing was replaced."""
        return b"".join(self._parts()) if self._changes else self._frame

    def pieces(self) -> list[bytes]:
        """The same in pieces: what is large is not copied once more."""
        if not self._changes:
            return [self._frame]
        found: list[bytes] = []
        small: list[bytes | memoryview] = []
        for part in self._parts():
            if isinstance(part, bytes) and len(part) >= LARGE:
                found += [b"".join(small), part]
                small.clear()
            else:
                small.append(part)
        found.append(b"".join(small))
        return [each for each in found if each]

    def _parts(self) -> list[bytes | memoryview]:
        self._changes.sort()
        original = memoryview(self._frame)
        at = SIZE
        parts: list[bytes | memoryview] = [INT32.pack(len(original) + self.growth - SIZE)]
        for start, end, pieces in self._changes:
            parts.append(original[at:start])
            parts += pieces
            at = end
        parts.append(original[at:])
        return parts


def uvarint(value: int) -> bytes:
    """An unsigned varint."""
    if value < 128:
        return bytes((value,))
    encoded = bytearray()
    while value > 127:
        encoded.append(value & 127 | 128)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def string(text: str, flexible: bool) -> bytes:
    """A string that is not null."""
    data = text.encode()
    if flexible:
        return uvarint(len(data) + 1) + data
    return INT16.pack(len(data)) + data


def length(size: int, flexible: bool) -> bytes:
    """The length before bytes or records, or the count before an array's elements."""
    return uvarint(size + 1) if flexible else INT32.pack(size)
