"""The process: loads the configuration, runs the sidecar, listens to signals."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys

import uvloop

from meshproxy import logs
from meshproxy.config.loader import load_file
from meshproxy.config.model import Config
from meshproxy.config.problems import ConfigError
from meshproxy.sidecar.files import raise_limit
from meshproxy.sidecar.lean import lean_imports

with lean_imports():
    from meshproxy.sidecar.app import Sidecar, StartError


YOUNG_OBJECTS = 10_000
"""Objects made between two looks for cycles. Traffic makes many objects, and next to no cycles."""


def run(path: str) -> int:
    """Run a sidecar until it is told to stop; returns the exit status."""
    try:
        config = load_file(path, os.environ)
    except ConfigError as error:
        for problem in error.problems:
            print(f"{path}: {problem}", file=sys.stderr)
        return 1
    logs.configure(config.log.level)
    raise_limit()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(path, config))


async def _serve(path: str, config: Config) -> int:
    try:
        sidecar = Sidecar(path, config)
    except StartError as error:
        return _cannot_start(error)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, sidecar.request_stop)
    reloads: set[asyncio.Task[None]] = set()

    def reload() -> None:
        task = loop.create_task(sidecar.reload())
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    loop.add_signal_handler(signal.SIGHUP, reload)
    try:
        await sidecar.start()
    except StartError as error:
        return _cannot_start(error)
    gc.collect()
    gc.freeze()  # what was made at the start stays; looking at it again and again is wasted
    gc.set_threshold(YOUNG_OBJECTS, 20, 20)
    await sidecar.run_until_stopped()
    return 0


def _cannot_start(error: StartError) -> int:
    logs.get(__name__).error("cannot start", error=str(error))
    return 1
