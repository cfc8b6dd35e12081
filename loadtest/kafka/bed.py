"""The test bed: the broker, the sink and the peers as running processes, wired together."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import msgspec

from loadtest.kafka.broker import Broker, answers, start_kafka, start_mock
from loadtest.kafka.loads import PARTITIONS, Direction, Done, Latencies, LatencyTask, Load, Task
from loadtest.kafka.peers import Peer, Wiring
from loadtest.probe import get, listens
from loadtest.processes import Cores, Process, Processes, free_ports, run_pinned
from loadtest.servers.sink import Counts

START_SECONDS = 60.0
"""What a client may take beyond its load: making batches, starting, ending."""
PEER_SECONDS = 30.0
ASK_SECONDS = 60.0
"""The sink decodes what has come before it answers."""
FILL_BYTES = 64 << 20
"""About, of each topic that is fetched, uncompressed."""
SETTLE_STEP = 0.3
SETTLE_SECONDS = 5.0
FLUSH_SECONDS = 1.2
"""A sidecar's batch of spans waits for at most a second."""

Answer = TypeVar("Answer")


@dataclass(slots=True)
class Running:
    """A peer that answers. ``idle`` is the CPU time a second that it takes without load."""

    peer: Peer
    process: Process
    port: int
    idle: float = 0.0


class Bed:
    """Starts what is asked for; the context of `test_bed` ends it."""

    def __init__(
        self, processes: Processes, cores: Cores, kind: str, topics: Sequence[str]
    ) -> None:
        self.cores = cores
        self._processes = processes
        self._ports = free_ports()
        self._serial = count()
        self._sink_port = next(self._ports)
        command = [sys.executable, "-m", "loadtest.servers.sink", str(self._sink_port)]
        sink = processes.start("sink", command, cores.load)
        sink.wait_ready(lambda: listens(self._sink_port))
        start = start_kafka if kind == "kafka" else start_mock
        self.broker: Broker = start(processes, cores, self._ports, topics)

    def start(self, peer: Peer) -> Running:
        """Start a peer in front of the broker.

        Raises `NotReadyError` when clients do not find the broker through it in time.
        """
        own = next(self._ports)
        wiring = Wiring(
            name=f"{peer.name}-{next(self._serial)}",
            directory=self._processes.directory,
            broker=self.broker,
            listen=own if peer.reads else self.broker.relay,
            node=next(self._ports),
            admin=next(self._ports),
            spans_url=f"http://127.0.0.1:{self._sink_port}/{peer.name}/v1/traces",
        )
        process = self._processes.start(wiring.name, peer.command(wiring), self.cores.proxy)
        process.wait_ready(lambda: answers(wiring.listen), PEER_SECONDS)
        return Running(peer, process, wiring.listen)

    def measure_idle(self, running: Sequence[Running], seconds: float) -> None:
        """Note what each peer uses while nothing is sent."""
        before = [each.process.cpu_seconds() for each in running]
        time.sleep(seconds)
        for each, used in zip(running, before, strict=True):
            each.idle = (each.process.cpu_seconds() - used) / seconds

    def fill(self, load: Load) -> None:
        """Put records with trace context into the topic that is fetched."""
        batches = max(2 * PARTITIONS, FILL_BYTES // load.batch_bytes)
        task = self.task("fetch", load, self.broker.direct, 0.0)
        self.replay(
            msgspec.structs.replace(task, direction="produce", batches=batches, traced=True)
        )

    def task(self, direction: Direction, load: Load, port: int, seconds: float) -> Task:
        return Task(direction, port, load.topic(direction), load, seconds)

    def replay(self, task: Task) -> Done:
        """Ready-made requests, on the load's core. Raises `NotReadyError` when it fails."""
        return self._run(["replay", _json(task)], task.seconds, Done)

    def client(self, name: str, task: Task) -> Done:
        """A real client, on the load's core. Raises `NotReadyError` when it fails."""
        return self._run(["clients", name, _json(task)], task.seconds, Done)

    def latency(self, task: LatencyTask) -> list[Latencies]:
        """The open loop, on the load's core. Raises `NotReadyError` when it fails."""
        return self._run(["latency", _json(task)], task.seconds * len(task.ports), list[Latencies])

    def spans(self, peer: Peer) -> int:
        """How many spans the sink has of a peer since `forget_spans`, once no more come."""
        if not peer.traced:
            return 0
        time.sleep(FLUSH_SECONDS)
        deadline = time.monotonic() + SETTLE_SECONDS
        before, now = -1, self._counts(peer)
        while now != before and time.monotonic() < deadline:
            time.sleep(SETTLE_STEP)
            before, now = now, self._counts(peer)
        return now

    def forget_spans(self, peer: Peer) -> None:
        get(self._sink_port, f"/{peer.name}/reset", ASK_SECONDS)

    def _counts(self, peer: Peer) -> int:
        answer = get(self._sink_port, f"/{peer.name}/counts", ASK_SECONDS)
        return msgspec.json.decode(answer, type=Counts).spans

    def _run(self, words: Sequence[str], seconds: float, kind: type[Answer]) -> Answer:
        module, *rest = words
        command = [sys.executable, "-m", f"loadtest.kafka.{module}", *rest]
        output = run_pinned(command, self.cores.load, seconds + START_SECONDS)
        return msgspec.json.decode(output, type=kind)


@contextmanager
def test_bed(cores: Cores, kind: str, topics: Sequence[str]) -> Iterator[Bed]:
    """A bed with its own folder; nothing of it is left afterwards. ``kind``: kafka or mock."""
    with (
        TemporaryDirectory(prefix="meshproxy-bench-kafka-", dir=_memory()) as folder,
        Processes(Path(folder)) as processes,
    ):
        yield Bed(processes, cores, kind, topics)


def _memory() -> str | None:
    """A folder in memory, so that no disk is measured; None for the usual one."""
    shared = Path("/dev/shm")
    return str(shared) if shared.is_dir() else None


def _json(task: Task | LatencyTask) -> str:
    return msgspec.json.encode(task).decode()
