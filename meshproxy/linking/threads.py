"""Which thread got a request, and which one made a call.

A thread that waits on an idle connection when a request is sent on it is the one that reads the
request; a thread that waits for a call's answer is the one that made the call. Where the same
thread does both (a thread for each connection, or a pool whose threads stay with a connection until
it ends), that names the cause. The threads of event loops and of pools behind a selector are never
seen to wait on one connection: then there is no evidence, and for a while nobody looks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Final

from meshproxy.linking.evidence import Verdict
from meshproxy.linking.inflight import Cause
from meshproxy.linking.ownership import Lookup, Owner, owner_of
from meshproxy.linking.pause import Pause

THREAD: Final = "thread"
THREAD_CONFIDENCE: Final = 0.995

MISSES: Final = 24
"""Idle connections in a row on which nobody waits: there is no thread to each connection."""

FRUITLESS: Final = 300
"""Calls in a row whose thread was not found."""

FIRST_PAUSE: Final = 10.0
"""Seconds until threads that were of no use are looked at again."""

STAYS: Final = 1.0
"""Seconds that a thread must be ready to wait on an idle connection: one that leaves it to others
soon may do so between the look and the request."""

LOYAL: Final = 50
"""Times that connections were found with the thread that they had before; from then on a thread is
taken to be still there when it is only not back yet from the request before."""

DISLOYAL: Final = -500
"""Where that count begins again when a connection was found with another thread."""

PATIENCE: Final = 2
"""Times in a row that this is taken for granted; then the count begins at 0 again."""

MOST_THREADS: Final = 128
MOST_PROCESSES: Final = 256


class Habits:
    """What was seen of the threads of one process."""

    __slots__ = ("absent", "busy", "fruitless", "loyal", "misses", "pause")

    def __init__(self) -> None:
        self.busy: dict[int, None] = {}
        """Threads that were met on a connection or a call, the last one last: when one is sought,
        another is more likely."""
        self.absent = 0
        self.fruitless = 0
        self.loyal = 0
        self.misses = 0
        self.pause = Pause()

    def met(self, thread: int) -> None:
        """A thread was found on what it waits for."""
        self.busy.pop(thread, None)
        self.busy[thread] = None
        if len(self.busy) > MOST_THREADS:
            del self.busy[next(iter(self.busy))]

    def in_order(self, threads: Collection[int]) -> list[int]:
        """Those that were met longest ago first, and before them those that never were."""
        found = [thread for thread in threads if thread not in self.busy]
        return found + [thread for thread in self.busy if thread in threads]


class ThreadEvidence:
    """Methods raise `OwnerError`."""

    def __init__(self, lookup: Lookup, stats: Counter[str]) -> None:
        self._lookup = lookup
        self._stats = stats
        self._habits: dict[int, Habits] = {}

    def _of(self, process: int) -> Habits:
        habits = self._habits.get(process)
        if habits is None:
            if len(self._habits) >= MOST_PROCESSES:
                self._habits.clear()
            habits = self._habits[process] = Habits()
        return habits

    def wanted(self, process: int, now: float) -> bool:
        """Whether it makes sense to look at the threads of a process now."""
        return now >= self._of(process).pause.until

    def idle(self, owner: Owner, now: float) -> None:
        """Note which thread waits on a connection that is about to carry a request."""
        process = owner.process
        habits = self._of(process)
        if now < habits.pause.until:
            return
        reader = owner.before if owner.before and self._waits(owner, owner.before, STAYS) else 0
        reader = reader or self._reader(habits, owner, now)
        if not reader:
            self._nobody(owner, habits, now)
            return
        habits.misses = habits.absent = 0
        habits.met(reader)
        if owner.before:
            habits.loyal = habits.loyal + 1 if reader == owner.before else DISLOYAL
        owner.thread = owner.before = reader

    def _nobody(self, owner: Owner, habits: Habits, now: float) -> None:
        """No thread waits: there is none to it, or it is not back yet from the request before."""
        habits.absent += 1
        if habits.absent > PATIENCE:
            habits.loyal = min(habits.loyal, 0)
        elif owner.before and habits.loyal >= LOYAL:
            owner.thread = owner.before
            return
        habits.misses += 1
        if habits.misses >= MISSES:
            self._give_up(habits, now, "threads_useless")

    def _reader(self, habits: Habits, owner: Owner, now: float) -> int:
        threads = set(self._lookup.threads(owner.process))
        if len(threads) > MOST_THREADS:
            self._give_up(habits, now, "threads_too_many")
            return 0
        for thread in habits.in_order(threads):
            if self._waits(owner, thread, STAYS):
                return thread
        return 0

    def _give_up(self, habits: Habits, now: float, reason: str) -> None:
        self._stats[reason] += 1
        habits.misses = habits.fruitless = 0
        habits.pause.begin(now, reason, FIRST_PAUSE)

    def judge(self, caller: Owner, causes: Sequence[Cause], now: float) -> Verdict | None:
        """Which of the causes, all of the caller's process, has the thread that made the call."""
        habits = self._of(caller.process)
        if now < habits.pause.until:
            return None
        readers = _readers_of(causes)
        thread = self._calling(habits, caller, readers)
        if thread:
            habits.met(thread)
            habits.fruitless = 0
            return Verdict(THREAD, THREAD_CONFIDENCE, (readers[thread],))
        self._stats["thread_not_found"] += 1
        habits.fruitless += 1
        if habits.fruitless >= FRUITLESS:
            self._give_up(habits, now, "threads_useless")
        return None

    def _calling(self, habits: Habits, caller: Owner, threads: dict[int, Cause]) -> int:
        """The one of the threads that waits for the call's answer."""
        if caller.before in threads and self._waits(caller, caller.before):
            return caller.before
        for thread in habits.in_order(threads):
            if self._waits(caller, thread):
                caller.before = thread
                return thread
        return 0

    def _waits(self, owner: Owner, thread: int, least: float = 0.0) -> bool:
        return self._lookup.awaited(owner.process, thread, least) == owner.descriptor


def _readers_of(causes: Sequence[Cause]) -> dict[int, Cause]:
    """The causes by the threads that got them; without threads that would have got several."""
    found: dict[int, Cause] = {}
    doubtful: set[int] = set()
    for cause in causes:
        carrier = cause.carrier
        thread = owner_of(carrier.socket).thread if carrier and carrier.socket else 0
        if thread in found:
            doubtful.add(thread)
        elif thread:
            found[thread] = cause
    return {thread: cause for thread, cause in found.items() if thread not in doubtful}
