"""An open-loop generator: ``openloop RATE SECONDS PORT…`` prints latencies as JSON.

Requests leave at fixed times whether or not earlier ones are answered, and a latency counts from
the time the request was due, not from when it could be sent: a proxy that stalls pays for every
request that the stall held up. The targets take turns in short slices, so that whatever else
happens on the machine meets all of them.

A timerfd paces the sending, because the event loop's own timers have a resolution of 1 ms.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import struct
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import cast

import msgspec
import uvloop

from loadtest.load import PLAIN, Latencies

CONNECTIONS = 32
SLICE_SECONDS = 0.5
WARM_UP_SECONDS = 0.2
ANSWER_SECONDS = 5.0
TFD_NONBLOCK = os.O_NONBLOCK
TFD_TIMER_ABSTIME = 1
SECOND = 1_000_000_000
START_DELAY = 1_000_000

REQUEST = (
    f"GET {PLAIN.path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: python-httpx/0.28.1\r\n"
    "Accept: application/json\r\nAccept-Encoding: gzip, deflate\r\nConnection: keep-alive\r\n"
    "Authorization: Bearer 5d41402abc4b2a76b9719d911017c592\r\n\r\n"
).encode()


class Pace:
    """Calls `due` with the number of ticks that are due, `rate` of them a second."""

    def __init__(self, rate: int, due: Callable[[int], None]) -> None:
        self.interval = SECOND // rate
        self.start = time.monotonic_ns() + START_DELAY
        self._due = due
        libc = ctypes.CDLL(None, use_errno=True)
        self._fd = libc.timerfd_create(time.CLOCK_MONOTONIC, TFD_NONBLOCK)
        first = divmod(self.start, SECOND)
        setting = struct.pack("=qqqq", *divmod(self.interval, SECOND), *first)
        if self._fd < 0 or libc.timerfd_settime(self._fd, TFD_TIMER_ABSTIME, setting, None):
            raise OSError(ctypes.get_errno(), "timerfd")
        asyncio.get_running_loop().add_reader(self._fd, self._read)

    def _read(self) -> None:
        try:
            ticks = struct.unpack("=Q", os.read(self._fd, 8))[0]
        except BlockingIOError:
            return
        self._due(ticks)

    def stop(self) -> None:
        asyncio.get_running_loop().remove_reader(self._fd)
        os.close(self._fd)


class Target:
    """One port: its connections, the requests that wait for one, the latencies so far."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._idle: deque[Connection] = deque()
        self._waiting: deque[int] = deque()
        self._expected = 0
        self._settled = asyncio.Event()
        self.nanoseconds: list[int] = []
        self.failures = 0

    async def open(self) -> None:
        """Open all connections before anything is measured."""
        loop = asyncio.get_running_loop()
        for _ in range(CONNECTIONS):
            _, connection = await loop.create_connection(
                lambda: Connection(self), "127.0.0.1", self._port
            )
            self._idle.append(connection)

    async def send_slice(self, rate: int, seconds: float) -> None:
        """Send for `seconds`, then wait for what is not answered yet."""
        total = max(1, int(rate * seconds))
        sent = 0
        all_sent = asyncio.Event()
        self._expected = len(self.nanoseconds) + self.failures + total
        self._settled.clear()

        def due(ticks: int) -> None:
            nonlocal sent
            for _ in range(min(ticks, total - sent)):
                self._send(pace.start + sent * pace.interval)
                sent += 1
            if sent == total:
                all_sent.set()

        pace = Pace(rate, due)
        try:
            await all_sent.wait()
        finally:
            pace.stop()
        await asyncio.wait_for(self._settled.wait(), ANSWER_SECONDS)

    def _send(self, due_at: int) -> None:
        # In turn, not the last one used: a service's connections are all warm.
        if self._idle:
            self._idle.popleft().send(due_at)
        else:
            self._waiting.append(due_at)

    def answered(self, connection: Connection, due_at: int, ok: bool) -> None:
        """A connection has its answer: note it, and give it the next request that waits."""
        if ok:
            self.nanoseconds.append(time.monotonic_ns() - due_at)
        else:
            self.failures += 1
        if self._waiting:
            connection.send(self._waiting.popleft())
        else:
            self._idle.append(connection)
        if len(self.nanoseconds) + self.failures >= self._expected:
            self._settled.set()

    def forget(self) -> None:
        """Drop the latencies of the warm-up."""
        self.nanoseconds.clear()

    def latencies(self) -> Latencies:
        ordered = sorted(self.nanoseconds)
        return Latencies(
            count=len(ordered),
            failures=self.failures,
            p50=ordered[len(ordered) // 2] / 1000,
            p99=ordered[len(ordered) * 99 // 100] / 1000,
        )


class Connection(asyncio.Protocol):
    """One request at a time; all answers of a target have the same length."""

    __slots__ = ("_due_at", "_received", "_target", "_transport")

    def __init__(self, target: Target) -> None:
        self._target = target
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, error: Exception | None) -> None:
        # The target then misses an answer, and the run ends with a time-out.
        self._target.failures += 1

    def send(self, due_at: int) -> None:
        self._due_at = due_at
        self._received = b""
        self._transport.write(REQUEST)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, blank, body = self._received.partition(b"\r\n\r\n")
        if not blank:
            return
        length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
        if length and len(body) < int(length):
            return
        if not length and not body.endswith(b"0\r\n\r\n"):
            return
        self._target.answered(self, self._due_at, head.startswith(b"HTTP/1.1 200"))


async def measure(rate: int, seconds: float, ports: Sequence[int]) -> list[Latencies]:
    """Give each port `seconds` of load, in slices by turns."""
    targets = [Target(port) for port in ports]
    for target in targets:
        await target.open()
        await target.send_slice(rate, WARM_UP_SECONDS)
        target.forget()
    gc.collect()
    gc.freeze()
    gc.disable()
    for _ in range(max(1, round(seconds / SLICE_SECONDS))):
        for target in targets:
            await target.send_slice(rate, min(SLICE_SECONDS, seconds))
    return [target.latencies() for target in targets]


if __name__ == "__main__":
    measured = uvloop.run(
        measure(int(sys.argv[1]), float(sys.argv[2]), list(map(int, sys.argv[3:])))
    )
    sys.stdout.write(msgspec.json.encode(measured).decode())
