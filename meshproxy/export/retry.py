"""When to try again (OTLP specification, "Failures" and "OTLP/HTTP throttling")."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from email.utils import parsedate_to_datetime

from meshproxy.export.exporter import RetryableError, SendResult

FIRST_DELAY = 1.0
"""Seconds before the second attempt, before jitter."""

MAX_DELAY = 10.0
"""Seconds: exponential back-off grows no further."""

MAX_RETRY_AFTER = 300.0
"""Seconds: a backend that asks for a longer pause is asked again after this."""


class Retry:
    """Exponential back-off with jitter, for one backend.

    ``retry_for`` is in seconds: no attempt begins later than that after the first one. A pause
    that the backend asked for holds for the spans that follow as well.
    """

    def __init__(
        self,
        retry_for: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        uniform: Callable[[], float] = random.random,
    ) -> None:
        self._retry_for = retry_for
        self._clock = clock
        self._sleep = sleep
        self._uniform = uniform
        self._not_before = clock()

    async def run(
        self,
        attempt: Callable[[], Awaitable[SendResult]],
        on_failure: Callable[[RetryableError], None],
    ) -> SendResult:
        """Attempt until it succeeds; raises the last `RetryableError` when the time is over.

        ``on_failure`` hears of every failed attempt. Other exceptions pass.
        """
        await self._pause(self._not_before - self._clock())
        deadline = self._clock() + self._retry_for
        delay = FIRST_DELAY
        while True:
            try:
                return await attempt()
            except RetryableError as error:
                on_failure(error)
                wait = self._wait(delay, error.retry_after, deadline - self._clock())
                if wait is None:
                    raise
            await self._pause(wait)
            delay = min(2 * delay, MAX_DELAY)

    def _wait(self, delay: float, retry_after: float | None, rest: float) -> float | None:
        """Seconds until the next attempt, the last one just at the deadline; None: no more."""
        asked = min(retry_after or 0.0, MAX_RETRY_AFTER)
        self._not_before = self._clock() + asked
        if rest <= 0 or asked > rest:
            return None
        jittered = delay * (1 + self._uniform()) / 2
        return min(max(jittered, asked), rest)

    async def _pause(self, seconds: float) -> None:
        if seconds > 0:
            await self._sleep(seconds)


def parse_retry_after(value: str, now: float) -> float | None:
    """Seconds to wait from a Retry-After field (RFC 9110, section 10.2.3), or None if unreadable.

    ``now`` is Unix time in seconds. A date that is over gives 0.
    """
    text = value.strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now)
    except (ValueError, OverflowError):
        return None
