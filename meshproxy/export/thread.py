"""A thread for writes that may block: a disk, a pipe that nobody reads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from queue import SimpleQueue

Job = tuple[Callable[[], None], asyncio.AbstractEventLoop, "asyncio.Future[None]"]


class WriterThread:
    """Runs one function after the other, in order.

    Not an executor: those are joined when the interpreter ends, so that one write that never
    returns would keep the process alive. This thread is a daemon.
    """

    def __init__(self, name: str) -> None:
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    async def run(self, function: Callable[[], None]) -> None:
        """Run a function in the thread and wait for it; raises what the function raises."""
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        self._jobs.put((function, loop, future))
        await future

    def stop(self, last: Callable[[], None]) -> None:
        """Run one more function and end the thread, without waiting for it."""
        loop = asyncio.get_running_loop()
        self._jobs.put((last, loop, loop.create_future()))
        self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            function, loop, future = job
            error: Exception | None = None
            try:
                function()
            except Exception as raised:
                error = raised
            try:
                loop.call_soon_threadsafe(_settle, future, error)
            except RuntimeError:
                return  # the loop is closed: nobody waits any more


def _settle(future: asyncio.Future[None], error: Exception | None) -> None:
    if future.done():  # cancelled
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)
