"""One worker for each exporter: takes batches from its queue, delivers them, keeps count."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import structlog

from meshproxy.config.model import Queue
from meshproxy.export.exporter import (
    Exporter,
    ExportError,
    Item,
    PermanentError,
    RetryableError,
    SendResult,
)
from meshproxy.export.queue import INTERNAL_ERROR, SHUTDOWN, SpanQueue
from meshproxy.export.retry import Retry

RETRY_TIMEOUT = "retry_timeout"

_MESSAGE_INTERVAL = 60.0
"""Seconds between two log lines about what backends say of spans that they did not keep."""

_MESSAGE_CHARS = 300

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ExporterStats:
    """An exporter's counters, in spans; every span offered is queued, sent or dropped.

    ``queued`` includes spans that are being sent. ``batches`` are requests that were accepted,
    ``failures`` attempts that were not.
    """

    name: str
    queued: int
    sent: int
    dropped: dict[str, int]
    batches: int
    failures: int
    last_error: str | None

    def __add__(self, other: ExporterStats) -> ExporterStats:
        return ExporterStats(
            name=self.name,
            queued=self.queued + other.queued,
            sent=self.sent + other.sent,
            dropped=dict(Counter(self.dropped) + Counter(other.dropped)),
            batches=self.batches + other.batches,
            failures=self.failures + other.failures,
            last_error=other.last_error or self.last_error,
        )


class Worker:
    """An exporter with its queue and its retries.

    After `start` the worker runs until `close`, whatever the exporter raises.
    """

    def __init__(
        self,
        name: str,
        exporter: Exporter,
        queue: Queue,
        retry: Retry,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self._exporter = exporter
        self._queue = SpanQueue(queue, clock, exporter.prepare)
        self._retry = retry
        self._clock = clock
        self.offer = self._queue.offer
        """Take a span without waiting (`SpanQueue.offer`)."""
        self._task: asyncio.Task[None] | None = None
        self._in_flight: list[Item] = []
        self._handled = 0
        self._progress = asyncio.Event()
        self._sent = 0
        self._batches = 0
        self._failures = 0
        self._last_error: str | None = None
        self._failing_since: float | None = None
        self._message_not_before = clock()

    async def start(self) -> None:
        """Start the exporter and deliver from now on."""
        await self._exporter.start()
        self._task = asyncio.create_task(self._run(), name=f"export {self.name}")

    def stats(self) -> ExporterStats:
        """Counters as of now."""
        return ExporterStats(
            name=self.name,
            queued=len(self._queue) + len(self._in_flight),
            sent=self._sent,
            dropped={reason: count for reason, count in self._queue.dropped.items() if count},
            batches=self._batches,
            failures=self._failures,
            last_error=self._last_error,
        )

    async def flush(self, within: float) -> bool:
        """Wait until all spans offered so far are sent or dropped; False after ``within`` s."""
        target = self._handled + len(self._in_flight) + len(self._queue)
        self._queue.hurry()
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                while self._handled < target:
                    self._progress.clear()
                    await self._progress.wait()
        return self._handled >= target

    async def close(self, within: float) -> None:
        """Send what is queued for up to ``within`` seconds, drop and count the rest, and end."""
        if self._task is None:
            self._queue.close()
            return
        await self.flush(within)
        self._task.cancel()
        await asyncio.wait([self._task])
        self._drop(SHUTDOWN, len(self._in_flight))
        self._handled += self._queue.close()
        self._progress.set()
        await self._exporter.close()
        log.info("exporter_closed", exporter=self.name, dropped=self.stats().dropped)

    async def _run(self) -> None:
        while True:
            self._in_flight = await self._queue.take()
            while self._in_flight:
                await self._deliver()

    async def _deliver(self) -> None:
        """Send from the front of what is in flight and count what became of it."""
        send = partial(self._exporter.send, self._in_flight)
        try:
            self._accept(await self._retry.run(send, self._note_failure))
        except RetryableError as error:
            self._drop(RETRY_TIMEOUT, error.taken)
        except PermanentError as error:
            self._note_failure(error)
            self._drop(error.reason, error.taken)
        except Exception as error:
            log.exception("exporter_bug", exporter=self.name)
            self._note_failure(ExportError(repr(error)))
            self._drop(INTERNAL_ERROR, None)

    def _accept(self, result: SendResult) -> None:
        self._queue.dropped.update(result.dropped)
        self._sent += result.taken - sum(result.dropped.values())
        self._batches += 1
        self._advance(result.taken)
        if result.dropped or result.message:
            self._tell_message(result)
        if self._failing_since is not None:
            seconds = round(self._clock() - self._failing_since, 3)
            self._failing_since = None
            dropped = self.stats().dropped
            log.info("exporter_recovered", exporter=self.name, after_s=seconds, dropped=dropped)

    def _drop(self, reason: str, count: int | None) -> None:
        count = len(self._in_flight) if count is None else count
        self._queue.dropped[reason] += count
        self._advance(count)

    def _advance(self, count: int) -> None:
        self._in_flight = self._in_flight[count:]
        self._handled += count
        self._progress.set()

    def _note_failure(self, error: ExportError) -> None:
        """Count a failed attempt; only the first since the last success makes a log line."""
        self._failures += 1
        self._last_error = str(error)[:_MESSAGE_CHARS]
        if self._failing_since is None:
            self._failing_since = self._clock()
            log.warning("exporter_failing", exporter=self.name, error=self._last_error)

    def _tell_message(self, result: SendResult) -> None:
        message = result.message[:_MESSAGE_CHARS]
        if result.dropped:
            self._last_error = message or f"not kept: {dict(result.dropped)}"
        if self._clock() >= self._message_not_before:
            self._message_not_before = self._clock() + _MESSAGE_INTERVAL
            log.warning(
                "spans_not_kept", exporter=self.name, dropped=dict(result.dropped), message=message
            )
