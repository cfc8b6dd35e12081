"""A service behind the linker, by hand: requests come, calls leave, and time passes when told."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from meshproxy.linking.call import Call, Decision
from meshproxy.linking.gaps import Gap
from meshproxy.linking.inflight import Cause, InFlight
from meshproxy.linking.judge import Knowledge
from meshproxy.linking.linker import Linker
from meshproxy.linking.owners import OwnerEvidence
from meshproxy.linking.ownership import Lookup, NoLookup
from meshproxy.linking.sockets import Carrier, Socket
from meshproxy.trace.context import SAMPLED, SpanContext

START_NS = 1_700_000_000_000_000_000
MILLISECOND = 1_000_000
SECOND = 1_000_000_000
MEMORY = 2**24


def context(trace: int, span: int, flags: int = SAMPLED, tracestate: str = "") -> SpanContext:
    return SpanContext(trace.to_bytes(16, "big"), span.to_bytes(8, "big"), flags, tracestate)


def uuid(number: int) -> bytes:
    """A word that nobody else can have made up."""
    return b"7f3d9a52-1c4e-4b8a-9f00-%012x" % (0xA1B2C3D4 + number)


class Service:
    """One service and its linker. Contexts are numbered from 1 on, each request with its trace.

    ``knowledge`` is that of an earlier linker, as after a reload.
    """

    def __init__(
        self,
        threshold: float = 0.99,
        *,
        limit: int = 20_000,
        memory: int = MEMORY,
        lookup: Lookup | None = None,
        knowledge: Knowledge | None = None,
    ) -> None:
        self.inflight = InFlight(limit)
        self.knowledge = knowledge or Knowledge(bytes(16), memory)
        self.owners = OwnerEvidence(lookup or NoLookup(), time.monotonic, lambda: 0.0)
        self.linker = Linker(self.inflight, self.knowledge, self.owners, threshold)
        self.now_ns = START_NS
        self.count = 0

    def wait(self, milliseconds: float) -> None:
        self.now_ns += int(milliseconds * MILLISECOND)

    # Requests

    def request(
        self,
        route: str = "GET /orders",
        *,
        trace: int = 0,
        ids: Sequence[bytes] = (),
        words: bytes = b"",
        socket: Socket | None = None,
        tracestate: str = "",
        baggage: bytes = b"",
    ) -> Cause:
        """A request comes; ``trace`` is that of its caller, a new one by default."""
        self.count += 1
        given = context(trace or self.count, self.count, tracestate=tracestate)
        cause = Cause(given, route, self.now_ns, ids[0] if ids else b"", baggage)
        cause.correlation_ids = tuple(ids[1:])
        if socket is not None:
            cause.carrier = Carrier()
            cause.carrier.socket = socket
        self.linker.begin(cause, self.now_ns)
        self._hold(cause, words)
        return cause

    def requests(self, count: int, route: str = "GET /orders") -> list[Cause]:
        return [self.request(route) for _ in range(count)]

    def end(self, *causes: Cause) -> None:
        for cause in causes:
            self.linker.end(cause, self.now_ns)

    def abandon(self, cause: Cause) -> None:
        self.linker.abandon(cause, self.now_ns)

    # Calls

    def call(
        self,
        destination: str = "pricing",
        *,
        carrying: SpanContext | None = None,
        ids: Sequence[bytes] = (),
        words: bytes = b"",
        socket: Socket | None = None,
        gap: Gap | None = None,
        baggage: bytes = b"",
    ) -> Decision:
        """The service makes a call; ``words`` stand in it."""
        return self.linker.link(
            Call(
                carrying,
                gap=gap,
                request_ids=ids,
                baggage=baggage,
                now_ns=self.now_ns,
                destination=destination,
                operation="GET /",
                socket=socket,
                tokens=self._tokens(words) if words else None,
            )
        )

    def answer(self, decision: Decision, words: bytes = b"") -> None:
        self.linker.answered(decision, self.now_ns)
        if decision.cause is not None:
            self._hold(decision.cause, words)

    def _hold(self, cause: Cause, words: bytes) -> None:
        content = self.linker.content
        if content.wants(self.now_ns):
            content.hold(cause, content.tokens.read(words, self.now_ns))

    def _tokens(self, words: bytes) -> Callable[[], Sequence[int]]:
        content = self.linker.content
        content.need(self.now_ns)
        return lambda: content.tokens.read(words, self.now_ns)

    # What it usually does

    def practise(
        self, times: int = 200, *destinations: str, delay: float = 1.0, route: str = "GET /orders"
    ) -> None:
        """One request after another makes these calls without context, one after another."""
        for number in range(times):
            cause = self.request(route)
            for destination in destinations:
                self.wait(delay * (1 + number % 7 / 20))
                decision = self.call(destination)
                self.wait(delay)
                self.answer(decision)
            self.wait(delay)
            self.end(cause)
            self.wait(10)
