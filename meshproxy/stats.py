"""Counters that the data path bumps and the admin endpoints read: plain numbers, no locks."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from typing import Final

BOUNDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper bounds of the duration histogram, in seconds."""

MAX_SERIES: Final = 2000
MAX_DESTINATIONS: Final = 500
OTHER: Final = "_OTHER"


class Series:
    """Requests of one direction, method, route and status: how many, and how long they took."""

    __slots__ = ("buckets", "count", "total")

    def __init__(self) -> None:
        self.count = 0
        self.total = 0.0
        self.buckets = [0] * (len(BOUNDS) + 1)

    def observe(self, seconds: float) -> None:
        """Count one request."""
        self.count += 1
        self.total += seconds
        self.buckets[bisect_left(BOUNDS, seconds)] += 1


class Stats:
    """Everything that one process counts, outside of exporters and gaps."""

    def __init__(self) -> None:
        self.series: dict[tuple[str, str, str, str], Series] = {}
        self.connections: Counter[str] = Counter()
        self.accepted: Counter[str] = Counter()
        self.passed: Counter[tuple[str, str]] = Counter()
        self.refused: Counter[tuple[str, int, str]] = Counter()
        self.upstream_errors: Counter[tuple[str, str]] = Counter()
        self.upstream_connections: Counter[str] = Counter()
        self.links: Counter[str] = Counter()
        self.lookups: Counter[str] = Counter()
        self.propagation: Counter[tuple[str, str]] = Counter()
        self.spans: Counter[str] = Counter()
        self.messages_in_flight = 0
        """Consumed messages, or fetches of many, that count as in flight for the linker."""
        self.filter_errors: Counter[str] = Counter()
        self.reloads: Counter[str] = Counter()
        self.messages: Counter[tuple[str, str, str]] = Counter()
        self.kafka: Counter[tuple[str, str]] = Counter()

    def requests(self, direction: str, method: str, route: str, status: str) -> Series:
        """The series for these labels; past `MAX_SERIES` one for all other routes."""
        key = (direction, method, route, status)
        found = self.series.get(key)
        if found is None:
            if len(self.series) >= MAX_SERIES:
                key = (direction, method, OTHER, status)
            found = self.series.setdefault(key, Series())
        return found

    def message(self, operation: str, topic: str, result: str, count: int = 1) -> None:
        """Count messages; past `MAX_SERIES` for all other topics together."""
        key = (operation, topic, result)
        if key not in self.messages and len(self.messages) >= MAX_SERIES:
            key = (operation, OTHER, result)
        self.messages[key] += count

    def upstream_error(self, destination: str, kind: str) -> None:
        """Count a failure; past `MAX_DESTINATIONS` for all others together."""
        key = (destination, kind)
        if key not in self.upstream_errors and len(self.upstream_errors) >= MAX_DESTINATIONS:
            key = (OTHER, kind)
        self.upstream_errors[key] += 1
