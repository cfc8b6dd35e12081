"""How much looking is worth: a share of the time, and pauses after what led to nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

LONGEST: Final = 600.0
"""Seconds that a pause lasts at most, unless it begins with more."""


class Budget:
    """Lets a share of the time be spent on work, at most ``burst`` seconds of it at once.

    ``work`` is the clock by which work is counted: seconds that this thread has computed, or any
    that go on while it does.
    """

    __slots__ = ("_at", "_began", "_burst", "_left", "_share", "_work")

    def __init__(self, work: Callable[[], float], share: float, burst: float) -> None:
        self._work = work
        self._share = share
        self._burst = burst
        self._left = burst
        self._at = 0.0
        self._began = 0.0

    def begin(self, now: float, reserve: float = 0.0) -> bool:
        """Work is to begin, which `end` must follow; False if there is no time left for it.

        ``reserve`` is the share of the burst that this work must leave to other work.
        """
        self._left = min(self._burst, self._left + (now - self._at) * self._share)
        self._at = now
        if self._left <= reserve * self._burst:
            return False
        self._began = self._work()
        return True

    def end(self) -> None:
        """The work is done."""
        self._left -= max(0.0, self._work() - self._began)


class Pause:
    """When not to look, since it led to nothing: longer each time."""

    __slots__ = ("_reason", "_seconds", "until")

    def __init__(self) -> None:
        self.until = 0.0
        self._seconds = 0.0
        self._reason = ""

    def begin(self, now: float, reason: str, first: float) -> None:
        """Do not look for ``first`` seconds, or twice as long as the last time for this reason."""
        same = reason == self._reason
        self._seconds = min(max(first, LONGEST), self._seconds * 2) if same else first
        self._reason = reason
        self.until = now + self._seconds

    def reset(self) -> None:
        """It led to something."""
        self._reason = ""
