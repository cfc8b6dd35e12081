"""How long acknowledgements take at a fixed moderate rate: ``latency TASK``.

An open loop on librdkafka: single records leave when they are due, whether or not earlier ones were
acknowledged, and a latency counts from when the record was due. The targets take turns in short
slices, so that whatever else happens on the machine meets all of them.
"""

from __future__ import annotations

import gc
import sys
import time

import msgspec
from confluent_kafka import KafkaError, Message, Producer

from loadtest.kafka.loads import PARTITIONS, Latencies, LatencyTask, values

SLICE_SECONDS = 0.5
WARM_UP_SECONDS = 0.5
FLUSH_SECONDS = 10.0
MICRO = 1e6


class Target:
    """One port, its producer, and the latencies so far."""

    def __init__(self, task: LatencyTask, port: int) -> None:
        self._task = task
        self._values = values(task.load, 100)
        self._producer = Producer(
            {
                "bootstrap.servers": f"127.0.0.1:{port}",
                "compression.type": task.load.codec,
                "linger.ms": 0,
                "acks": 1,
                "socket.nagle.disable": True,
            }
        )
        self.micros: list[float] = []

    def send_slice(self, seconds: float) -> None:
        """Send for so long, then wait for all acknowledgements."""
        interval = 1 / self._task.rate
        start = time.monotonic()
        for number in range(int(self._task.rate * seconds)):
            due = start + number * interval
            while (left := due - time.monotonic()) > 0:
                self._producer.poll(left)
            self._send(number, due)
        if self._producer.flush(FLUSH_SECONDS):
            raise TimeoutError("records were not acknowledged")

    def _send(self, number: int, due: float) -> None:
        late = time.monotonic() - due

        def acknowledged(error: KafkaError | None, message: Message) -> None:
            if error is not None:
                raise RuntimeError(str(error))
            # librdkafka's own clock: from when it was given the record to the acknowledgement.
            self.micros.append((late + (message.latency() or 0.0)) * MICRO)

        self._producer.produce(
            self._task.topic,
            self._values[number % len(self._values)],
            partition=number % PARTITIONS,
            on_delivery=acknowledged,
        )

    def latencies(self) -> Latencies:
        ordered = sorted(self.micros)
        count = len(ordered)
        return Latencies(count, ordered[count // 2], ordered[count * 99 // 100])


def measure(task: LatencyTask) -> list[Latencies]:
    """Give each port the task's seconds, in slices by turns."""
    targets = [Target(task, port) for port in task.ports]
    for target in targets:
        target.send_slice(WARM_UP_SECONDS)
        target.micros.clear()
    gc.freeze()
    gc.disable()
    for _ in range(max(1, round(task.seconds / SLICE_SECONDS))):
        for target in targets:
            target.send_slice(min(SLICE_SECONDS, task.seconds))
    return [target.latencies() for target in targets]


if __name__ == "__main__":
    measured = measure(msgspec.json.decode(sys.argv[1], type=LatencyTask))
    sys.stdout.write(msgspec.json.encode(measured).decode())
