"""``python -m loadtest.bench``: measures all proxies in one go; see ``loadtest/README.md``."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from loadtest import body, report
from loadtest.bed import Bed, Running, test_bed
from loadtest.command import Command
from loadtest.load import PLAIN, SINGLE, UNIQUE, Scenario
from loadtest.measure import Measured, body_round, cpu_round, latency_round
from loadtest.peers.base import Peer, start_all
from loadtest.peers.registry import BY_NAME, CALLERS, MAIN, PRODUCT, REFERENCE, VARIANTS
from loadtest.processes import Cores, NotReadyError, find_tool, run_main

FIGURES = ("cpu", "unique", "calls", "latency", "body")
BODY_10G = "body10g"
COMMAND = Command("loadtest.bench", "bench", BY_NAME, FIGURES, alone=BODY_10G)


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured. A round of a figure meets every peer before the next round begins."""

    cpu_rounds: int
    """Of the first figure, which the project is held to."""
    rounds: int
    """Of every other figure."""
    seconds: int
    warm_up: int
    rate: int = 1000
    limit: float = 430.0
    """No further round begins after so many seconds."""


FULL = Plan(cpu_rounds=4, rounds=3, seconds=2, warm_up=1)
QUICK = Plan(cpu_rounds=1, rounds=1, seconds=1, warm_up=1, limit=75.0)


Step = tuple[str, Callable[[], None]]
"""A peer's name, and what measures it once."""


@dataclass(slots=True)
class Session:
    """One run of the bench: the peers that answer, and what was measured of each."""

    bed: Bed
    plan: Plan
    started: float
    running: dict[str, Running]
    results: dict[str, Measured]
    unavailable: dict[str, str]
    notes: list[str]

    def names(self, wanted: Iterable[str]) -> list[str]:
        return [name for name in wanted if name in self.running]

    def in_rounds(self, title: str, rounds: int, steps: Sequence[Step]) -> None:
        """Take every step once a round; stop at the plan's limit.

        A step that fails takes its peer out, and the table says why.
        """
        for number in range(rounds):
            if number and time.monotonic() - self.started > self.plan.limit:
                self.notes.append(f"{title}: cut to {number} rounds, the time was used up")
                return
            COMMAND.say(f"{title}: round {number + 1} of {rounds}")
            # Every round begins elsewhere, so that no peer always follows the same one.
            turn = number * len(steps) // rounds
            for name, step in [*steps[turn:], *steps[:turn]]:
                if name not in self.running:
                    continue
                try:
                    step()
                except NotReadyError as error:
                    self.unavailable[name] = f"{title}: {error}"
                    del self.running[name]


def measure_cpu(
    session: Session, title: str, rounds: int, cases: Sequence[tuple[str, Scenario]]
) -> None:
    """CPU time a request at saturation, for each pair of a peer and a scenario."""

    def step(name: str, scenario: Scenario) -> Callable[[], None]:
        def take() -> None:
            taken = cpu_round(session.bed, session.running[name], scenario, session.plan.seconds)
            session.results[name].cpu.setdefault(scenario.name, []).append(taken)

        return take

    session.in_rounds(title, rounds, [(name, step(name, scenario)) for name, scenario in cases])


def warm_up(session: Session) -> None:
    """A run of every peer that is not counted."""

    def step(running: Running) -> Callable[[], None]:
        def take() -> None:
            cpu_round(session.bed, running, PLAIN, session.plan.warm_up)

        return take

    steps = [(name, step(running)) for name, running in session.running.items()]
    session.in_rounds("warm-up", 1, steps)


def measure_rss(session: Session) -> None:
    """Resident memory after the closed-loop rounds."""

    def step(name: str) -> Callable[[], None]:
        def take() -> None:
            session.results[name].rss_bytes = session.running[name].process.rss_bytes()

        return take

    session.in_rounds("RSS", 1, [(name, step(name)) for name in session.running])


def measure_latency(session: Session) -> None:
    """Latency that each peer adds at the plan's rate."""

    def step(name: str) -> Callable[[], None]:
        def take() -> None:
            taken = latency_round(
                session.bed, session.running[name], session.plan.rate, session.plan.seconds
            )
            session.results[name].latency.append(taken)

        return take

    steps = [(name, step(name)) for name in session.names(MAIN)]
    session.in_rounds("latency", session.plan.rounds, steps)


def measure_body(session: Session) -> None:
    """Throughput of 1 MiB bodies."""

    def step(name: str) -> Callable[[], None]:
        def take() -> None:
            taken = body_round(session.bed, session.running[name], session.plan.seconds)
            session.results[name].body.append(taken)

        return take

    steps = [(name, step(name)) for name in session.names(MAIN)]
    session.in_rounds("1 MB bodies", session.plan.rounds, steps)


def run_figures(session: Session, figures: Sequence[str]) -> None:
    """Measure the figures asked for, of the peers that run."""
    warm_up(session)
    if "cpu" in figures:
        plain = [(name, PLAIN) for name in session.names([*MAIN, *VARIANTS])]
        measure_cpu(session, "CPU a request", session.plan.cpu_rounds, plain)
    if "unique" in figures:
        unique = [(name, UNIQUE) for name in session.names(MAIN)]
        measure_cpu(session, "unique requests", session.plan.rounds, unique)
    measure_rss(session)
    if "calls" in figures:
        # By scenario first: what a peer still exports from one has come before its next.
        calls = [(n, s) for s in (SINGLE, UNIQUE, PLAIN) for n in session.names(CALLERS)]
        alone = [(n, SINGLE) for n in session.names([PRODUCT, REFERENCE])]
        measure_cpu(session, "calls of an app", session.plan.rounds, [*calls, *alone])
    if "latency" in figures:
        measure_latency(session)
    if "body" in figures:
        measure_body(session)


def bench(peers: Sequence[Peer], figures: Sequence[str], plan: Plan) -> report.Run:
    """Start everything, measure, end everything."""
    started = time.monotonic()
    cores = Cores.of_machine()
    # The bench itself belongs to the load's side.
    os.sched_setaffinity(0, {cores.load})
    with test_bed(cores) as bed:
        running, unavailable = start_all(peers, bed.start, COMMAND.say)
        results = {name: Measured() for name in running}
        session = Session(bed, plan, started, running, results, unavailable, [])
        run_figures(session, figures)
    return report.Run(
        command=COMMAND.typed(),
        peers=peers,
        results=session.results,
        unavailable=session.unavailable,
        notes=session.notes,
        separate_cores=cores.separate,
        rate=plan.rate,
        cpu_rounds=plan.cpu_rounds,
        rounds=plan.rounds,
        seconds=plan.seconds,
        elapsed=time.monotonic() - started,
    )


def arguments() -> argparse.Namespace:
    parser = COMMAND.parser(__doc__, quick="one short round of everything")
    parser.add_argument("--gigabytes", type=float, default=10.0, help=f"for {BODY_10G}")
    return COMMAND.parse(parser)


def large_body(peer: Peer, gigabytes: float) -> None:
    """Stream a very large body; only meshproxy's result goes to RESULTS.md."""
    try:
        streams = body.run(peer, gigabytes)
    except NotReadyError as error:
        COMMAND.fail(error)
    text = body.report_of(peer, streams, COMMAND.typed())
    print(text)
    if peer.name == PRODUCT:
        report.write(BODY_10G, text)


def main() -> None:
    """Only a complete run is written to RESULTS.md; one without meshproxy is not complete."""
    options = arguments()
    if options.figures == [BODY_10G]:
        large_body(BY_NAME[options.only[0]], options.gigabytes)
        return
    if find_tool("wrk") is None:
        COMMAND.fail("wrk is not installed; loadtest/setup.sh installs it as root on Debian")
    peers = [BY_NAME[name] for name in options.only]
    run = bench(peers, options.figures, QUICK if options.quick else FULL)
    text = report.text_of(run)
    print(text)
    if COMMAND.in_full(options) and PRODUCT in run.results:
        report.write("bench", text)


if __name__ == "__main__":
    run_main(main)
