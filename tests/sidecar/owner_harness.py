"""In place of a sidecar: sends requests to a service, takes its calls, and has each judged."""

from __future__ import annotations

import asyncio
import itertools
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from meshproxy.linking.evidence import Verdict
from meshproxy.linking.inflight import Cause
from meshproxy.linking.owners import OwnerEvidence
from meshproxy.linking.sockets import Carrier, Socket
from meshproxy.sidecar.owners import ProcLookup
from meshproxy.trace.context import SpanContext
from meshproxy.transport.runtime import plain_host

APPS = Path(__file__).with_name("owner_apps.py")
HEAD = "GET / HTTP/1.1\r\nHost: app\r\nX-Truth: {}\r\n\r\n"


class Service:
    """One of the services in `owner_apps`, as a process."""

    def __init__(self, kind: str, backend: tuple[str, int], **options: object) -> None:
        command = [sys.executable, str(APPS), kind, backend[0], str(backend[1])]
        self.process = subprocess.Popen(
            [*command, *(f"{name}={value}" for name, value in options.items())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())

    def end(self) -> None:
        self.process.communicate()


class Judged:
    """The calls that were judged while others were in flight: right, wrong, unsure, and so on."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self.microseconds: list[float] = []

    def add(self, verdict: Verdict | None, truth: Cause) -> None:
        if verdict is None:
            outcome = "nothing"
        elif not verdict.causes:
            outcome = "none"
        elif len(verdict.causes) == 1:
            outcome = "right" if verdict.causes[0] is truth else "wrong"
        else:
            outcome = "narrowed" if truth in verdict.causes else "wrong"
        self.outcomes[outcome] += 1

    @property
    def recall(self) -> float:
        return self.outcomes["right"] / max(1, self.outcomes.total())

    @property
    def wrong(self) -> int:
        return self.outcomes["wrong"] + self.outcomes["none"]


class Relay:
    """Keeps up to ``concurrency`` requests in flight at a service."""

    def __init__(self, share: float = 1.0) -> None:
        self._lookup = ProcLookup()
        self.evidence = OwnerEvidence(self._lookup, time.monotonic, time.thread_time, share)
        self.judged = Judged()
        self._inflight: dict[str, Cause] = {}
        self._idle: list[tuple[Socket, asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._numbers = itertools.count(1)
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self, host: str = "127.0.0.1") -> tuple[str, int]:
        self._server = await asyncio.start_server(self._called, host, 0, backlog=512)
        return self._server.sockets[0].getsockname()[:2]

    async def _called(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        end = Socket(
            plain_host(writer.get_extra_info("peername")),
            plain_host(writer.get_extra_info("sockname")),
        )
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                truth = head.partition("X-Truth: ")[2].partition("\r\n")[0]
                self._judge(end, truth)
                await asyncio.sleep(0.001)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    def _judge(self, end: Socket, truth: str) -> None:
        causes = tuple(self._inflight.values())
        if len(causes) < 2:
            return
        began = time.perf_counter()
        verdict = self.evidence.judge(end, causes)
        self.judged.microseconds.append((time.perf_counter() - began) * 1e6)
        self.judged.add(verdict, self._inflight[truth])

    async def load(
        self, host: str, port: int, requests: int, concurrency: int, pause: float = 0.0
    ) -> Judged:
        """Send requests; ``pause`` is the longest time in seconds that a client thinks."""
        left = iter(range(requests))

        async def client() -> None:
            for _ in left:
                await self._request(host, port)
                await asyncio.sleep(random.random() * pause)

        await asyncio.gather(*(client() for _ in range(concurrency)))
        return self.judged

    async def _request(self, host: str, port: int) -> None:
        truth = str(next(self._numbers))
        cause = Cause(
            SpanContext(truth.zfill(16).encode(), b"12345678", 1), "GET /", time.time_ns()
        )
        cause.carrier = Carrier()
        self._inflight[truth] = cause
        payload = HEAD.format(truth).encode()
        fresh = not self._idle
        if self._idle:
            end, reader, writer = self._idle.pop()
        else:
            reader, writer = await asyncio.open_connection(host, port)
            end = Socket(
                plain_host(writer.get_extra_info("peername")),
                plain_host(writer.get_extra_info("sockname")),
            )
        cause.carrier.socket = end
        self.evidence.sending(end, len(payload), fresh)
        writer.write(payload)
        answer = await reader.readuntil(b"\r\n\r\n")
        del self._inflight[truth]
        if answer.startswith(b"HTTP/1.0") or b"\r\nConnection: close\r\n" in answer:
            writer.close()
        else:
            self._idle.append((end, reader, writer))

    async def stop(self) -> None:
        self._server.close()
        for _, _, writer in self._idle:
            writer.close()
        for writer in list(self._writers):
            writer.close()
        while self._writers:
            await asyncio.sleep(0)
        self._lookup.close()
