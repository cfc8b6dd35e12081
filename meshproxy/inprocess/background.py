"""Spans from all threads of an application to an exporter, by a thread of its own.

Not on the application's event loop: there may be none, or one after the other, it may be held up
by the application, and it is closed before the last spans can be sent. What the sidecar uses
(`meshproxy.export.worker`) belongs to one loop's thread and logs as a sidecar does; here spans come
from anywhere, also while objects are finalised, so that `Background.offer` takes no lock.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import socket
import sys
import threading
import weakref
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final

# Here, since a fork while the thread imports it would leave half of it.
import aiohttp  # noqa: F401

from meshproxy.config.model import OtlpExporter, Queue
from meshproxy.export.exporter import (
    Exporter,
    ExportError,
    PermanentError,
    SendResult,
)
from meshproxy.export.otlp_http import OtlpHttpExporter
from meshproxy.export.queue import INTERNAL_ERROR, QUEUE_FULL, SHUTDOWN
from meshproxy.export.retry import Retry
from meshproxy.export.worker import RETRY_TIMEOUT
from meshproxy.inprocess.settings import Settings, resource
from meshproxy.trace.span import Span

RETRY_FOR: Final = 30.0
"""Seconds for which a batch is tried again."""

EXIT_LIMIT: Final = 2.0
"""Seconds that the end of the process may wait for spans to be sent."""

AFTER_OTHERS: Final = -100
"""Of multiprocessing's finalizers, which may make spans themselves. Queues have -5."""

log = logging.getLogger(__name__)


class Background:
    """A bounded buffer of finished spans, and the daemon thread that sends them.

    ``dropped`` counts, by reason, the spans that were lost; ``sent`` those that were taken.
    """

    def __init__(
        self,
        settings: Settings,
        queue: Queue | None = None,
        make: Callable[[Settings], Exporter] | None = None,
    ) -> None:
        self._settings = settings
        self._queue = queue or Queue()
        self._make = make or _otlp
        self._inherited: list[object] = []
        self._end: Callable[[], None] | None = None
        self._reset()

    def _reset(self) -> None:
        self._spans: deque[Span] = deque()
        self._starting = threading.Lock()
        self._sender: _Sender | None = None
        self._closed = False
        self.sent = 0
        self.dropped: Counter[str] = Counter()

    def start(self) -> None:
        """Start the thread unless it runs, as in a process that was just forked. Never raises.

        Where there is none to be had (the process ends, too many files are open), spans are held,
        and the next call tries again.
        """
        if self._sender is not None or self._closed:
            return
        with self._starting:
            if self._sender is None:
                with suppress(RuntimeError, OSError):
                    sender = _Sender(self, self._spans, self._queue)
                    sender.start()
                    self._sender = sender
                    self._end_with_multiprocessing()

    def offer(self, span: Span) -> None:
        """Take a span, from any thread; drop and count it when there is no room."""
        spans = self._spans
        if self._closed:
            self.dropped[SHUTDOWN] += 1
        elif len(spans) >= self._queue.size:
            self.dropped[QUEUE_FULL] += 1
        else:
            spans.append(span)
            sender = self._sender
            if sender is not None and (sender.idle or len(spans) == self._queue.batch):
                sender.wake()

    def exporter(self) -> Exporter:
        """Make the exporter; its resource names this process, forked or not."""
        return self._make(self._settings)

    def flush(self, within: float) -> bool:
        """Wait until all spans offered so far are sent or dropped; False after ``within`` s."""
        sender = self._sender
        return sender is None or sender.flush(within)

    def close(self, within: float = EXIT_LIMIT) -> None:
        """Send what is there for up to ``within`` seconds; drop and count the rest."""
        self._closed = True
        if self._sender is not None:
            self._sender.end(within)
        self.dropped[SHUTDOWN] += len(self._spans)
        self._spans.clear()

    def survive(self, before_end: Callable[[], None]) -> None:
        """Flush when the process ends, and begin anew in forked processes.

        ``before_end`` may offer the last spans, and must not raise.
        """

        def end() -> None:
            before_end()
            self.close()

        self._end = end
        atexit.register(end)
        forked = weakref.WeakMethod(self._forked)

        def after_fork() -> None:
            method = forked()
            if method is not None:
                method()

        os.register_at_fork(after_in_child=after_fork)

    def _end_with_multiprocessing(self) -> None:
        """A process of multiprocessing's may end by ``os._exit``, which asks nobody but itself."""
        processes = sys.modules.get("multiprocessing.process")
        if self._end is not None and processes is not None and processes.parent_process():
            from multiprocessing.util import Finalize

            Finalize(None, self._end, exitpriority=AFTER_OTHERS)

    def _forked(self) -> None:
        """The parent sends what it has. Its loop is kept: to close it here would disturb it there,
        since both share what the kernel knows of its sockets."""
        self._inherited.append(self._sender)
        self._reset()


class _Loop(asyncio.SelectorEventLoop):
    """A loop that looks names up itself: it has time to wait, and executors end before it does."""

    async def getaddrinfo(self, host: Any, port: Any, **hints: Any) -> list[Any]:
        return socket.getaddrinfo(host, port, **hints)


class _Sender:
    """The thread: takes batches out of the buffer and sends them."""

    def __init__(self, owner: Background, spans: deque[Span], queue: Queue) -> None:
        self._owner = owner
        self._spans = spans
        self._queue = queue
        self._loop = _Loop()
        self._retry = Retry(RETRY_FOR)
        self._full = asyncio.Event()
        self._flushes: list[threading.Event] = []
        self._failing = False
        self.idle = False
        self.thread = threading.Thread(target=self._work, name="meshproxy spans", daemon=True)

    def start(self) -> None:
        """Start the thread, or raise what `threading.Thread.start` does."""
        try:
            self.thread.start()
        except BaseException:
            self._loop.close()  # or its files stay open: the next call makes another
            raise

    def wake(self) -> None:
        """There are spans to send. From any thread."""
        self.idle = False
        with suppress(RuntimeError):  # the loop is closed: the process ends
            self._loop.call_soon_threadsafe(self._full.set)

    def flush(self, within: float) -> bool:
        """Send all that is there, and wait for that; False after ``within`` seconds."""
        flushed = threading.Event()
        try:
            self._loop.call_soon_threadsafe(self._flush, flushed)
        except RuntimeError:  # the loop is closed
            return False
        return flushed.wait(within)

    def end(self, within: float) -> None:
        """The same, and then end the thread, whether or not all was sent."""
        self.flush(within)
        with suppress(RuntimeError):  # it has ended by itself
            self._loop.call_soon_threadsafe(self._cancel)
            self.thread.join(within)

    def _cancel(self) -> None:
        for task in asyncio.all_tasks(self._loop):
            task.cancel()

    def _flush(self, flushed: threading.Event) -> None:
        self._flushes.append(flushed)
        self._full.set()

    def _work(self) -> None:
        try:
            self._loop.run_until_complete(self._run(self._owner.exporter()))
        except asyncio.CancelledError:
            pass
        except Exception:
            log.exception("spans are not sent any more")
        finally:
            self._loop.close()

    async def _run(self, exporter: Exporter) -> None:
        await exporter.start()
        try:
            await self._forever(exporter)
        finally:
            await exporter.close()

    async def _forever(self, exporter: Exporter) -> None:
        while True:
            flushed, self._flushes = self._flushes, []
            while self._spans:
                await self._send(exporter, self._take())
            for each in flushed:
                each.set()
            await self._pause()

    async def _pause(self) -> None:
        """Until there is something to send, and then for the interval or until a batch is full."""
        if self._flushes:
            return
        self._full.clear()
        self.idle = True
        if not self._spans:
            await self._full.wait()
        self.idle = False
        if self._flushes or len(self._spans) >= self._queue.batch:
            return
        self._full.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._queue.interval):
                await self._full.wait()

    def _take(self) -> list[Span]:
        count = min(len(self._spans), self._queue.batch)
        return [self._spans.popleft() for _ in range(count)]

    async def _send(self, exporter: Exporter, spans: list[Span]) -> None:
        items = []
        for span in spans:
            try:
                items.append(exporter.prepare(span))
            except Exception:
                self._owner.dropped[INTERNAL_ERROR] += 1
        try:
            while items:
                taken = await self._attempt(partial(exporter.send, items), len(items))
                items = items[taken:]
        except asyncio.CancelledError:
            self._owner.dropped[SHUTDOWN] += len(items)
            raise

    async def _attempt(self, send: Callable[[], Any], count: int) -> int:
        """Send from the front of a batch; gives how many of it are done with."""
        dropped = self._owner.dropped
        try:
            result: SendResult = await self._retry.run(send, self._failed)
        except ExportError as error:
            taken = count if error.taken is None else error.taken
            if isinstance(error, PermanentError):
                self._failed(error)
                dropped[error.reason] += taken
            else:
                dropped[RETRY_TIMEOUT] += taken
            return taken
        except Exception:
            log.exception("spans were lost by a mistake of the exporter")
            dropped[INTERNAL_ERROR] += count
            return count
        dropped.update(result.dropped)
        self._owner.sent += result.taken - sum(result.dropped.values())
        if self._failing:
            self._failing = False
            log.info("spans are sent again; lost so far: %s", dict(dropped))
        return result.taken

    def _failed(self, error: ExportError) -> None:
        """Only the first failure after a success makes a log line."""
        if not self._failing:
            self._failing = True
            log.warning("spans cannot be sent at present: %s", error)


def _otlp(settings: Settings) -> Exporter:
    sent_to = OtlpExporter(endpoint=settings.endpoint, headers=dict(settings.headers))
    return OtlpHttpExporter(sent_to, resource(settings, socket.gethostname(), os.getpid()))
