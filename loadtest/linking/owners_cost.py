"""What a look at the service's processes costs: ``python -m loadtest.linking.owners_cost``.

Microseconds of computing for a call that is judged, by what is known of its connections already.
The service is a prefork server, then one with a thread for each connection; both hold still.
"""

from __future__ import annotations

import os
import signal
import socket
import statistics
import sys
import threading
import time
from collections.abc import Callable, Sequence

from meshproxy.linking.evidence import Verdict
from meshproxy.linking.inflight import Cause
from meshproxy.linking.owners import OwnerEvidence
from meshproxy.linking.ownership import NoLookup
from meshproxy.linking.sockets import Carrier, Socket
from meshproxy.sidecar.owners import ProcLookup
from meshproxy.trace.context import SpanContext

ROUNDS = 400
IN_FLIGHT = 8


class Service:
    """Child processes that hold still: each of ``workers`` has a connection for a request, and has
    sent a call. With ``threads``, so has each thread of one process."""

    def __init__(self, workers: int, threads: int) -> None:
        app = socket.create_server(("127.0.0.1", 0), backlog=256)
        backend = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.children = [
            child
            for _ in range(workers)
            if (child := os.fork()) or _serve(app, backend.getsockname(), threads)
        ]
        total = workers * max(1, threads)
        self.requests = [socket.create_connection(app.getsockname()) for _ in range(total)]
        self.begin = lambda: [each.send(b"x") for each in self.requests]
        self._backend = backend
        time.sleep(0.3)

    def calls(self) -> list[Socket]:
        """The service's ends of the calls that it makes once it has its requests."""
        self.begin()
        self._accepted = [self._backend.accept() for _ in self.requests]
        time.sleep(0.3)
        return [Socket(end, self._backend.getsockname()) for _, end in self._accepted]

    def inbound(self) -> list[Socket]:
        return [Socket(each.getpeername(), each.getsockname()) for each in self.requests]

    def end(self) -> None:
        for child in self.children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def _serve(app: socket.socket, backend: tuple[str, int], threads: int) -> None:
    def one() -> None:
        connection = app.accept()[0]
        connection.recv(1)
        call = socket.create_connection(backend)
        call.recv(1)

    for _ in range(threads):
        threading.Thread(target=one).start()
    if not threads:
        one()
    signal.pause()


def causes_on(sockets: Sequence[Socket]) -> list[Cause]:
    found = []
    for number, each in enumerate(sockets):
        context = SpanContext(number.to_bytes(16, "big"), b"12345678", 1)
        cause = Cause(context, "GET /", 0)
        cause.carrier = Carrier()
        cause.carrier.socket = each
        found.append(cause)
    return found


def first_verdict(evidence: OwnerEvidence, call: Socket, causes: Sequence[Cause]) -> Verdict:
    """Once the service's processes have been found among all that there are."""
    until = time.monotonic() + 10
    while time.monotonic() < until:
        verdict = evidence.judge(call, causes)
        if verdict is not None and len(verdict.causes) == 1:
            return verdict
    sys.exit(f"no evidence here: {dict(evidence.stats)}")


def fresh(one: Socket) -> Socket:
    return Socket(one.local, one.remote)


def cost(act: Callable[[], object], prepare: Callable[[], object] = lambda: None) -> float:
    samples = []
    for _ in range(ROUNDS):
        prepare()
        began = time.thread_time_ns()
        act()
        samples.append((time.thread_time_ns() - began) / 1000)
    return statistics.median(samples)


def evidence_of(lookup: ProcLookup | NoLookup) -> OwnerEvidence:
    return OwnerEvidence(lookup, time.monotonic, time.thread_time, 1e9)


def prefork() -> None:
    service = Service(IN_FLIGHT, 0)
    try:
        inbound = service.inbound()
        calls = service.calls()
        evidence = evidence_of(ProcLookup())
        causes = causes_on(inbound)
        first_verdict(evidence, calls[0], causes)
        box: list[object] = []

        def new_all() -> None:
            box[:] = [fresh(calls[0]), causes_on([fresh(each) for each in inbound])]

        def new_pair() -> None:
            box[:] = [fresh(calls[0]), causes_on([fresh(inbound[0]), *inbound[1:]])]
            for old, new in zip(causes[1:], box[1][1:], strict=True):  # type: ignore[index]
                new.carrier = old.carrier
                new.carrier.socket.owner.cause = new

        def judge() -> None:
            evidence.judge(*box)  # type: ignore[arg-type]

        row("prefork, all connections known", cost(lambda: evidence.judge(calls[0], causes)))
        row(
            "prefork, new requests on known connections",
            cost(judge, lambda: box.__setitem__(slice(None), [calls[0], causes_on(inbound)])),
        )
        row(
            "prefork, call on a new connection",
            cost(lambda: evidence.judge(fresh(calls[0]), causes)),
        )
        row("prefork, call and its request on new connections", cost(judge, new_pair))
        row("prefork, all connections new", cost(judge, new_all))
    finally:
        service.end()


def threaded(threads: int) -> None:
    service = Service(1, threads)
    try:
        inbound = service.inbound()
        evidence = evidence_of(ProcLookup())
        evidence._threads_until = float("inf")
        for _ in range(100):
            evidence.sending(inbound[0], 1, False)
        found = cost(lambda: [evidence.sending(each, 1, False) for each in inbound]) / threads
        row(f"{threads} threads, a request is sent on a known connection", found)
        search = fresh(inbound[0])
        row(
            f"{threads} threads, the first time that it is searched for",
            cost(lambda: evidence.sending(fresh(search), 1, False)),
        )
        calls = service.calls()
        causes = causes_on(inbound)
        count = min(IN_FLIGHT, threads)
        verdict = first_verdict(evidence, calls[0], causes)
        right = [cause for cause in causes if cause is verdict.causes[0]]
        some = [*right, *(cause for cause in causes if cause not in right)][:count]
        row(
            f"{threads} threads, call on a known connection, {count} in flight",
            cost(lambda: evidence.judge(calls[0], some)),
        )
        row(
            f"{threads} threads, call on a new connection, {count} in flight",
            cost(lambda: evidence.judge(fresh(calls[0]), some[::-1])),
        )
    finally:
        service.end()


def nothing() -> None:
    evidence = evidence_of(NoLookup())
    socket_ = Socket(("127.0.0.1", 1), ("127.0.0.1", 2))
    row("off, or paused", cost(lambda: evidence.judge(socket_, ())))


def row(name: str, microseconds: float) -> None:
    print(f"| {name} | {microseconds:.1f} |")


def main() -> None:
    print(f"| {IN_FLIGHT} in flight | µs |\n| --- | ---: |")
    prefork()
    threaded(8)
    threaded(64)
    nothing()


if __name__ == "__main__":
    main()
