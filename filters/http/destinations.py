"""Third parties: destinations that are given no trace context."""

from __future__ import annotations

from collections.abc import Sequence

REMEMBERED = 1000


class ThirdParties:
    """Patterns ``host``, ``*.domain`` and ``host:port``, in any case."""

    def __init__(self, patterns: Sequence[str]) -> None:
        lowered = [pattern.lower() for pattern in patterns]
        self._exact = frozenset(pattern for pattern in lowered if not pattern.startswith("*."))
        self._domains = tuple(pattern[1:] for pattern in lowered if pattern.startswith("*."))
        self._known: dict[tuple[bytes, tuple[str, int]], bool] = {}

    def has(self, authority: bytes, destination: tuple[str, int]) -> bool:
        """Whether a call with this Host field, to this destination, leaves the mesh."""
        if not self._exact and not self._domains:
            return False
        key = (authority, destination)
        known = self._known.get(key)
        if known is None:
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            known = self._known[key] = self._fits(*key)
        return known

    def _fits(self, authority: bytes, destination: tuple[str, int]) -> bool:
        name = authority.decode("latin-1").lower()
        bare = name.rpartition(":")[0] if name.rpartition(":")[2].isdecimal() else name
        host, port = destination
        names = {name, bare.strip("[]"), f"{bare}:{port}", host, f"{host}:{port}"}
        return not self._exact.isdisjoint(names) or any(
            each.partition(":")[0].endswith(self._domains) for each in names if self._domains
        )
