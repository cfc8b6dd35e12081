"""Heads that arrive in pieces."""

from __future__ import annotations

from meshproxy.wire.http1 import CRLF, find_end


class HeadBuffer:
    """Keeps the pieces of a head until it is complete.

    ``skip_empty``: empty lines before the head are ignored, as before a request line (RFC 9112
    section 2.2).
    """

    __slots__ = ("_bytes", "_searched", "_skip_empty")

    def __init__(self, skip_empty: bool) -> None:
        self._bytes: bytearray | None = None
        self._searched = 0
        self._skip_empty = skip_empty

    @property
    def begun(self) -> bool:
        """Whether a head has begun and is not complete."""
        return self._bytes is not None

    def clear(self) -> None:
        """Forget what has come."""
        self._bytes = None
        self._searched = 0

    def feed(self, data: bytes, limit: int) -> bytes | None:
        """All bytes since the beginning of the head once it is complete, until then None.

        Raises `ProtocolError` as `find_end` does.
        """
        whole = self._bytes
        if whole is None:
            whole = self._bytes = bytearray()
        whole += data
        if self._skip_empty:
            while whole.startswith(CRLF):
                del whole[:2]
                self._searched = 0
        if not whole:
            self.clear()
            return None
        end = find_end(whole, self._searched, limit)
        if end < 0:
            self._searched = len(whole)
            return None
        self.clear()
        return bytes(whole)
