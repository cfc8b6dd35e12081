"""What is measured: which service, under which load."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from loadtest.linking.live.load import Load
from loadtest.linking.live.services.behaviour import BEHAVIOURS

IN_FLIGHT = (1, 2, 4, 8, 16, 32)
ECHOES = (0, 50, 100)
RATES = (100.0,)
FEW_IN_FLIGHT = (1, 8, 32)
BUSY_IN_FLIGHT = (8, 32)
MANY_REQUESTS = 1_000_000


@dataclass(frozen=True, slots=True)
class Mix:
    """Behaviours that come in turn, and calls a second that no request causes."""

    behaviours: tuple[str, ...]
    background: float


MIXES = {"mixed": Mix(BEHAVIOURS, 4.0), "plain": Mix(("seq", "fan"), 0.0)}


@dataclass(frozen=True, slots=True)
class Case:
    """One run of one service behind a sidecar of its own.

    Either ``in_flight`` (a closed loop) or ``rate`` (an open loop, requests a second) is 0.
    ``echo`` is in per cent of the calls.
    """

    service: str
    mix: str
    echo: int
    in_flight: int
    rate: float = 0.0

    @property
    def load(self) -> str:
        """The load in words, for tables."""
        return str(self.in_flight) if self.in_flight else f"{self.rate:g}/s"

    def requests(self, seconds: float, requests: int) -> Load:
        """What the clients do."""
        behaviours = MIXES[self.mix].behaviours
        return Load(behaviours, self.in_flight, self.rate, seconds, requests)


def full(service: str) -> Iterator[Case]:
    """Without echo at every load; with echo and without background calls at some."""
    yield from (Case(service, "mixed", 0, count) for count in IN_FLIGHT)
    yield from (Case(service, "mixed", 0, 0, rate) for rate in RATES)
    yield from (Case(service, "mixed", e, c) for e in ECHOES if e for c in BUSY_IN_FLIGHT)
    yield from (Case(service, "plain", 0, count) for count in FEW_IN_FLIGHT)


QUICK_SERVICES = ("prefork", "prefork-close", "threads", "pool", "asyncio", "node")


def quick(service: str) -> Iterator[Case]:
    """Two short looks."""
    yield Case(service, "mixed", 0, 8)
    yield Case(service, "mixed", 50, 32)


def chosen(
    service: str,
    mixes: Sequence[str],
    echoes: Sequence[int],
    in_flight: Sequence[int],
    rates: Sequence[float],
) -> Iterator[Case]:
    """Everything with everything."""
    for mix in mixes:
        for echo in echoes:
            yield from (Case(service, mix, echo, count) for count in in_flight)
            yield from (Case(service, mix, echo, 0, rate) for rate in rates)
