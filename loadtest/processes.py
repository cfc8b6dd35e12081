"""Starts processes pinned to a core, and ends every one of them whatever happens."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import psutil

PR_SET_PDEATHSIG = 1
END_SECONDS = 3.0
FIRST_PORT = 20000
"""Below the ephemeral range, so that no client connection takes a port before its server does."""


class NotReadyError(Exception):
    """A process ended or did not answer in time; the text says why, with the end of its log."""


@dataclass(frozen=True, slots=True)
class Cores:
    """Where things run: the load, the backend and the sink share one core; the proxy has one."""

    load: int
    proxy: int

    @classmethod
    def of_machine(cls) -> Cores:
        """The first two cores this process may use; one serves for both if there is no other."""
        allowed = sorted(os.sched_getaffinity(0))
        return cls(load=allowed[0], proxy=allowed[min(1, len(allowed) - 1)])

    @property
    def separate(self) -> bool:
        return self.load != self.proxy


def pinned(core: int) -> Callable[[], None]:
    """What a child does before exec: keep to its core, and end when the bench does."""
    libc = ctypes.CDLL(None)

    def prepare() -> None:
        os.sched_setaffinity(0, {core})
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)

    return prepare


def others_seconds(cores: Cores) -> float:
    """CPU time so far on both cores that is not the bench's or its children's: the noise.

    Two virtual cores may be one physical one, so what disturbs the load disturbs the proxy too.
    """
    times = psutil.cpu_times(percpu=True)
    used = 0.0
    for core in {cores.load, cores.proxy}:
        each = times[core]
        used += sum(each) - each.idle - each.iowait - each.guest - each.guest_nice
    return used - tree_seconds(psutil.Process())


def tree_seconds(root: psutil.Process) -> float:
    """User and system time so far: all threads, all children, the ended ones included."""
    times = [process.cpu_times() for process in [root, *root.children(recursive=True)]]
    return float(sum(t.user + t.system + t.children_user + t.children_system for t in times))


@dataclass(frozen=True, slots=True)
class Process:
    """A running process, with its children the unit that CPU time and memory are read of."""

    name: str
    popen: subprocess.Popen[bytes]
    log: Path

    def cpu_seconds(self) -> float:
        """As `tree_seconds`.

        Raises `NotReadyError` when the process has ended.
        """
        return tree_seconds(self._root())

    def rss_bytes(self) -> int:
        """Resident memory of the process and its children.

        Raises `NotReadyError` when the process has ended.
        """
        root = self._root()
        return sum(each.memory_info().rss for each in [root, *root.children(recursive=True)])

    def _root(self) -> psutil.Process:
        if self.popen.poll() is not None:
            raise NotReadyError(f"ended with {self.popen.returncode}: {self.log_tail()}")
        return psutil.Process(self.popen.pid)

    def wait_ready(self, ready: Callable[[], bool], seconds: float = 15.0) -> None:
        """Wait until `ready` says so.

        Raises `NotReadyError` when the process ends before or `seconds` pass.
        """
        deadline = time.monotonic() + seconds
        while not ready():
            if self.popen.poll() is not None:
                raise NotReadyError(f"ended with {self.popen.returncode}: {self.log_tail()}")
            if time.monotonic() > deadline:
                raise NotReadyError(f"no right answer in {seconds:.0f} s: {self.log_tail()}")
            time.sleep(0.05)

    def log_tail(self) -> str:
        """The last lines of what the process printed."""
        return " | ".join(self.log.read_text(errors="replace").strip().splitlines()[-3:])


class Processes:
    """All that the bench has started; leaving the context ends it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._running: list[Process] = []

    def start(self, name: str, command: Sequence[str | Path], core: int) -> Process:
        """Start a command, its output in a log file, in a process group of its own."""
        log = self.directory / f"{name}.log"
        with log.open("wb") as output:
            popen = subprocess.Popen(
                [os.fspath(word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=pinned(core),
            )
        process = Process(name, popen, log)
        self._running.append(process)
        return process

    def end(self, processes: Sequence[Process]) -> None:
        """SIGTERM to each group, SIGKILL to what is left after `END_SECONDS`."""
        for process in processes:
            _signal_group(process, signal.SIGTERM)
        deadline = time.monotonic() + END_SECONDS
        for process in processes:
            with suppress(subprocess.TimeoutExpired):
                process.popen.wait(max(0.0, deadline - time.monotonic()))
            _signal_group(process, signal.SIGKILL)
            process.popen.wait()
        self._running = [process for process in self._running if process not in processes]

    def __enter__(self) -> Processes:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.end(self._running)


def run_pinned(
    command: Sequence[str | Path], core: int, seconds: float, env: Mapping[str, str] | None = None
) -> str:
    """Run a command to its end, at most `seconds`, and return what it printed.

    Raises `NotReadyError` when it fails or does not end.
    """
    try:
        done = subprocess.run(
            [os.fspath(word) for word in command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            env={**os.environ, **(env or {})},
            preexec_fn=pinned(core),
        )
    except subprocess.TimeoutExpired as error:
        raise NotReadyError(f"{command[0]} did not end in {seconds:.0f} s") from error
    if done.returncode != 0:
        raise NotReadyError(f"{command[0]} failed: {(done.stderr or done.stdout).strip()[-300:]}")
    return done.stdout


def run_main(main: Callable[[], None]) -> None:
    """Run a program. Signals leave it by the usual way, so that contexts end what they started."""

    def leave(number: int, _frame: object) -> None:
        sys.exit(128 + number)

    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGHUP, leave)
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)


def free_ports() -> Iterator[int]:
    """Ports of the loopback interface that nobody listens on, each given once."""
    for port in range(FIRST_PORT, 32768):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        yield port


def find_tool(name: str) -> Path | None:
    """Where a tool is; Debian keeps servers in a folder that is not on everybody's PATH."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    return Path(found) if found else None


def _signal_group(process: Process, number: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.popen.pid, number)
