"""What a decision costs by the number of requests in flight: a call without any context.

    python -m loadtest.linking.cost

Each request makes three calls, one after the other, so that all of them are possible causes at any
time; the linker has learnt that before the measurement begins.
"""

from __future__ import annotations

import random
import time

from meshproxy.linking import timing
from meshproxy.linking.call import Call, Decision
from meshproxy.linking.inflight import Cause, InFlight
from meshproxy.linking.judge import Knowledge
from meshproxy.linking.linker import Linker
from meshproxy.linking.owners import OwnerEvidence
from meshproxy.linking.ownership import NoLookup
from meshproxy.trace.context import SAMPLED, SpanContext

IN_FLIGHT = (1, 2, 4, 8, 16, 32, 64, 128)
CALLS = 3
WARM_UP = 300
MEASURED = 3000


class Service:
    """Requests that come, call and go in a random order; the time of each decision is kept."""

    def __init__(self) -> None:
        self._random = random.Random(1)
        inflight = InFlight()
        owners = OwnerEvidence(NoLookup(), time.monotonic)
        self._linker = Linker(inflight, Knowledge(bytes(16), 2**24), owners, 0.99)
        self._now_ns = 10**18
        self._number = 0
        self._working: list[tuple[Cause, list[Decision]]] = []
        self.seconds: list[float] = []

    def come(self) -> None:
        """One more request."""
        self._number += 1
        number = self._number.to_bytes(8, "big")
        context = SpanContext(number * 2, number, SAMPLED)
        cause = Cause(context, "GET /cart", self._now_ns)
        self._linker.begin(cause, self._now_ns)
        self._working.append((cause, []))

    def step(self, in_flight: int) -> None:
        """One of the requests goes on."""
        while len(self._working) < in_flight:
            self.come()
        self._now_ns += int(self._random.lognormvariate(13, 0.8)) // in_flight
        position = self._random.randrange(len(self._working))
        cause, decisions = self._working[position]
        if decisions:
            self._linker.answered(decisions[-1], self._now_ns)
        if len(decisions) == CALLS:
            self._linker.end(cause, self._now_ns)
            del self._working[position]
            return
        call = Call(now_ns=self._now_ns, destination=f"backend-{len(decisions)}", operation="GET /")
        before = time.perf_counter()
        decisions.append(self._linker.link(call))
        self.seconds.append(time.perf_counter() - before)


def main() -> None:
    """Print a line for each number of requests in flight."""
    print(f"linking is {'plain' if timing.__file__.endswith('.py') else 'compiled'}")
    print("in flight   median us   99 % us")
    for in_flight in IN_FLIGHT:
        service = Service()
        for _ in range(WARM_UP):
            service.step(1)
        service.seconds.clear()
        for _ in range(MEASURED):
            service.step(in_flight)
        ordered = sorted(service.seconds)
        median, high = ordered[len(ordered) // 2], ordered[len(ordered) * 99 // 100]
        print(f"{in_flight:9}   {median * 1e6:9.1f}   {high * 1e6:7.1f}")


if __name__ == "__main__":
    main()
