"""An operating system that the tests make up: sockets, processes and threads."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from meshproxy.linking.inflight import Cause
from meshproxy.linking.owners import OwnerEvidence
from meshproxy.linking.ownership import ELSEWHERE, Holder
from meshproxy.linking.sockets import Carrier, Socket
from meshproxy.trace.context import SpanContext


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class System:
    """A `Lookup`: sockets and who holds them, threads and what they wait for."""

    def __init__(self) -> None:
        self.generation = 0
        self.inodes: dict[Socket, int] = {}
        self.unread: dict[Socket, int] = {}
        self.held: dict[int, list[Holder]] = {}
        self.waiting: dict[Holder, int] = {}
        self.error: Exception | None = None
        self.thread_error: Exception | None = None
        self.questions = 0

    def socket(self, *holders: int, inode: int | None = None) -> Socket:
        """A socket that these processes hold, each under the number that is its inode."""
        number = len(self.inodes) + 1 if inode is None else inode
        made = Socket(("10.0.0.1", 8080), ("10.0.0.1", len(self.inodes)))
        self.inodes[made] = number
        if number > 0:
            self.held[number] = [(process, number) for process in holders]
        return made

    def hand_over(self, socket: Socket, process: int) -> None:
        self.held[self.inodes[socket]] = [(process, self.inodes[socket])]

    def wait(self, process: int, thread: int, socket: Socket | int) -> None:
        at = socket if isinstance(socket, int) else self.inodes[socket]
        self.waiting[process, thread] = at

    def look(self, sockets: Sequence[Socket]) -> Sequence[tuple[int, int]]:
        self.questions += 1
        if self.error is not None:
            raise self.error
        return [(self.inodes[each], self.unread.get(each, 0)) for each in sockets]

    def holders(self, inodes: Collection[int], seconds: float) -> dict[int, list[Holder]]:
        self.questions += 1
        return {inode: self.held[inode] for inode in inodes if self.held.get(inode)}

    def holds(self, process: int, descriptor: int, inode: int) -> bool:
        self.questions += 1
        return (process, descriptor) in self.held.get(inode, [])

    def threads(self, process: int) -> Sequence[int]:
        self.questions += 1
        return sorted(thread for owner, thread in self.waiting if owner == process)

    def awaited(self, process: int, thread: int, least: float) -> int:
        self.questions += 1
        if self.thread_error is not None:
            raise self.thread_error
        return self.waiting.get((process, thread), ELSEWHERE)


def request(socket: Socket | None = None, carried: bool = True) -> Cause:
    cause = Cause(SpanContext(b"t" * 16, b"s" * 8, 1), "GET /", 0)
    if carried:
        cause.carrier = Carrier()
        cause.carrier.socket = socket
    return cause


def says(evidence: OwnerEvidence, call: Socket, causes: Sequence[Cause]) -> list[Cause] | None:
    verdict = evidence.judge(call, causes)
    return None if verdict is None else list(verdict.causes)
