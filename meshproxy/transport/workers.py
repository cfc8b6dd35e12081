"""Threads for computations that would hold up the event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from queue import SimpleQueue

MOST = 2
"""Threads at most: they compute, and share what processors there are with the event loop."""

Done = Callable[[Exception | None], None]
Job = tuple[Callable[[], None], Done]


class Workers:
    """Up to `MOST` threads, started when there is something for them to do.

    Not an executor: those are joined when the interpreter ends, so that a long computation would
    hold it up. These threads are daemons.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._threads = 0
        self._under_way = 0

    def do(self, function: Callable[[], None], done: Done) -> None:
        """Run ``function`` in a thread, then ``done`` on the event loop with what was raised."""
        self._under_way += 1
        if self._threads < min(self._under_way, MOST):
            self._threads += 1
            name = f"meshproxy-worker-{self._threads}"
            threading.Thread(target=self._work, name=name, daemon=True).start()
        self._jobs.put((function, done))

    def stop(self) -> None:
        """End the threads after what was given to them, without waiting for that."""
        for _ in range(self._threads):
            self._jobs.put(None)
        self._threads = 0

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            function, done = job
            error: Exception | None = None
            try:
                function()
            except Exception as raised:
                error = raised
            try:
                self._loop.call_soon_threadsafe(self._finished, done, error)
            except RuntimeError:
                return  # the loop is closed: nobody waits any more

    def _finished(self, done: Done, error: Exception | None) -> None:
        self._under_way -= 1
        done(error)
