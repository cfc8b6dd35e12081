"""One round of each figure, and the rounds put together."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from loadtest.kafka.bed import Bed, Running
from loadtest.kafka.loads import Direction, Done, Latencies, LatencyTask, Load, Task
from loadtest.measure import Spread
from loadtest.processes import NotReadyError, others_seconds

MICRO = 1e6
DIRECT = "direct"
REPLAY = "replay"


@dataclass(frozen=True, slots=True)
class Case:
    """What is sent, by whom, and which way: the rows of the tables."""

    client: str
    direction: Direction
    load: Load


@dataclass(frozen=True, slots=True)
class Round:
    """A closed-loop run. CPU time counts until the last span has left, not only under load."""

    records_per_second: float
    batches: int
    micros_per_record: float = 0.0
    """Of the proxy, without what it uses when idle."""
    busy: float = 0.0
    """Its CPU time by wall time while the load ran: 1 means that it was the bottleneck."""
    others: float = 0.0
    """Cores that anything but the bench used meanwhile: the noise."""
    spans: int = 0


@dataclass(slots=True)
class Measured:
    """All rounds, by peer and case; round by round in the same order for every peer."""

    rounds: dict[tuple[str, Case], list[Round]] = field(default_factory=dict)
    latency: dict[str, list[Latencies]] = field(default_factory=dict)
    rss_bytes: dict[str, int] = field(default_factory=dict)

    def add(self, peer: str, case: Case, taken: Round) -> None:
        self.rounds.setdefault((peer, case), []).append(taken)

    def of(self, peer: str, case: Case, value: Callable[[Round], float]) -> Spread | None:
        """The median and the extremes of a value; nothing where nothing was measured."""
        rounds = self.rounds.get((peer, case))
        return Spread.of(map(value, rounds)) if rounds else None

    def micros(self, peer: str, case: Case) -> Spread | None:
        """CPU time a record."""
        return self.of(peer, case, lambda each: each.micros_per_record)

    def speed(self, peer: str, case: Case) -> Spread | None:
        """Records a second."""
        return self.of(peer, case, lambda each: each.records_per_second)

    def ratio(self, peer: str, case: Case) -> Spread | None:
        """Records a second by those of the direct run of the same round."""
        return ratios(
            [each.records_per_second for each in self.rounds.get((peer, case), ())],
            [each.records_per_second for each in self.rounds.get((DIRECT, case), ())],
        )

    def added(self, peer: str, value: Callable[[Latencies], float]) -> Spread | None:
        """What a peer adds to the direct latency of the same round."""
        pairs = zip(self.latency.get(peer, ()), self.latency.get(DIRECT, ()), strict=False)
        differences = [value(mine) - value(direct) for mine, direct in pairs]
        return Spread.of(differences) if differences else None

    def cases(self, wanted: Callable[[Case], bool]) -> list[Case]:
        """The cases that were measured, in the order of their first round."""
        return list(dict.fromkeys(case for _, case in self.rounds if wanted(case)))

    def others(self) -> Spread | None:
        """Cores that other processes used, of all rounds through a proxy."""
        shares = [r.others for (peer, _), rounds in self.rounds.items() if peer != DIRECT
                  for r in rounds]  # fmt: skip
        return Spread.of(shares) if shares else None


def ratios(values: Sequence[float], bases: Sequence[float]) -> Spread | None:
    """Each value by the base of the same round; nothing without rounds that have both."""
    both = [value / base for value, base in zip(values, bases, strict=False)]
    return Spread.of(both) if both else None


def micros_per_record(used: float, idle: float, elapsed: float, records: int) -> float:
    """CPU time that the records took. Of ``used`` seconds ``idle`` a second are not theirs."""
    return max(0.0, used - idle * elapsed) / records * MICRO


def direct_round(bed: Bed, case: Case, seconds: float) -> Round:
    """A run without any proxy. Raises `NotReadyError` when nothing gets through."""
    done = _load(bed, case, bed.task(case.direction, case.load, bed.broker.direct, seconds))
    return Round(done.records_per_second, done.batches)


def proxied_round(bed: Bed, running: Running, case: Case, seconds: float) -> Round:
    """A run through a peer. Raises `NotReadyError` when nothing gets through."""
    bed.forget_spans(running.peer)
    task = bed.task(case.direction, case.load, running.port, seconds)
    others_before = others_seconds(bed.cores)
    before, started = running.process.cpu_seconds(), time.monotonic()
    done = _load(bed, case, task)
    under_load = running.process.cpu_seconds() - before
    elapsed = time.monotonic() - started
    others = others_seconds(bed.cores) - others_before
    spans = bed.spans(running.peer)
    used = running.process.cpu_seconds() - before
    all_time = time.monotonic() - started
    return Round(
        records_per_second=done.records_per_second,
        batches=done.batches,
        micros_per_record=micros_per_record(used, running.idle, all_time, done.records),
        busy=under_load / done.seconds,
        others=max(0.0, others) / elapsed,
        spans=spans,
    )


def latency_round(
    bed: Bed, running: Iterable[Running], load: Load, rate: int, seconds: float
) -> dict[str, Latencies]:
    """The open loop, in turns to the broker itself and through each peer; by the peer's name."""
    peers = list(running)
    ports = [bed.broker.direct, *(each.port for each in peers)]
    task = LatencyTask(ports, load.topic("produce"), load, rate, seconds)
    names = [DIRECT, *(each.peer.name for each in peers)]
    return dict(zip(names, bed.latency(task), strict=True))


def _load(bed: Bed, case: Case, task: Task) -> Done:
    done = bed.replay(task) if case.client == REPLAY else bed.client(case.client, task)
    if not done.records:
        raise NotReadyError(f"no record in {task.seconds} s")
    return done
