"""``python -m loadtest.kafka``: what passing Kafka through the sidecar costs.

See ``loadtest/README.md``.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from loadtest import report as results
from loadtest.command import Command
from loadtest.kafka import report
from loadtest.kafka.bed import Bed, Running, test_bed
from loadtest.kafka.broker import jars
from loadtest.kafka.loads import AIMED, LARGE, LOADS, SMALL, Direction, Load
from loadtest.kafka.measure import (
    DIRECT,
    REPLAY,
    Case,
    Measured,
    direct_round,
    latency_round,
    proxied_round,
)
from loadtest.kafka.peers import MAIN, PEERS, VARIANTS, Peer
from loadtest.kafka.rounds import Rounds, Step
from loadtest.peers.base import start_all
from loadtest.processes import Cores, NotReadyError, run_main

FIGURES = ("cpu", "variants", "clients", "latency")
COMMAND = Command("loadtest.kafka", "bench-kafka", PEERS, FIGURES)
DIRECTIONS: tuple[Direction, ...] = ("produce", "fetch")
CLIENTS = ("aiokafka", "confluent")
CLIENT_LOADS = (SMALL[0], SMALL[-1], LARGE[0])
"""What real clients send: with every codec they would mostly be measured themselves."""
QUICK_LOADS = (SMALL[0], LARGE[0])


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured. A round of a case meets every peer before the next case begins."""

    rounds: int
    seconds: float
    warm_up: float
    """Seconds of load, by direction and peer: a Java proxy is slow at first."""
    idle: float
    rate: int = 500
    limit: float = 1500.0
    """No further round begins after so many seconds."""


FULL = Plan(rounds=3, seconds=1.0, warm_up=6.0, idle=3.0)
QUICK = Plan(rounds=1, seconds=0.5, warm_up=1.0, idle=1.0, limit=90.0)


@dataclass(slots=True)
class Session:
    """One run: the peers that answer, and what was measured."""

    bed: Bed
    plan: Plan
    rounds: Rounds
    running: dict[str, Running]
    measured: Measured
    unavailable: dict[str, str]

    def present(self, wanted: Iterable[Peer]) -> list[str]:
        return [peer.name for peer in wanted if peer.name in self.running]


def step(session: Session, name: str, case: Case, seconds: float, *, kept: bool = True) -> Step:
    """One run of a case, through a peer or direct."""

    def take() -> None:
        if name == DIRECT:
            taken = direct_round(session.bed, case, seconds)
        else:
            taken = proxied_round(session.bed, session.running[name], case, seconds)
        if kept:
            session.measured.add(name, case, taken)

    return name, take


def directions(session: Session) -> Sequence[Direction]:
    """The mock cluster answers a Fetch with a single batch: that would measure something else."""
    return DIRECTIONS if session.bed.broker.kind == "kafka" else ("produce",)


def warm_up(session: Session, loads: Sequence[Load]) -> None:
    """Fill what is to be fetched, note what idling costs, and run what is not counted."""
    session.bed.measure_idle(list(session.running.values()), session.plan.idle)
    if "fetch" in directions(session):
        for load in loads:
            session.bed.fill(load)
    names = [DIRECT, *session.running]
    for direction in directions(session):
        case = Case(REPLAY, direction, loads[0])
        steps = [step(session, name, case, session.plan.warm_up, kept=False) for name in names]
        session.rounds.take(f"warm-up, {direction}", [steps], rounds=1)


def measure_cpu(session: Session, loads: Sequence[Load]) -> None:
    """CPU time a record, of ready-made requests."""
    names = session.present(MAIN)
    for direction in directions(session):
        cases = [Case(REPLAY, direction, load) for load in loads]
        seconds = session.plan.seconds
        steps = [[step(session, name, case, seconds) for name in names] for case in cases]
        session.rounds.take(f"CPU a record, {direction}", steps)


def measure_variants(session: Session) -> None:
    """What each feature costs, with one load; without any, it is in the other table."""
    names = session.present(VARIANTS)
    seconds = session.plan.seconds
    cases = [Case(REPLAY, direction, AIMED) for direction in directions(session)]
    steps = [[step(session, name, case, seconds) for name in names] for case in cases]
    session.rounds.take("variants", steps)


def leading(session: Session) -> list[str]:
    """The peers through which real clients find their way.

    What does not read the protocol cannot say where the brokers are; Kafka does it for one.
    """
    names = session.present(MAIN)
    return [name for name in names if PEERS[name].reads or session.bed.broker.relayed]


def measure_clients(session: Session, loads: Sequence[Load]) -> None:
    """Records a second of real clients, in turns direct and through each peer."""
    names = [DIRECT, *leading(session)]
    seconds = session.plan.seconds
    for client in CLIENTS:
        cases = [
            Case(client, direction, load)
            for direction in directions(session)
            for load in CLIENT_LOADS
            if load in loads
        ]
        steps = [[step(session, name, case, seconds) for name in names] for case in cases]
        session.rounds.take(client, steps)


def measure_latency(session: Session) -> None:
    """Latency of acknowledgements at the plan's rate; all peers in one step, to take turns."""
    running = [session.running[name] for name in leading(session)]

    def take() -> None:
        seconds = 2 * session.plan.seconds
        taken = latency_round(session.bed, running, AIMED, session.plan.rate, seconds)
        for name, latencies in taken.items():
            session.measured.latency.setdefault(name, []).append(latencies)

    session.rounds.take("latency", [[("all", take)]])


def run_figures(session: Session, figures: Sequence[str], loads: Sequence[Load]) -> None:
    """Measure the figures asked for, of the peers that run."""
    warm_up(session, loads)
    if "cpu" in figures:
        measure_cpu(session, loads)
    for name, running in session.running.items():
        session.measured.rss_bytes[name] = running.process.rss_bytes()
    if "variants" in figures and AIMED in loads:
        measure_variants(session)
    if "clients" in figures:
        measure_clients(session, loads)
    if "latency" in figures:
        measure_latency(session)


def bench(options: argparse.Namespace, plan: Plan) -> report.Run:
    """Start everything, measure, end everything. Raises `NotReadyError` without a broker."""
    started = time.monotonic()
    cores = Cores.of_machine()
    # The bench itself belongs to the load's side.
    os.sched_setaffinity(0, {cores.load})
    topics = [load.topic(direction) for load in LOADS for direction in DIRECTIONS]
    peers = [PEERS[name] for name in options.only]
    with test_bed(cores, options.broker, topics) as bed:
        rounds = Rounds(plan.rounds, started + plan.limit, COMMAND.say)
        running, unavailable = start_all(peers, bed.start, COMMAND.say)
        session = Session(bed, plan, rounds, running, Measured(), unavailable)
        run_figures(session, options.figures, options.loads)
    return report.Run(
        command=COMMAND.typed(),
        broker=session.bed.broker.version,
        peers=peers,
        measured=session.measured,
        unavailable=session.unavailable,
        notes=rounds.notes,
        separate_cores=cores.separate,
        rate=plan.rate,
        rounds=plan.rounds,
        seconds=plan.seconds,
        elapsed=time.monotonic() - started,
    )


def arguments() -> argparse.Namespace:
    parser = COMMAND.parser(__doc__, quick="one short round, uncompressed only")
    parser.add_argument("--loads", metavar="TEXT", help='whose title has this in it: "100 × 200"')
    parser.add_argument(
        "--broker", choices=("kafka", "mock"), default="kafka" if jars() else "mock",
        help="kafka where it is installed; the mock cluster serves for producing only",
    )  # fmt: skip
    options = COMMAND.parse(parser)
    few = options.quick and not options.loads
    options.loads = [
        load
        for load in (QUICK_LOADS if few else LOADS)
        if not options.loads or options.loads in load.title
    ]
    if not options.loads:
        parser.error("no load has such a title")
    return options


def complete(options: argparse.Namespace, run: report.Run) -> bool:
    """Whether nothing was left out that was asked for in full, by anybody's choice or failure."""
    everything = COMMAND.in_full(options) and len(options.loads) == len(LOADS)
    measured = all(target.measured is not None for target in report.targets(run.measured))
    return everything and measured


def main() -> None:
    """Only a complete run on Apache Kafka is written to RESULTS.md."""
    options = arguments()
    try:
        run = bench(options, QUICK if options.quick else FULL)
    except NotReadyError as error:
        COMMAND.fail(error)
    text = report.text_of(run)
    print(text)
    if options.broker == "kafka" and complete(options, run):
        results.write("kafka", text)


if __name__ == "__main__":
    run_main(main)
