"""Who holds a socket of the service, and what the operating system is asked about it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final, Protocol

from meshproxy.linking.inflight import Cause
from meshproxy.linking.sockets import Socket

QUEUED: Final = 0
"""In place of an inode: the connection waits to be accepted."""

UNKNOWN: Final = -1
"""In place of an inode: there is no such socket here, or it is closed already."""

BUSY: Final = -1
"""In place of a descriptor: the thread runs."""

ELSEWHERE: Final = -2
"""In place of a descriptor: the thread is blocked on something else, or gone."""

Holder = tuple[int, int]
"""A process id and the number of a descriptor in it."""


class OwnerError(Exception):
    """Nothing can be found out; ``reason`` is counted."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Lookup(Protocol):
    """What the operating system tells; `meshproxy.sidecar.owners` asks it.

    All methods raise `OwnerError` when there is no use in asking again soon.
    """

    @property
    def generation(self) -> int:
        """Grows whenever a process of the service is met for the first time."""

    def look(self, sockets: Sequence[Socket]) -> Sequence[tuple[int, int]]:
        """For each socket its inode, `QUEUED` or `UNKNOWN`, and how many bytes it has to read."""

    def holders(self, inodes: Collection[int], seconds: float) -> dict[int, list[Holder]]:
        """Who holds these sockets, as far as it is found within ``seconds``."""

    def holds(self, process: int, descriptor: int, inode: int) -> bool:
        """Whether the socket is still there under that number."""

    def threads(self, process: int) -> Sequence[int]:
        """The ids of its threads, in ascending order; none if it is gone."""

    def awaited(self, process: int, thread: int, least: float) -> int:
        """The descriptor that a thread is blocked on until there is something to read.

        `BUSY` if it runs, `ELSEWHERE` if it is blocked on something else, or gone, or if it gives
        up after less than ``least`` seconds.
        """


class NoLookup:
    """For ``linking.process: off``."""

    generation = 0

    def look(self, sockets: Sequence[Socket]) -> Sequence[tuple[int, int]]:
        """Say that nobody is to look."""
        raise OwnerError("off")

    def holders(self, inodes: Collection[int], seconds: float) -> dict[int, list[Holder]]:
        """Nobody."""
        return {}

    def holds(self, process: int, descriptor: int, inode: int) -> bool:
        """Not known to."""
        return False

    def threads(self, process: int) -> Sequence[int]:
        """None."""
        return ()

    def awaited(self, process: int, thread: int, least: float) -> int:
        """Nothing."""
        return ELSEWHERE


class Owner:
    """What is known of who holds a socket of the service: usually one process.

    ``inode`` is `UNKNOWN` until somebody looked. ``cause`` is the request with which this was last
    made sure of. ``untouched`` is the size in bytes of the request on it as long as the service may
    have read nothing of it; 0 once it has, or if the size is not known. ``thread`` is the one that
    got the request which is on it now, 0 if that is not known; ``before`` is the thread that was
    met on it last.
    """

    __slots__ = (
        "before",
        "cause",
        "descriptor",
        "generation",
        "inode",
        "processes",
        "thread",
        "untouched",
    )

    def __init__(self) -> None:
        self.inode = UNKNOWN
        self.processes: tuple[int, ...] = ()
        self.descriptor = -1
        self.generation = -1
        self.cause: Cause | None = None
        self.thread = 0
        self.before = 0
        self.untouched = 0

    def found(self, inode: int, holders: Sequence[Holder], generation: int) -> None:
        """Note who holds it; nobody, while it waits to be accepted."""
        if inode != self.inode:
            self.thread = self.before = 0
        self.inode = inode
        self.processes = tuple(dict.fromkeys([process for process, _ in holders]))
        self.descriptor = holders[0][1] if holders else -1
        self.generation = generation

    @property
    def process(self) -> int:
        """The only process that holds it; 0 if that is not known, or there are several."""
        return self.processes[0] if len(self.processes) == 1 else 0


def owner_of(socket: Socket) -> Owner:
    """The record kept with a socket."""
    owner = socket.owner
    if not isinstance(owner, Owner):
        owner = socket.owner = Owner()
    return owner
