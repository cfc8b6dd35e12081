"""What a service does without being asked, and whether it passes on what it is given.

Nothing on a call tells whether a request caused it, if the call's own context names no request in
flight. It did not, or it cannot be said that it did,

- where the service makes such calls at least as often while it has no request at all; or
- where every request in flight is of a route that has passed its context on: what carries another
  context then is more likely of another origin than a fault that comes and goes.

Unless such calls keep to the times when requests are in flight, though there are others: that a
fault comes and goes is then what is left.

The second says nothing of calls without any context that other evidence links to a request: a
service may well pass it on by one of its client libraries and not by another. Nor of the contexts
of requests that are over: a thread that keeps the context of its first request passes that one on
right.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Final

from meshproxy.linking.inflight import Cause

OFTEN: Final = 3
"""Calls without any request in flight from which on they are no accident."""

LEAST_TIMES: Final = 10
COINCIDENCE: Final = 0.01
"""In how many spells of work such calls have to come up, and how improbable that must be if they
came at any time."""

MOST_ENDPOINTS: Final = 1000
MOST_ROUTES: Final = 1000
"""How many are remembered; nothing is known of any further ones."""


class Origin(IntEnum):
    """What a call carries that names no request in flight."""

    NO_CONTEXT = 0
    UNKNOWN_TRACE = 1
    TRACE_THAT_IS_OVER = 2


class Seen:
    """Calls of one origin to one endpoint: made without any request in flight, and with.

    ``spells`` counts the spells of work with such calls; ``spell`` is the newest of them.
    """

    __slots__ = ("alone", "spell", "spells", "within")

    def __init__(self) -> None:
        self.alone = 0
        self.within = 0
        self.spell = 0
        self.spells = 0


class Habits:
    """What was seen so far; bounded."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str, Origin], Seen] = {}
        self._passes_on: set[str] = set()
        self._spell = 0
        self._began_ns = 0
        self._busy_from_ns = 0
        self._busy_ns = 0

    def busy(self, now_ns: int) -> None:
        """The first request is in flight: a spell of work begins."""
        self._spell += 1
        self._began_ns = self._began_ns or now_ns
        self._busy_from_ns = now_ns

    def idle(self, now_ns: int) -> None:
        """The last request in flight is over."""
        if self._busy_from_ns:
            self._busy_ns += now_ns - self._busy_from_ns
            self._busy_from_ns = 0

    def _keeps_to_requests(self, seen: Seen, now_ns: int) -> bool:
        """Whether it would be a rare coincidence if such calls had nothing to do with requests."""
        if seen.alone or seen.spells < LEAST_TIMES:
            return False
        busy_ns = self._busy_ns + (now_ns - self._busy_from_ns if self._busy_from_ns else 0)
        share: float = busy_ns / max(now_ns - self._began_ns, busy_ns, 1)
        return share**seen.spells <= COINCIDENCE

    def passed_on(self, route: str) -> None:
        """A call of a request of this route carried the request's context."""
        if len(self._passes_on) < MOST_ROUTES:
            self._passes_on.add(route)

    def alone(self, destination: str, operation: str, origin: Origin) -> None:
        """Such a call was made while no request was in flight."""
        seen = self._of(destination, operation, origin)
        if seen is not None:
            seen.alone += 1

    def explain(
        self,
        destination: str,
        operation: str,
        origin: Origin,
        causes: Sequence[Cause],
        linked: bool,
        now_ns: int,
    ) -> bool:
        """Such a call was made while these were in flight; tells whether it is none of theirs.

        ``linked``: there is something that speaks for one of them.
        """
        seen = self._of(destination, operation, origin)
        if seen is not None:
            seen.within += 1
            if seen.spell != self._spell:
                seen.spell = self._spell
                seen.spells += 1
            if seen.alone >= max(seen.within, OFTEN):
                return True
            if self._keeps_to_requests(seen, now_ns):
                return False
        if origin is Origin.TRACE_THAT_IS_OVER or not causes:
            return False
        if linked and origin is Origin.NO_CONTEXT:
            return False
        return all(cause.probe or cause.route in self._passes_on for cause in causes)

    def _of(self, destination: str, operation: str, origin: Origin) -> Seen | None:
        key = (destination, operation, origin)
        seen = self._seen.get(key)
        if seen is None and len(self._seen) < MOST_ENDPOINTS:
            seen = self._seen[key] = Seen()
        return seen
