"""Child processes that never outlive the demo, and loopback ports that nobody else takes."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

LOG_LINES = 40
STOP_TIMEOUT = 3.0
PR_SET_PDEATHSIG = 1


class DemoError(Exception):
    """The demo cannot go on; the message says why, for a user."""


class Ports:
    """Reserves free loopback ports.

    Each port stays bound, without listening, until `close`. Together with SO_REUSEADDR, which
    servers set anyway, this keeps the kernel from giving it to anyone who asks for any free port,
    while a server that asks for this very port gets it.
    """

    def __init__(self) -> None:
        self._held: list[socket.socket] = []

    def take(self) -> int:
        """One more free port."""
        holder = socket.socket()
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        self._held.append(holder)
        return int(holder.getsockname()[1])

    def close(self) -> None:
        """Give all ports back."""
        for holder in self._held:
            holder.close()
        self._held.clear()


def plain_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """Our environment without HTTP proxies, which must not come between processes on loopback."""
    kept = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
    return {**kept, "PYTHONUNBUFFERED": "1", **extra}


class Child:
    """A Python process in a process group of its own.

    Lines on its standard output go to ``on_line``; the last lines of both outputs are kept as the
    log to show if it dies.
    """

    def __init__(self, name: str, process: Process, on_line: Callable[[str], None]) -> None:
        self.name = name
        self._process = process
        self._log: deque[str] = deque(maxlen=LOG_LINES)
        self._readers = [
            asyncio.create_task(self._read(process.stdout, on_line)),
            asyncio.create_task(self._read(process.stderr, None)),
        ]

    @classmethod
    async def start(
        cls,
        name: str,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        on_line: Callable[[str], None],
    ) -> Child:
        """Start ``python arguments``."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=PIPE,
            stderr=PIPE,
            env=plain_environment(environment),
            start_new_session=True,
            preexec_fn=_die_with_parent(),
        )
        return cls(name, process, on_line)

    @property
    def pid(self) -> int:
        """The process id, which is also that of its group."""
        return self._process.pid

    async def fail_when_dead(self) -> None:
        """Wait for the process to end and raise `DemoError` with its log."""
        code = await self._process.wait()
        await asyncio.gather(*self._readers)
        log = "\n".join(f"  | {line}" for line in self._log) or "  | (it said nothing)"
        raise DemoError(f"{self.name} ended with exit code {code}:\n{log}")

    def signal(self, number: signal.Signals) -> None:
        """Signal the process and whatever it has started."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    async def stop(self) -> None:
        """Wait for the end after a SIGTERM; kill what does not end in time or if cancelled."""
        try:
            async with asyncio.timeout(STOP_TIMEOUT):
                await self._process.wait()
        except TimeoutError:
            self.signal(signal.SIGKILL)
            await self._process.wait()
        except asyncio.CancelledError:
            self.signal(signal.SIGKILL)
            raise
        await asyncio.gather(*self._readers)

    async def _read(
        self, stream: asyncio.StreamReader | None, on_line: Callable[[str], None] | None
    ) -> None:
        if stream is None:
            return
        async for raw in stream:
            line = raw.decode(errors="replace").rstrip()
            self._log.append(line)
            if on_line is not None:
                on_line(line)


def _die_with_parent() -> Callable[[], None] | None:
    """What the child runs before its program: ask for a SIGKILL when the demo dies (Linux only)."""
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    parent = os.getpid()

    def ask() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before we could ask
            os.kill(os.getpid(), signal.SIGKILL)

    return ask


async def stop_all(children: Sequence[Child]) -> None:
    """SIGTERM to all at once, then wait for each."""
    for child in children:
        child.signal(signal.SIGTERM)
    await asyncio.gather(*(child.stop() for child in children))
