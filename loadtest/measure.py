"""One round of each figure, and the rounds put together."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from loadtest.bed import Bed, Running
from loadtest.load import LARGE, Scenario, closed_loop, open_loop
from loadtest.processes import others_seconds
from loadtest.servers.sink import Counts

DRAIN_SECONDS = 3.0
DRAIN_STEP = 0.1
MICRO = 1e6
MEGABYTE = 1e6


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of some rounds, and their extremes."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        ordered = sorted(values)
        return cls(statistics.median(ordered), ordered[0], ordered[-1])


@dataclass(frozen=True, slots=True)
class CpuRound:
    """A closed-loop run. CPU time counts until the last span has left, not only under load."""

    micros_per_request: float
    requests_per_second: float
    busy: float
    """CPU time by wall time while the load ran: 1 means that the proxy was the bottleneck."""
    others: float
    """Cores that anything but the bench used meanwhile: the noise."""
    failures: int
    spans: int
    spans_per_request: float
    evidence: dict[str, int]
    propagation: dict[str, int]


@dataclass(frozen=True, slots=True)
class LatencyRound:
    """Microseconds that the proxy adds to the backend's own latency in the same round."""

    p50: float
    p99: float
    direct_p50: float
    direct_p99: float
    failures: int


@dataclass(frozen=True, slots=True)
class BodyRound:
    megabytes_per_second: float
    cpu_millis_per_megabyte: float
    busy: float
    failures: int


@dataclass(slots=True)
class Measured:
    """All rounds of one peer."""

    cpu: dict[str, list[CpuRound]] = field(default_factory=dict)
    """By the scenario's name."""
    latency: list[LatencyRound] = field(default_factory=list)
    body: list[BodyRound] = field(default_factory=list)
    rss_bytes: int = 0

    @property
    def failures(self) -> int:
        closed = [each.failures for rounds in self.cpu.values() for each in rounds]
        others = [each.failures for each in self.latency] + [each.failures for each in self.body]
        return sum(closed + others)

    def micros(self, scenario: Scenario) -> Spread | None:
        """CPU time a request, or nothing when the scenario was not run."""
        rounds = self.cpu.get(scenario.name)
        return Spread.of(each.micros_per_request for each in rounds) if rounds else None

    def spans_per_request(self, scenario: Scenario) -> float | None:
        rounds = self.cpu.get(scenario.name)
        return statistics.median(r.spans_per_request for r in rounds) if rounds else None

    def shares(self, scenario: Scenario, attribute: str) -> dict[str, float]:
        """Of all spans of a scenario, how many carry each value of evidence or propagation."""
        spans, values = 0, Counter[str]()
        for each in self.cpu.get(scenario.name, ()):
            spans += each.spans
            values.update(getattr(each, attribute))
        return {value: number / spans for value, number in values.most_common()}


def cpu_round(bed: Bed, running: Running, scenario: Scenario, seconds: int) -> CpuRound:
    """One closed-loop run against one peer."""
    bed.forget_spans(running.peer)
    others_before = others_seconds(bed.cores)
    before, started = running.process.cpu_seconds(), time.monotonic()
    totals = closed_loop(scenario, running.port, seconds, bed.cores)
    loaded = running.process.cpu_seconds() - before
    elapsed = time.monotonic() - started
    others = others_seconds(bed.cores) - others_before
    counts = _drained(bed, running, totals.requests)
    used = running.process.cpu_seconds() - before
    return CpuRound(
        micros_per_request=used / totals.requests * MICRO,
        requests_per_second=totals.requests / totals.seconds,
        busy=loaded / elapsed,
        others=max(0.0, others) / elapsed,
        failures=totals.failures,
        spans=counts.spans,
        spans_per_request=counts.spans / totals.requests,
        evidence=counts.evidence,
        propagation=counts.propagation,
    )


def latency_round(bed: Bed, running: Running, rate: int, seconds: float) -> LatencyRound:
    """One open-loop run, in turns to the backend itself and through the peer."""
    direct, proxied = open_loop([bed.backend_port, running.port], rate, seconds, bed.cores)
    return LatencyRound(
        p50=proxied.p50 - direct.p50,
        p99=proxied.p99 - direct.p99,
        direct_p50=direct.p50,
        direct_p99=direct.p99,
        failures=direct.failures + proxied.failures,
    )


def body_round(bed: Bed, running: Running, seconds: int) -> BodyRound:
    """One closed-loop run that fetches 1 MiB a request."""
    before, started = running.process.cpu_seconds(), time.monotonic()
    totals = closed_loop(LARGE, running.port, seconds, bed.cores)
    used, elapsed = running.process.cpu_seconds() - before, time.monotonic() - started
    megabytes = totals.bytes / MEGABYTE
    return BodyRound(
        megabytes_per_second=megabytes / totals.seconds,
        cpu_millis_per_megabyte=used * 1000 / megabytes,
        busy=used / elapsed,
        failures=totals.failures,
    )


def _drained(bed: Bed, running: Running, requests: int) -> Counts:
    """What the sink has once every request's spans are there, or time is up."""
    expected = requests * (2 if running.peer.calls else 1) if running.peer.traced else 0
    deadline = time.monotonic() + DRAIN_SECONDS
    counts = bed.spans(running.peer)
    while counts.spans < expected and time.monotonic() < deadline:
        time.sleep(DRAIN_STEP)
        counts = bed.spans(running.peer)
    return counts
