"""Coarse time for time limits: one timer for all connections, no timer per request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from meshproxy.config.model import Limits


class Timed(Protocol):
    """Something that watches its own time limits."""

    def check(self, now: float) -> None:
        """Act if a limit has passed; ``now`` in seconds on the event loop's clock."""

    def abort(self) -> None:
        """Cut it, whatever is going on."""


class Ticker:
    """Calls ``check`` of all members every ``interval`` seconds; ``now`` is as coarse as that."""

    def __init__(self, loop: asyncio.AbstractEventLoop, interval: float) -> None:
        self._loop = loop
        self.interval = interval
        self.now = loop.time()
        self._members: set[Timed] = set()
        self._chores: list[Callable[[float], None]] = []
        self._handle: asyncio.TimerHandle | None = None

    def add(self, member: Timed) -> None:
        """Begin to watch."""
        self._members.add(member)

    def discard(self, member: Timed) -> None:
        """Stop watching."""
        self._members.discard(member)

    def each_tick(self, chore: Callable[[float], None]) -> None:
        """Call ``chore`` with the time, every tick."""
        self._chores.append(chore)

    def members(self) -> tuple[Timed, ...]:
        """All that is watched now."""
        return tuple(self._members)

    def start(self) -> None:
        """Begin to tick."""
        self._handle = self._loop.call_later(self.interval, self._tick)

    def stop(self) -> None:
        """No more ticks."""
        if self._handle is not None:
            self._handle.cancel()

    def _tick(self) -> None:
        self.now = now = self._loop.time()
        self._handle = self._loop.call_later(self.interval, self._tick)
        for member in tuple(self._members):
            member.check(now)
        for chore in self._chores:
            chore(now)


def interval_for(limits: Limits) -> float:
    """A tick that is fine enough for the shortest limit, yet seldom: 50 ms to 1 s."""
    shortest = min(
        limits.header_timeout, limits.stream_idle, limits.connection_idle, limits.pool_idle
    )
    return min(1.0, max(0.05, shortest / 4))
