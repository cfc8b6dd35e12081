"""The one exception that reading bytes from a peer may raise."""

from __future__ import annotations


class ProtocolError(Exception):
    """The peer sent something that is wrong or could be read in two ways.

    ``status`` is the HTTP status that fits when the peer is a client. ``reason`` is a short
    constant, for counting; the exception's text is one sentence for people.
    """

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
