"""Requests that ended a moment ago: what they did may leave the service only now.

Producers of messages collect records for some milliseconds before they send them. When a batch
leaves, the request that made a record may be over and another one be in flight. Records tell when
they were made, so what counts is who was in flight then.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final

from meshproxy.linking.inflight import Cause

KEPT_NS: Final = 2_000_000_000
"""How long a request that is over is remembered, in nanoseconds."""

MOST: Final = 4096
"""How many are remembered, at most; then it is not known who was in flight before the oldest."""


class Lately:
    """Who was in flight when something was made that is sent only now; idle until wanted."""

    def __init__(self) -> None:
        self._over: deque[tuple[int, Cause]] = deque()
        self._wanted = False
        self._known_from_ns = 0
        self._began_ns = 0

    def want(self, now_ns: int) -> None:
        """Remember requests from now on."""
        if not self._wanted:
            self._wanted = True
            self._known_from_ns = self._began_ns = now_ns

    def is_before(self, at_ns: int) -> bool:
        """Whether that was before anybody was remembered."""
        return at_ns < self._began_ns

    def ended(self, cause: Cause, now_ns: int) -> None:
        """A request is over."""
        if not self._wanted:
            return
        over = self._over
        over.append((now_ns, cause))
        while over[0][0] < now_ns - KEPT_NS or len(over) > MOST:
            self._known_from_ns = over.popleft()[0]

    def in_flight(self, inflight: Iterable[Cause], from_ns: int, to_ns: int) -> list[Cause] | None:
        """Who was in flight at some time between two moments, in Unix nanoseconds, oldest first.

        ``inflight`` are those in flight now. None if that is not known for so long ago.
        """
        if not self._wanted or from_ns < self._known_from_ns:
            return None
        found: list[Cause] = []
        for end_ns, cause in reversed(self._over):  # what ended last is at the end
            if end_ns < from_ns:
                break
            if cause.start_ns <= to_ns:
                found.append(cause)
        found.reverse()
        for cause in inflight:
            if cause.start_ns <= to_ns:
                found.append(cause)
        return found
