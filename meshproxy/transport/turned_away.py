"""Clients for whom there is no room: they are told so, and get the time to read it."""

from __future__ import annotations

import asyncio

from meshproxy.transport.runtime import Runtime

PATIENCE = 1.0
"""Seconds until the connection is cut."""

MOST = 256
"""How many may linger at a time; whoever comes then is cut at once."""


class TurnedAway(asyncio.Protocol):
    """Sends an answer and its end, and drops what comes in.

    A socket closed with unread bytes is reset, and a reset can overtake the answer.
    """

    def __init__(self, runtime: Runtime, transport: asyncio.Transport, answer: bytes) -> None:
        self._runtime = runtime
        self._transport = transport
        self._since = runtime.ticker.now
        runtime.turned_away += 1
        runtime.ticker.add(self)
        transport.set_protocol(self)
        transport.write(answer)
        if transport.can_write_eof():
            transport.write_eof()
        else:
            transport.close()

    def eof_received(self) -> bool:
        """The client has seen it."""
        return False

    def connection_lost(self, exc: BaseException | None) -> None:
        """The client is gone."""
        self._runtime.turned_away -= 1
        self._runtime.ticker.discard(self)

    def check(self, now: float) -> None:
        """Cut whoever stays."""
        if now - self._since > PATIENCE:
            self._transport.abort()

    def abort(self) -> None:
        """Cut the connection."""
        self._transport.abort()
