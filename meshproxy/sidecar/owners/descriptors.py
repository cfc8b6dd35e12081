"""Which process holds a socket: the links in /proc/PID/fd (proc_pid_fd(5))."""

from __future__ import annotations

import os
import time
from collections.abc import Collection

from meshproxy.linking.ownership import Holder, OwnerError

MOST_PROCESSES = 512
MOST_TRIES = 48
"""Descriptors tried by number before whole directories are read."""

FIRST_INTERVAL, LONGEST_INTERVAL = 0.02, 5.0
"""Seconds between two searches of all of /proc; doubled while they find nothing."""


class Descriptors:
    """Finds the holders of sockets, and remembers which processes are the service's.

    A process takes the lowest free number for a new descriptor, so that the numbers come again and
    again: those are tried first. What a forked process inherits has the number that it has in the
    parent: to see whether a socket is shared, the same number is looked at in all processes.
    """

    def __init__(self, proc: str = "/proc") -> None:
        self.generation = 0
        self._proc = proc
        self._own = os.getpid()
        self._processes: dict[int, None] = {}
        self._numbers: dict[int, None] = {}
        self._unsearched: list[int] = []
        self._denied = 0
        self._search_at = 0.0
        self._interval = FIRST_INTERVAL

    def holds(self, process: int, descriptor: int, inode: int) -> bool:
        """Whether a socket is under that number."""
        return self._inode_at(process, descriptor) == inode

    def holders(self, inodes: Collection[int], seconds: float) -> dict[int, list[Holder]]:
        """Who holds the sockets with these inodes, as far as it is found within ``seconds``.

        Raises `OwnerError` (``denied``, ``not_visible``) when no process of the service is to be
        found at all.
        """
        until = time.monotonic() + seconds
        found: dict[int, list[Holder]] = {}
        wanted = set(inodes)
        self._try_numbers(wanted, found)
        if len(found) < len(wanted):
            self._read_directories(list(self._processes), wanted, found, until)
        if len(found) < len(wanted):
            self._search(wanted, found, until)
        return found

    def _try_numbers(self, wanted: set[int], found: dict[int, list[Holder]]) -> None:
        if not self._processes:
            return
        most = max(2, MOST_TRIES // len(self._processes))
        for number in list(self._numbers)[: -most - 1 : -1]:
            for process in self._processes:
                inode = self._inode_at(process, number)
                if inode in wanted:
                    found.setdefault(inode, []).append((process, number))
                    self._use(number)
            if len(found) == len(wanted):
                return

    def _use(self, number: int) -> None:
        """A number at which something was found is the first to be tried next time."""
        self._numbers.pop(number, None)
        self._numbers[number] = None
        if len(self._numbers) > MOST_TRIES:
            del self._numbers[next(iter(self._numbers))]

    def _read_directories(
        self,
        processes: list[int],
        wanted: set[int],
        found: dict[int, list[Holder]],
        until: float,
    ) -> None:
        for process in processes:
            if len(found) == len(wanted) or time.monotonic() > until:
                return
            before = set(found)
            if not self._read_directory(process, wanted, found, until):
                self._processes.pop(process, None)
            for inode in found.keys() - before:
                self._take_note(process, found[inode])

    def _read_directory(
        self, process: int, wanted: set[int], found: dict[int, list[Holder]], until: float
    ) -> bool:
        """Look at all descriptors, those with high numbers first; False if it is gone."""
        missing = wanted - found.keys()
        try:
            numbers = os.listdir(f"{self._proc}/{process}/fd")
        except PermissionError:
            self._denied += 1
            return True
        except OSError:
            return False
        for count, number in enumerate(reversed(numbers)):
            inode = self._inode_at(process, int(number))
            if inode in missing:
                found[inode] = [(process, int(number))]
                missing.discard(inode)
            if not missing or (count & 63 == 63 and time.monotonic() > until):
                break
        return True

    def _take_note(self, process: int, holders: list[Holder]) -> None:
        """A socket was found: remember the process and the number, and see who shares it."""
        if process not in self._processes:
            if len(self._processes) >= MOST_PROCESSES:
                self._processes.clear()
            self._processes[process] = None
            self.generation += 1
        number = holders[0][1]
        inode = self._inode_at(process, number)
        self._use(number)
        for other in self._processes:
            if other != process and inode and self._inode_at(other, number) == inode:
                holders.append((other, number))

    def _search(self, wanted: set[int], found: dict[int, list[Holder]], until: float) -> None:
        """Look at the processes that were not known to be the service's, over several calls."""
        now = time.monotonic()
        if not self._unsearched:
            if now < self._search_at:
                return
            self._denied = 0
            self._unsearched = self._strangers()
        met = self.generation
        while self._unsearched and len(found) < len(wanted) and time.monotonic() < until:
            self._read_directories([self._unsearched.pop()], wanted, found, until)
        if self.generation != met:
            self._interval = FIRST_INTERVAL
            self._unsearched.clear()
        elif not self._unsearched:
            self._search_at = now + self._interval
            self._interval = min(LONGEST_INTERVAL, self._interval * 2)
            if not self._processes:
                raise OwnerError("denied" if self._denied else "not_visible")

    def _strangers(self) -> list[int]:
        """The processes that are not known, the newest last. Those that are gone are forgotten."""
        alive = {int(name) for name in os.listdir(self._proc) if name.isdigit()}
        for process in self._processes.keys() - alive:
            del self._processes[process]
        return sorted(alive - self._processes.keys() - {self._own})

    def _inode_at(self, process: int, number: int) -> int:
        """The inode of a socket, 0 if there is something else, or nothing."""
        try:
            link = os.readlink(f"{self._proc}/{process}/fd/{number}")
        except OSError:
            return 0
        return int(link[8:-1]) if link.startswith("socket:[") else 0
