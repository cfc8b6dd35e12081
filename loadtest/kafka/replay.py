"""A client that costs next to nothing: ``replay TASK`` sends ready-made requests and counts.

Batches are made before the first is sent, and their bytes are the same whatever proxy is in
between; of what is fetched only the batches' heads are read. So the load's core has time left even
where compressing takes a client longer than the proxy. One connection a partition, each with
`DEPTH` requests in flight; fetching has one, as clients do.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from typing import cast

import msgspec
import uvloop

from loadtest.kafka.frames import (
    FETCH,
    FETCH_VERSION,
    PRODUCE,
    PRODUCE_VERSION,
    batch,
    check_produced,
    fetch_body,
    fetched,
    head,
    produce_body,
)
from loadtest.kafka.loads import PARTITIONS, Done, Task

DEPTH = 3
RING_BYTES = 4 << 20
RING_LEAST = 4
ANSWER_SECONDS = 15.0


class Run:
    """What all connections of a run share: when it ends, and what is done so far."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.records = 0
        self.batches = 0
        self.asked = 0
        self.open = 0
        self.last = 0.0
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.start = time.monotonic()

    def goes_on(self) -> bool:
        """Whether another request is due."""
        if self.task.batches:
            return self.asked < self.task.batches
        return time.monotonic() - self.start < self.task.seconds

    def fail(self, error: Exception) -> None:
        if not self.ended.done():
            self.ended.set_exception(error)

    def count(self, batches: int, records: int) -> None:
        self.batches += batches
        self.records += records
        self.last = time.monotonic()

    def leave(self) -> None:
        """A connection has all its answers and asks no more."""
        self.open -= 1
        if self.open == 0 and not self.ended.done():
            self.ended.set_result(None)


class Connection(asyncio.Protocol):
    """Asks again whenever an answer comes. What is asked, subclasses say."""

    depth = 1

    def __init__(self, run: Run, partition: int) -> None:
        self.run = run
        self.partition = partition
        self._chunks: list[bytes] = []
        self._held = 0
        self._needed = 4
        self._in_flight = 0
        self._correlation_id = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.run.open += 1

    def begin(self) -> None:
        """Fill the pipeline."""
        for _ in range(self.depth):
            self._ask()
        self._leave_if_idle()

    def connection_lost(self, error: Exception | None) -> None:
        self.run.fail(error or ConnectionResetError("closed by the other side"))

    def data_received(self, data: bytes) -> None:
        self._chunks.append(data)
        self._held += len(data)
        if self._held < self._needed:
            return
        buffer = b"".join(self._chunks)
        try:
            rest = self._frames(buffer)
        except Exception as error:
            self.run.fail(error)
            rest = b""
        self._chunks, self._held = [rest], len(rest)

    def _frames(self, buffer: bytes) -> bytes:
        """Take whole responses off the front; returns what is left of the next one."""
        at = 0
        while True:
            self._needed = 4
            if len(buffer) - at < 4:
                break
            self._needed = 4 + int.from_bytes(buffer[at : at + 4], "big")
            if len(buffer) - at < self._needed:
                break
            whole = at == 0 and len(buffer) == self._needed
            self.answered(buffer if whole else buffer[at : at + self._needed])
            at += self._needed
            self._in_flight -= 1
            self._ask()
        self._leave_if_idle()
        return buffer[at:]

    def _ask(self) -> None:
        if not self.run.goes_on():
            return
        api, version, body = self.request()
        self._correlation_id += 1
        self._transport.writelines([head(api, version, self._correlation_id, len(body)), body])
        self.run.asked += 1
        self._in_flight += 1

    def _leave_if_idle(self) -> None:
        if self._in_flight == 0:
            self.run.leave()

    def request(self) -> tuple[int, int, bytes]:
        """The API's key, its version, and the request's body."""
        raise NotImplementedError

    def answered(self, frame: bytes) -> None:
        """A whole response, with its size. What this raises ends the run."""
        raise NotImplementedError


class Producing(Connection):
    """Sends the batches of a ring over and over."""

    depth = DEPTH

    def __init__(self, run: Run, partition: int, ring: list[bytes]) -> None:
        super().__init__(run, partition)
        self._bodies = [produce_body(run.task.topic, partition, each) for each in ring]
        # Not all partitions send the same at the same time.
        self._next = partition

    def request(self) -> tuple[int, int, bytes]:
        self._next += 1
        return PRODUCE, PRODUCE_VERSION, self._bodies[self._next % len(self._bodies)]

    def answered(self, frame: bytes) -> None:
        check_produced(frame, self.run.task.topic)
        self.run.count(1, self.run.task.load.records)


class Fetching(Connection):
    """Reads a partition from its beginning, again and again."""

    offset = 0

    def request(self) -> tuple[int, int, bytes]:
        return FETCH, FETCH_VERSION, fetch_body(self.run.task.topic, self.partition, self.offset)

    def answered(self, frame: bytes) -> None:
        batches, records, following, high_watermark = fetched(frame, self.run.task.topic)
        if not batches:
            raise ValueError(f"nothing came at offset {self.offset} of {high_watermark}")
        self.offset = following if following < high_watermark else 0
        self.run.count(batches, records)


def ring(task: Task) -> list[bytes]:
    """Batches that differ from each other, as many as fit into `RING_BYTES`."""
    count = max(RING_LEAST, RING_BYTES // task.load.batch_bytes)
    return [batch(task.load, seed, task.traced) for seed in range(count)]


async def replay(task: Task) -> Done:
    """Do the task. Raises what the first connection that fails raised."""
    loop = asyncio.get_running_loop()
    batches = ring(task) if task.direction == "produce" else []
    run = Run(task)
    connections: list[Connection] = []
    for partition in range(PARTITIONS):
        made = Producing(run, partition, batches) if batches else Fetching(run, partition)
        await loop.create_connection(lambda made=made: made, "127.0.0.1", task.port)  # type: ignore[misc]
        connections.append(made)
    gc.freeze()
    gc.disable()
    run.start = time.monotonic()
    for connection in connections:
        connection.begin()
    await asyncio.wait_for(run.ended, task.seconds + ANSWER_SECONDS)
    return Done(run.records, run.batches, run.last - run.start)


if __name__ == "__main__":
    done = uvloop.run(replay(msgspec.json.decode(sys.argv[1], type=Task)))
    sys.stdout.write(msgspec.json.encode(done).decode())
