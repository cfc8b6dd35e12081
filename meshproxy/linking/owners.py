"""Which request caused a call, told from the processes and threads that own the sockets.

The process that holds the service's end of a call made the call; the one that holds the accepted
socket of a request works on the request. Where several processes serve (prefork), that leaves few
requests, mostly one. Within a process the thread that waits for the call's answer tells, if threads
stay with connections (`meshproxy.linking.threads`).

Nothing is concluded from what is not known: a socket whose owner cannot be told may belong to
anybody. A connection that the service has not accepted yet belongs to nobody, and has caused
nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

from meshproxy.linking.evidence import Verdict
from meshproxy.linking.inflight import Cause
from meshproxy.linking.ownership import (
    QUEUED,
    UNKNOWN,
    Lookup,
    Owner,
    OwnerError,
    owner_of,
)
from meshproxy.linking.pause import LONGEST, Budget, Pause
from meshproxy.linking.sockets import Socket
from meshproxy.linking.threads import THREAD, ThreadEvidence

PROCESS: Final = "process"
PROCESS_CONFIDENCE: Final = 0.999
NO_REQUEST_CONFIDENCE: Final = 0.99
"""That a process which serves requests, and has none now, was not asked by another process."""

PAUSES: Final = {"off": float("inf"), "unsupported": float("inf"), "denied": 30.0,
                 "not_visible": 30.0, "threads_unsupported": float("inf"),
                 "threads_denied": 60.0, "error": 60.0, "refuted": 60.0}  # fmt: skip
"""Seconds without a look after a failure; doubled each time it is the same, up to `LONGEST`."""

SHARE: Final = 0.2
"""Of the time that passes, how much may be spent on looking."""

RESERVE: Final = 0.25
"""Of the burst, what is left to `OwnerEvidence.sending`, without which no thread is known later."""

BURST: Final = 0.05
"""Seconds that may be spent at once after a time without any."""

SLICE: Final = 0.002
"""Seconds that one decision may spend on finding processes."""

FRUITLESS: Final = 100
"""Looks in a row without a verdict after which there is a pause."""

THREADS_WANTED: Final = 5.0
"""Seconds for which threads are watched after they were needed last."""

MOST_PROCESSES: Final = 1024


class OwnerEvidence:
    """Judges calls by the owners of sockets. Never raises; what fails is counted in ``stats``.

    ``clock`` gives seconds that only grow, ``work`` those that were spent computing: a ``share`` of
    the former may be spent on look-ups. Without ``work``, the clock counts.
    """

    def __init__(
        self,
        lookup: Lookup,
        clock: Callable[[], float],
        work: Callable[[], float] | None = None,
        share: float = SHARE,
    ) -> None:
        self.stats: Counter[str] = Counter()
        self._lookup = lookup
        self._clock = clock
        self._budget = Budget(work or clock, share, BURST)
        self._pause = Pause()
        self._threads = ThreadEvidence(lookup, self.stats)
        self._threads_pause = Pause()
        self._threads_until = 0.0
        self._fruitless = 0
        self._hopeful = False
        self._callers: dict[int, None] = {}
        self._servers: dict[int, None] = {}

    def judge(self, socket: Socket | None, causes: Sequence[Cause]) -> Verdict | None:
        """Which of the requests in flight may have caused a call that was made on ``socket``.

        One cause: the call's process (or thread) has this one and no other. Several: the call's
        process has these, the others are not its. None at all: the process serves requests, and
        has none now: the call belongs to no request. None instead of a verdict: nothing is known.
        """
        now = self._clock()
        if socket is None or now < self._pause.until:
            return None
        if not self._budget.begin(now, RESERVE):
            self.stats["over_budget"] += 1
            return None
        verdict: Verdict | None = None
        self._hopeful = False
        try:
            verdict = self._judge(socket, causes, now)
        except OwnerError as error:
            self._failed(self._pause, now, error.reason)
        except Exception:
            self._failed(self._pause, now, "error")
        else:
            self._learn(now, verdict)
        self._budget.end()
        return verdict

    def sending(self, socket: Socket, size: int, fresh: bool) -> None:
        """A request is about to be sent to the service; to be called before its first byte is.

        ``size`` is its length in bytes, 0 if more may follow. ``fresh``: it is the first on its
        connection. On any other, the thread that waits there now will get it. Costs next to
        nothing unless threads are being watched.
        """
        if socket.owner is None and self._clock() < self._pause.until:
            return
        owner = owner_of(socket)
        owner.untouched = size
        owner.thread = 0
        if fresh or not self._threads_until:
            return
        now = self._clock()
        if now >= self._threads_until or not self._budget.begin(now):
            return
        try:
            if not self._is_sure(owner, None):
                self._find({socket: None})
            if owner.process:
                self._threads.idle(owner, now)
        except OwnerError as error:
            self._threads_failed(now, error.reason)
        except Exception:
            self._threads_failed(now, "error")
        self._budget.end()

    def refuted(self, verdict: Verdict) -> None:
        """Certain evidence contradicts what was said: stop saying such things for a while."""
        pause = self._threads_pause if verdict.evidence == THREAD else self._pause
        self._failed(pause, self._clock(), "refuted")

    def _failed(self, pause: Pause, now: float, reason: str) -> None:
        self.stats[reason] += 1
        pause.begin(now, reason, PAUSES.get(reason, LONGEST))

    def _threads_failed(self, now: float, reason: str) -> None:
        self._failed(self._threads_pause, now, reason)
        self._threads_until = 0.0

    def _learn(self, now: float, verdict: Verdict | None) -> None:
        if verdict is not None:
            outcome = ("none", "one", "some")[min(2, len(verdict.causes))]
            self.stats[f"{verdict.evidence}_{outcome}"] += 1
            if len(verdict.causes) < 2:
                self._fruitless = 0
                self._pause.reset()
            return
        if self._hopeful:
            return
        self._fruitless += 1
        if self._fruitless >= FRUITLESS:
            self._fruitless = FRUITLESS * 3 // 4
            self.stats["useless"] += 1
            self._pause.begin(now, "useless", 1.0)

    def _judge(self, socket: Socket, causes: Sequence[Cause], now: float) -> Verdict | None:
        known = self._look_up(socket, causes)
        caller = owner_of(socket)
        if not caller.process:
            self.stats["caller_shared" if caller.processes else "caller_unknown"] += 1
            return None
        _note(self._callers, caller.process)
        if not known:
            self.stats["cause_unknown"] += 1
            return None
        mine = [cause for cause in causes if caller.process in _processes_of(cause)]
        if any(len(_processes_of(cause)) > 1 for cause in mine):
            self.stats["cause_shared"] += 1
            return None  # it inherited sockets, and may work for other requests of its parent too
        if mine:
            _note(self._servers, caller.process)
        if len(mine) > 1:
            verdict = self._by_thread(caller, mine, now)
            if verdict is not None:
                return verdict
        mine = self._begun(mine)
        if len(mine) < 2:
            return self._at_most_one(caller, mine)
        return Verdict(PROCESS, PROCESS_CONFIDENCE, mine) if len(mine) < len(causes) else None

    def _at_most_one(self, caller: Owner, mine: Sequence[Cause]) -> Verdict | None:
        if not mine:
            if caller.process in self._servers:
                return Verdict(PROCESS, NO_REQUEST_CONFIDENCE, mine)
            self.stats["handed_over"] += 1
            return None
        return Verdict(PROCESS, PROCESS_CONFIDENCE, mine)

    def _begun(self, mine: list[Cause]) -> list[Cause]:
        """Those of which the service has read something: it cannot act on the others yet."""
        untouched: dict[Socket, Owner] = {}
        for cause in mine:
            socket = _socket_of(cause)
            if socket is not None and owner_of(socket).untouched:
                untouched[socket] = owner_of(socket)
        if not untouched:
            return mine
        looks = self._lookup.look(list(untouched))
        for owner, (inode, unread) in zip(untouched.values(), looks, strict=True):
            if inode < 0 or unread < owner.untouched:
                owner.untouched = 0  # read once, a request stays read: nobody asks again
        return [cause for cause in mine if _has_begun(cause)]

    def _by_thread(self, caller: Owner, mine: Sequence[Cause], now: float) -> Verdict | None:
        if now < self._threads_pause.until or not self._threads.wanted(caller.process, now):
            return None
        self._threads_until = now + THREADS_WANTED
        self._hopeful = True  # threads are being watched: something may come of it yet
        try:
            return self._threads.judge(caller, mine, now)
        except OwnerError as error:
            self._threads_failed(now, error.reason)
            return None

    # Owners

    def _look_up(self, socket: Socket, causes: Sequence[Cause]) -> bool:
        """Find the owners of all sockets; False if one of a cause's is not to be found."""
        wanted: dict[Socket, Cause | None] = {}
        if not self._is_sure(owner_of(socket), None):
            wanted[socket] = None
        known = True
        for cause in causes:
            carrier = cause.carrier
            if carrier is None:
                known = False
            elif carrier.socket is not None and not self._is_sure(owner_of(carrier.socket), cause):
                wanted[carrier.socket] = cause
        if wanted:
            self._find(wanted)
            for each, cause_of_it in wanted.items():
                if cause_of_it is not None and owner_of(each).inode == UNKNOWN:
                    known = False
        return known

    def _is_sure(self, owner: Owner, cause: Cause | None) -> bool:
        """Whether what is noted of a socket holds still.

        Descriptors can be handed to another process before a request is read. Hence a look with
        each new request, and each time if it is held by a process that was not seen to make calls,
        such as one that only accepts.
        """
        if not owner.processes or owner.generation != self._lookup.generation:
            return False
        if cause is not None and owner.cause is cause and owner.processes[0] in self._callers:
            return True
        if owner.process and self._lookup.holds(owner.process, owner.descriptor, owner.inode):
            owner.cause = cause
            return True
        self.stats["moved"] += 1
        return False

    def _find(self, wanted: dict[Socket, Cause | None]) -> None:
        looks = self._lookup.look(list(wanted))
        accepted = [inode for inode, _ in looks if inode > QUEUED]
        generation = self._lookup.generation  # a process met meanwhile may share some of these
        holders = self._lookup.holders(accepted, SLICE) if accepted else {}
        for (socket, cause), (inode, _) in zip(wanted.items(), looks, strict=True):
            owner = owner_of(socket)
            owner.cause = cause
            if inode == owner.inode == QUEUED:
                continue
            if inode > QUEUED and inode not in holders:
                self.stats["no_holder"] += 1
                inode = UNKNOWN
            elif inode == UNKNOWN:
                self.stats["no_socket"] += 1
            owner.found(inode, holders.get(inode, ()), generation)


def _socket_of(cause: Cause) -> Socket | None:
    """The connection of a request; None, if it was not sent to the service yet."""
    return cause.carrier.socket if cause.carrier is not None else None


def _processes_of(cause: Cause) -> tuple[int, ...]:
    """Who may work on a request: nobody, if it was not sent to the service yet."""
    socket = _socket_of(cause)
    return owner_of(socket).processes if socket is not None else ()


def _has_begun(cause: Cause) -> bool:
    socket = _socket_of(cause)
    return socket is None or not owner_of(socket).untouched


def _note(processes: dict[int, None], process: int) -> None:
    if process not in processes:
        if len(processes) >= MOST_PROCESSES:
            processes.clear()
        processes[process] = None
