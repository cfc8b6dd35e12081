"""All upstreams of a process that are not fixed by configuration: made when first named."""

from __future__ import annotations

from meshproxy.config.model import Limits
from meshproxy.transport.runtime import Host, Runtime
from meshproxy.transport.upstream import Upstream

FORGOTTEN_AFTER = 60.0
"""Seconds after which an upstream that has no idle connection is no longer remembered."""


class Destinations:
    """(host, port) to `Upstream`; expires idle connections of these and of the fixed ones."""

    def __init__(self, runtime: Runtime, limits: Limits) -> None:
        self._runtime = runtime
        self.limits = limits
        self._found: dict[Host, Upstream] = {}
        self._fixed: set[Upstream] = set()
        runtime.ticker.each_tick(self._expire)

    def of(self, destination: Host) -> Upstream:
        """The upstream for a destination, in plain TCP."""
        found = self._found.get(destination)
        if found is None:
            found = self._found[destination] = Upstream(self._runtime, destination)
        return found

    def hold(self, upstream: Upstream) -> None:
        """Look after an upstream that a listener is configured with."""
        self._fixed.add(upstream)

    def release(self, upstream: Upstream) -> None:
        """The listener is gone: let the idle connections go, too."""
        self._fixed.discard(upstream)
        upstream.retire()

    def close(self) -> None:
        """Close all idle connections."""
        for upstream in (*self._fixed, *self._found.values()):
            upstream.close()

    @property
    def idle(self) -> int:
        """Idle connections to all upstreams."""
        return sum(upstream.idle for upstream in (*self._fixed, *self._found.values()))

    def _expire(self, now: float) -> None:
        longest = self.limits.pool_idle
        for upstream in self._fixed:
            upstream.expire(now, longest)
        for destination, upstream in tuple(self._found.items()):
            upstream.expire(now, longest)
            if not upstream.idle and now - upstream.last_used > FORGOTTEN_AFTER:
                del self._found[destination]
                upstream.retire()
