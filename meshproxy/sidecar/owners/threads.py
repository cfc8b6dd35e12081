"""What a thread is blocked on: /proc/PID/task/TID/syscall (proc_pid_syscall(5))."""

from __future__ import annotations

import os
import platform
import struct
from enum import Enum

from meshproxy.linking.ownership import BUSY, ELSEWHERE, OwnerError


class Kind(Enum):
    """How a system call names the descriptors that it waits for."""

    READ = 1
    POLL = 2
    PPOLL = 3
    SELECT = 4
    PSELECT = 5


_NUMBERS = {
    "x86_64": {
        0: Kind.READ, 19: Kind.READ, 45: Kind.READ, 47: Kind.READ,
        7: Kind.POLL, 271: Kind.PPOLL, 23: Kind.SELECT, 270: Kind.PSELECT,
    },
    "aarch64": {
        63: Kind.READ, 65: Kind.READ, 207: Kind.READ, 212: Kind.READ,
        73: Kind.PPOLL, 72: Kind.PSELECT,
    },
}  # fmt: skip
"""read, readv, recvfrom, recvmsg; poll, ppoll; select, pselect6."""

POLLIN = 0x001
_POLLFD = struct.Struct("=ihh")
_TIME = struct.Struct("=qq")
"""timeval and timespec of 64-bit programs."""

FOREVER = float("inf")
MOST_FILES = 192
"""Files kept open."""

MOST_SELECTED = 1024
"""FD_SETSIZE."""


class Threads:
    """Looks at the threads of other processes; needs the right to trace them (ptrace(2))."""

    def __init__(self, proc: str = "/proc") -> None:
        self._proc = proc
        self._kinds = _NUMBERS.get(platform.machine())
        self._files: dict[tuple[int, str], int] = {}

    def close(self) -> None:
        """Close the files that are kept open."""
        while self._files:
            os.close(self._files.popitem()[1])

    def of(self, process: int) -> list[int]:
        """The ids of a process's threads, in ascending order; none if it is gone."""
        try:
            return sorted(map(int, os.listdir(f"{self._proc}/{process}/task")))
        except OSError:
            return []

    def awaited(self, process: int, thread: int, least: float) -> int:
        """The one descriptor that a thread waits for in order to read; `BUSY`, `ELSEWHERE`.

        ``ELSEWHERE`` too if it waits for less than ``least`` seconds in all. Raises `OwnerError`
        (``threads_denied``, ``threads_unsupported``).
        """
        if self._kinds is None:
            raise OwnerError("threads_unsupported")
        try:
            call = self._read(process, f"task/{thread}/syscall", 160, 0).split()
            if len(call) < 7:
                return BUSY
            kind = self._kinds.get(int(call[0]))
            if kind is None:
                return ELSEWHERE
            arguments = [int(each, 16) for each in call[1:6]]
            if kind is Kind.READ:
                return arguments[0] & 0x7FFFFFFF
            if least and self._limit(process, kind, arguments) < least:
                return ELSEWHERE
            if kind is Kind.POLL or kind is Kind.PPOLL:
                return self._polled(process, arguments[0], arguments[1])
            return self._selected(process, arguments[0], arguments[1])
        except PermissionError:
            raise OwnerError("threads_denied") from None
        except FileNotFoundError:
            return self._missing(process, thread)
        except (OSError, ValueError):
            return ELSEWHERE

    def _limit(self, process: int, kind: Kind, arguments: list[int]) -> float:
        """For how many seconds it was going to wait when it began to."""
        if kind is Kind.POLL:
            milliseconds = arguments[2] & 0xFFFFFFFF
            return FOREVER if milliseconds >= 1 << 31 else milliseconds / 1000
        address = arguments[2 if kind is Kind.PPOLL else 4]
        if not address:
            return FOREVER
        raw = self._read(process, "mem", _TIME.size, address)
        if len(raw) < _TIME.size:
            return 0.0
        seconds, fraction = _TIME.unpack(raw)
        return float(seconds + fraction / (1e6 if kind is Kind.SELECT else 1e9))

    def _missing(self, process: int, thread: int) -> int:
        if os.path.exists(f"{self._proc}/{process}/task/{thread}"):
            raise OwnerError("threads_unsupported")  # CONFIG_HAVE_ARCH_TRACEHOOK is not set
        return ELSEWHERE

    def _polled(self, process: int, address: int, count: int) -> int:
        if count != 1:
            return ELSEWHERE
        raw = self._read(process, "mem", _POLLFD.size, address)
        if len(raw) < _POLLFD.size:
            return ELSEWHERE
        descriptor, events, _ = _POLLFD.unpack(raw)
        return int(descriptor) if events & POLLIN else ELSEWHERE

    def _selected(self, process: int, highest: int, address: int) -> int:
        if not address or not 0 < highest <= MOST_SELECTED:
            return ELSEWHERE
        raw = self._read(process, "mem", (highest + 63) // 64 * 8, address)
        bits = int.from_bytes(raw, "little")
        return bits.bit_length() - 1 if bits.bit_count() == 1 else ELSEWHERE

    def _read(self, process: int, name: str, size: int, offset: int) -> bytes:
        """Read from a file that is kept open: it is of this process (or thread), even if its id is
        given to another one."""
        key = (process, name)
        file = self._files.get(key)
        if file is None:
            file = os.open(f"{self._proc}/{process}/{name}", os.O_RDONLY | os.O_CLOEXEC)
            if len(self._files) >= MOST_FILES:
                self._forget(next(iter(self._files)))
            self._files[key] = file
        try:
            raw = os.pread(file, size, offset)
        except OSError:
            self._forget(key)
            raise
        if not raw:  # the memory of a process that has ended, or become another program
            self._forget(key)
        return raw

    def _forget(self, key: tuple[int, str]) -> None:
        os.close(self._files.pop(key))
