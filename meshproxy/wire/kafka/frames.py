"""Requests and responses in a stream of bytes: each is a frame, a size of four bytes before it."""

from __future__ import annotations

from typing import Final

from meshproxy.wire.kafka.primitives import INT32, SIZE

HEAD: Final = 4096
"""So much of a frame that is too large to be kept comes in one piece, to read its head from."""
ENDLESS: Final = 1 << 62
"""The size of what is no frame: everything after a negative size."""


class Piece:
    """A frame, or a part of one that is too large to be kept.

    ``first`` and ``last`` tell which part; ``size`` is that of the frame, its own four bytes
    included, or `ENDLESS`.
    """

    __slots__ = ("data", "first", "last", "size")

    def __init__(self, data: bytes, first: bool, last: bool, size: int) -> None:
        self.data = data
        self.first = first
        self.last = last
        self.size = size


class Frames:
    """Cuts a stream into frames. The pieces, one after the other, are the stream.

    A frame of up to ``limit`` bytes comes whole. A larger one comes in pieces, as it is read; the
    first of them holds its first 4096 bytes.
    """

    __slots__ = ("_held", "_held_size", "_left", "_limit", "_size")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held: list[bytes | memoryview] = []  # the beginning of a frame
        self._held_size = 0
        self._size = 0  # of the frame that has begun, once known
        self._left = 0  # of a frame that comes in pieces, after its first

    def feed(self, data: bytes) -> list[Piece]:
        """What can be passed on, now that ``data`` has come."""
        available = len(data)
        if available >= SIZE and not self._held_size and not self._left:
            size = _size(data, 0)
            if size == available and size <= self._limit:
                return [Piece(data, True, True, size)]
        pieces: list[Piece] = []
        at = 0
        while at < available:
            taken = self._rest(data, at, pieces) if self._left else self._begin(data, at, pieces)
            if not taken:
                self._held.append(memoryview(data)[at:])
                self._held_size += available - at
                break
            at += taken
        return pieces

    def held(self) -> bytes:
        """What has come and was not passed on, because the rest of its frame is missing."""
        return b"".join(self._held)

    def _begin(self, data: bytes, at: int, pieces: list[Piece]) -> int:
        """Complete a frame, or its first piece; returns how much of ``data`` that took."""
        held = self._held_size
        reachable = held + len(data) - at
        if reachable < SIZE:
            return 0
        size = self._size
        if not size:
            size = _size(data, at) if not held else self._held_frame_size(data, at)
            self._size = size
        if size <= self._limit:
            if reachable < size:
                return 0
            end = at + size - held
        else:
            if reachable < HEAD and reachable < size < ENDLESS:
                return 0
            end = min(len(data), at + size - held)
        whole = self._joined(data, at, end)
        self._left = size - len(whole)
        pieces.append(Piece(whole, True, not self._left, size))
        if not self._left:
            self._size = 0
        return end - at

    def _rest(self, data: bytes, at: int, pieces: list[Piece]) -> int:
        taken = min(self._left, len(data) - at)
        self._left -= taken
        pieces.append(Piece(data[at : at + taken], False, not self._left, self._size))
        if not self._left:
            self._size = 0
        return taken

    def _held_frame_size(self, data: bytes, at: int) -> int:
        return _size(b"".join(self._held) + data[at : at + SIZE], 0)

    def _joined(self, data: bytes, at: int, end: int) -> bytes:
        """The held bytes and those from ``at`` to ``end``, copied once."""
        if not self._held_size:
            return data[at:end]
        self._held.append(memoryview(data)[at:end])
        whole = b"".join(self._held)
        self._held.clear()
        self._held_size = 0
        return whole


def frame_size(data: bytes) -> int:
    """The size of the frame that ``data`` begins with, its four bytes included; 0 if unknown."""
    return _size(data, 0) if len(data) >= SIZE else 0


def _size(data: bytes, at: int) -> int:
    """The size of the frame that begins at ``at``, with its four bytes."""
    size: int = INT32.unpack_from(data, at)[0]
    return size + SIZE if size >= 0 else ENDLESS
