"""Third parties: destinations that are given no trace context."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

REMEMBERED: Final = 1000


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
        bare, colon, digits = name.rpartition(":")
        if not colon or digits.strip("0123456789"):
            bare = name
        bare = bare.rstrip(".")  # the root of the DNS may be written
        host, port = destination[0].lower().rstrip("."), destination[1]
        names = {name, bare.strip("[]"), f"{bare}:{port}", host, f"{host}:{port}"}
        return not self._exact.isdisjoint(names) or bool(
            self._domains and (bare.endswith(self._domains) or host.endswith(self._domains))
        )
