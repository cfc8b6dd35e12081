"""Waiting for what comes in."""

from __future__ import annotations

import asyncio

from meshproxy.demo.arrivals import Arrivals


async def test_reaching_a_number_ends_the_waiting() -> None:
    arrivals: Arrivals[int] = Arrivals()
    waiting = asyncio.create_task(arrivals.reach(2, within=5))
    arrivals.extend([1])
    await asyncio.sleep(0)
    assert not waiting.done()
    arrivals.extend([2])
    assert await waiting


async def test_what_does_not_count_is_not_waited_for() -> None:
    arrivals: Arrivals[int] = Arrivals()
    arrivals.extend([1, 2, 3])
    assert not await arrivals.reach(2, 0.01, lambda item: item % 2 == 0)
    assert await arrivals.reach(2, 0.01, lambda item: item % 2 == 1)
