"""A list that others wait for: access records and spans as they come in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

T = TypeVar("T")


class Arrivals(Generic[T]):
    """Items in the order of their arrival."""

    def __init__(self) -> None:
        self.items: list[T] = []
        self._changed = asyncio.Event()

    def extend(self, items: Iterable[T]) -> None:
        """Add items and wake those who wait."""
        self.items.extend(items)
        self._changed.set()

    async def reach(
        self, count: int, within: float, counts: Callable[[T], bool] = lambda item: True
    ) -> bool:
        """Wait until there are ``count`` items, or so many of those that ``counts`` wants.

        False if ``within`` seconds were not enough.
        """
        try:
            async with asyncio.timeout(within):
                while sum(1 for item in self.items if counts(item)) < count:
                    await self.change()
        except TimeoutError:
            return False
        return True

    async def settle(self, quiet: float) -> None:
        """Wait until nothing has come in for ``quiet`` seconds."""
        try:
            while True:
                async with asyncio.timeout(quiet):
                    await self.change()
        except TimeoutError:
            return

    async def change(self) -> None:
        """Wait for the next arrival."""
        self._changed.clear()
        await self._changed.wait()
