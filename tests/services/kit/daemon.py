"""Servers as processes: started, waited for, and ended, whatever happens to the test."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType

from meshproxy.demo.processes import Ports, plain_environment

START_PATIENCE = 30.0
STOP_PATIENCE = 5.0
POLL = 0.02


class Daemon:
    """A server process; ``log`` is the file of what it prints."""

    def __init__(
        self, name: str, command: Sequence[str], log: Path, environment: Mapping[str, str]
    ) -> None:
        self.name = name
        self.command = command
        self.log = log
        self._environment = environment
        self._process: asyncio.subprocess.Process | None = None

    async def start(self, *ports: int) -> None:
        """Start, and wait until it accepts connections on all of ``ports``."""
        with self.log.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                *self.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=plain_environment(self._environment),
                start_new_session=True,
            )
        async with asyncio.timeout(START_PATIENCE):
            for port in ports:
                await self._accepts(port)

    async def _accepts(self, port: int) -> None:
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                assert self._process is not None
                assert self._process.returncode is None, f"{self.name} ended: {self.tail()}"
                await asyncio.sleep(POLL)
            else:
                writer.close()
                return

    def signal(self, number: signal.Signals) -> None:
        """Signal the main process only."""
        assert self._process is not None
        self._process.send_signal(number)

    async def kill(self) -> None:
        """End it the hard way, with all its workers."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> None:
        """End it; a server that takes its time is killed."""
        await self._end(signal.SIGTERM)

    async def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        try:
            async with asyncio.timeout(STOP_PATIENCE):
                await process.wait()
        except TimeoutError:
            pass
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        await process.wait()

    def tail(self) -> str:
        """The end of what it printed."""
        return self.log.read_text(errors="replace")[-2000:]


class Daemons:
    """All servers of one test, in one folder."""

    def __init__(self, folder: Path, ports: Ports) -> None:
        self.folder = folder
        self._ports = ports
        self._running: list[Daemon] = []

    def port(self) -> int:
        """A free port."""
        return self._ports.take()

    def file(self, name: str, text: str) -> str:
        """Write a configuration file; returns its path."""
        path = self.folder / name
        path.write_text(text)
        return str(path)

    async def start(
        self,
        name: str,
        command: Sequence[str],
        *ports: int,
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> Daemon:
        """Start a server that listens on ``ports``."""
        daemon = Daemon(name, command, self.folder / f"{name}.log", environment)
        self._running.append(daemon)
        await daemon.start(*ports)
        return daemon

    async def close(self) -> None:
        """End all."""
        for daemon in reversed(self._running):
            await daemon.stop()
