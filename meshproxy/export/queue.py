"""The bounded queue between the data path, which never waits, and an exporter's worker."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

from meshproxy.config.model import Queue
from meshproxy.export.exporter import Item
from meshproxy.trace.span import Span

QUEUE_FULL = "queue_full"
SHUTDOWN = "shutdown"
INTERNAL_ERROR = "internal_error"


class SpanQueue:
    """Spans in order of arrival. All methods belong to the event loop's thread.

    ``dropped`` counts spans by reason; the worker adds its own reasons to it.
    """

    __slots__ = (
        "_arrived",
        "_batch",
        "_clock",
        "_closed",
        "_interval",
        "_mark",
        "_prepare",
        "_ready",
        "_since",
        "_size",
        "_spans",
        "_urgent",
        "dropped",
    )

    def __init__(
        self,
        settings: Queue,
        clock: Callable[[], float] = time.monotonic,
        prepare: Callable[[Span], Item] | None = None,
    ) -> None:
        self._size = settings.size
        self._batch = min(settings.batch, settings.size)
        self._interval = settings.interval
        self._clock = clock
        self._prepare = prepare
        self._spans: list[Item] = []
        # At this length the next offer has more to do than to append: the one comparison stands
        # for "empty" and "batch complete".
        self._mark = 0
        self._since = 0.0
        self._urgent = 0
        self._closed = False
        self._arrived = asyncio.Event()
        self._ready = asyncio.Event()
        self.dropped: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._spans)

    def offer(self, span: Span) -> None:
        """Take a span, or drop and count it when the queue is full or closed. Never raises."""
        spans = self._spans
        length = len(spans)
        if self._closed:
            self.dropped[SHUTDOWN] += 1
        elif length >= self._size:
            self.dropped[QUEUE_FULL] += 1
        else:
            try:
                spans.append(span if self._prepare is None else self._prepare(span))
            except Exception:
                self.dropped[INTERNAL_ERROR] += 1
                return
            if length >= self._mark:
                self._set_mark()

    async def take(self) -> list[Item]:
        """Wait for a batch: complete, or old enough, or hurried; at least one span."""
        if not self._spans:
            await self._arrived.wait()
        rest = self._since + self._interval - self._clock()
        if not self._ready.is_set() and rest > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(rest):
                    await self._ready.wait()
        taken = self._spans[: self._batch]
        del self._spans[: self._batch]
        self._urgent = max(0, self._urgent - len(taken))
        self._set_mark()
        return taken

    def hurry(self) -> None:
        """Let `take` give all that is here now without waiting for more."""
        self._urgent = len(self._spans)
        if self._spans:
            self._ready.set()

    def close(self) -> int:
        """Drop and count what is left and whatever comes; returns how many were left."""
        left = len(self._spans)
        self._closed = True
        self._spans.clear()
        self._mark = 0
        self.dropped[SHUTDOWN] += left
        return left

    def _set_mark(self) -> None:
        """Bring the mark and the events in line with the length, which has just passed a bound."""
        length = len(self._spans)
        if length == 0:
            self._mark = 0
            self._arrived.clear()
            self._ready.clear()
            return
        if length >= self._batch or self._urgent:
            self._ready.set()
        else:
            self._ready.clear()
        self._mark = self._size if length >= self._batch else self._batch - 1
        self._since = self._clock()
        self._arrived.set()
