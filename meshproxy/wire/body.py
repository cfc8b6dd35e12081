"""Where a message body ends (RFC 9112 sections 6 and 7). Bodies are counted, never copied."""

from __future__ import annotations

import re
from typing import Final

from meshproxy.wire.errors import ProtocolError
from meshproxy.wire.fields import FieldTable

CHUNK_LINE: Final = re.compile(rb"([0-9A-Fa-f]{1,15})(?:;[\t\x20-\x7e\x80-\xff]*)?\r\n")
CHUNK_LINE_LIMIT: Final = 1024
TRAILER_LIMIT: Final = 16384

FRAMING_FIELDS: Final = frozenset({b"content-length", b"transfer-encoding", b"host", b"trailer"})
"""Must not stand in a trailer section (RFC 9110 section 6.5.1)."""


class LengthBody:
    """A body of a known number of bytes."""

    __slots__ = ("_left", "done")

    def __init__(self, length: int) -> None:
        self._left = length
        self.done = length == 0

    def feed(self, data: bytes, start: int = 0) -> int:
        """Take body bytes from ``data[start:]``; returns where the body (so far) ends in it."""
        available = len(data) - start
        if available < self._left:
            self._left -= available
            return len(data)
        end = start + self._left
        self._left = 0
        self.done = True
        return end


class EndlessBody:
    """A body that ends with its connection."""

    __slots__ = ()
    done = False

    def feed(self, data: bytes, start: int = 0) -> int:
        """All bytes are body."""
        return len(data)


class ChunkedBody:
    """A body in the chunked coding, with its trailer section; passed on as it is framed.

    After `feed` raised `ProtocolError` the body must not be used again.
    """

    __slots__ = ("_left", "_line", "_table", "_trailer", "done")

    def __init__(self, table: FieldTable) -> None:
        self._table = table
        self._left = 0  # bytes of the open chunk, with its CRLF
        self._line = b""  # the beginning of a line that is not complete
        self._trailer = -1  # bytes of the trailer section so far, -1 before it
        self.done = False

    def feed(self, data: bytes, start: int = 0) -> int:
        """Take body bytes from ``data[start:]``; returns where the body (so far) ends in it."""
        position = start
        size = len(data)
        while position < size and not self.done:
            if self._left > 2:
                step = min(self._left - 2, size - position)
                self._left -= step
                position += step
            elif self._left:
                position = self._chunk_end(data, position)
            else:
                position = self._line_at(data, position)
        return position

    def _chunk_end(self, data: bytes, position: int) -> int:
        """The CRLF behind a chunk, which may come in two pieces."""
        if data[position] != (0x0D if self._left == 2 else 0x0A):
            raise ProtocolError(400, "chunk_end", "A chunk is longer than its size says.")
        self._left -= 1
        return position + 1

    def _line_at(self, data: bytes, position: int) -> int:
        newline = data.find(b"\n", position)
        end = len(data) if newline < 0 else newline + 1
        line = self._line + data[position:end] if self._line else data[position:end]
        if newline < 0:
            self._check_partial(line)
            self._line = line
            return end
        self._line = b""
        if self._trailer < 0:
            self._chunk_line(line)
        else:
            self._trailer_line(line)
        return end

    def _check_partial(self, line: bytes) -> None:
        if self._trailer >= 0:
            if self._trailer + len(line) > TRAILER_LIMIT and line != b"\r":
                raise ProtocolError(431, "trailer_too_large", "The trailer section is too large.")
        elif len(line) > CHUNK_LINE_LIMIT:
            raise _too_long()

    def _chunk_line(self, line: bytes) -> None:
        match = CHUNK_LINE.fullmatch(line)
        if len(line) > CHUNK_LINE_LIMIT:
            raise _too_long()
        if match is None:
            raise ProtocolError(400, "chunk_size", "A chunk-size line is not valid.")
        size = int(match[1], 16)
        if size:
            self._left = size + 2
        else:
            self._trailer = 0

    def _trailer_line(self, line: bytes) -> None:
        if line == b"\r\n":
            self.done = True
            return
        self._trailer += len(line)
        if self._trailer > TRAILER_LIMIT:
            raise ProtocolError(431, "trailer_too_large", "The trailer section is too large.")
        if line[-2:] != b"\r\n" or self._table[line[:-2]].name in FRAMING_FIELDS:
            raise ProtocolError(400, "trailer", "A trailer field is not valid.")


def _too_long() -> ProtocolError:
    return ProtocolError(400, "chunk_line", "A chunk-size line is too long.")


Body = LengthBody | ChunkedBody | EndlessBody
