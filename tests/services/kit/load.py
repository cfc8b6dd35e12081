"""Steady requests over kept connections, for the races at their ends."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import aiohttp


async def load(url: str, *, clients: int, rounds: int, pause: tuple[float, float]) -> Counter[str]:
    """``clients`` at once make ``rounds`` GETs each, with a pause between; what came of them.

    The pause is part of the load: connections must grow old between requests.
    """
    results: Counter[str] = Counter()
    chance = random.Random(7)
    connector = aiohttp.TCPConnector(limit=clients, keepalive_timeout=60)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def client() -> None:
            for _ in range(rounds):
                try:
                    async with session.get(url) as response:
                        await response.read()
                        results[str(response.status)] += 1
                except (aiohttp.ClientError, TimeoutError) as error:
                    results[repr(error)] += 1
                await asyncio.sleep(chance.uniform(*pause))

        await asyncio.gather(*(client() for _ in range(clients)))
    return results
