"""All exporters together, as the sidecar uses them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress

from meshproxy.config.model import Exporter as ExporterSettings
from meshproxy.export.build import build as build_worker
from meshproxy.export.worker import ExporterStats, Worker
from meshproxy.trace.span import Attributes, Span

DRAIN_TIMEOUT = 60.0
"""Seconds that an exporter has after its removal to send what it holds."""

Key = tuple[ExporterSettings, Attributes]


class Telemetry:
    """Gives every finished span to every exporter, and keeps the last ``recent`` of them.

    ``build`` makes a worker from settings and resource attributes and raises
    `ExporterSettingsError`. All methods belong to the event loop's thread.
    """

    def __init__(
        self,
        settings: Sequence[ExporterSettings],
        resource: Attributes,
        *,
        recent: int = 200,
        build: Callable[[ExporterSettings, Attributes], Worker] = build_worker,
    ) -> None:
        self._build = build
        self._recent: deque[Span] = deque(maxlen=recent)
        self._workers: list[tuple[Key, Worker]] = [
            ((one, resource), build(one, resource)) for one in settings
        ]
        self._draining: dict[asyncio.Task[None], Worker] = {}
        self._gone: dict[str, ExporterStats] = {}
        self._set_offers()

    def offer(self, span: Span) -> None:
        """Take a finished span. Never waits and never raises; what does not fit is counted."""
        self._recent.append(span)
        for offer in self._offers:
            offer(span)

    def recent(self) -> list[Span]:
        """The last finished spans, oldest first."""
        return list(self._recent)

    def stats(self) -> list[ExporterStats]:
        """Counters by exporter name. Removed exporters stay, so that counters never fall."""
        by_name = dict(self._gone)
        for worker in (*self._draining.values(), *(worker for _, worker in self._workers)):
            stats = worker.stats()
            by_name[stats.name] = by_name[stats.name] + stats if stats.name in by_name else stats
        return list(by_name.values())

    async def start(self) -> None:
        """Start all exporters; spans offered before are kept in their queues."""
        for _, worker in self._workers:
            await worker.start()

    async def reconfigure(
        self,
        settings: Sequence[ExporterSettings],
        resource: Attributes,
        *,
        drain_timeout: float = DRAIN_TIMEOUT,
    ) -> None:
        """Change over to other exporters, after `start`, without losing a span.

        Exporters with the same settings and resource stay. Removed ones send what they hold, in
        the background, for up to ``drain_timeout`` seconds. Raises `ExporterSettingsError`, and
        then nothing has changed.
        """
        old = list(self._workers)
        workers: list[tuple[Key, Worker]] = []
        added: list[Worker] = []
        for key in ((one, resource) for one in settings):
            kept = next((pair for pair in old if pair[0] == key), None)
            if kept is not None:
                old.remove(kept)
                workers.append(kept)
            else:
                added.append(self._build(*key))
                workers.append((key, added[-1]))
        for worker in added:
            await worker.start()
        self._workers = workers
        self._set_offers()
        for _, worker in old:
            task = asyncio.create_task(self._drain(worker, drain_timeout))
            self._draining[task] = worker
            task.add_done_callback(self._retire)

    async def flush(self, within: float) -> bool:
        """Wait until all spans offered so far are sent or dropped; False after ``within`` s."""
        workers = (worker for _, worker in self._workers)
        return all(await asyncio.gather(*(worker.flush(within) for worker in workers)))

    async def close(self, within: float) -> None:
        """Send what is queued for up to ``within`` seconds; drop and count the rest."""
        closing = (worker.close(within) for _, worker in self._workers)
        await asyncio.gather(*closing, self._end_drains(within))

    async def _drain(self, worker: Worker, within: float) -> None:
        with suppress(asyncio.CancelledError):  # by `close`: the time is over
            await worker.flush(within)
        await worker.close(0)

    async def _end_drains(self, within: float) -> None:
        if not self._draining:
            return
        _, late = await asyncio.wait(list(self._draining), timeout=within)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late)

    def _set_offers(self) -> None:
        self._offers = tuple(worker.offer for _, worker in self._workers)

    def _retire(self, task: asyncio.Task[None]) -> None:
        stats = self._draining.pop(task).stats()
        known = self._gone.get(stats.name)
        self._gone[stats.name] = stats if known is None else known + stats
