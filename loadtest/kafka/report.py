"""The measurements as Markdown tables, and the targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version

import confluent_kafka

from loadtest.kafka.loads import AIMED, Direction
from loadtest.kafka.measure import DIRECT, REPLAY, Case, Measured
from loadtest.kafka.peers import MAIN, OPAQUE, PRODUCT, VARIANTS, Peer
from loadtest.measure import Spread
from loadtest.report import EMPTY, MEBIBYTE, NOT_QUIET, QUIET_CORES, date, machine, table

CPU_PRODUCE = 3.0
"""Most microseconds of CPU time a record, uncompressed, 100 × 200 B a batch."""
CPU_FETCH = 1.1
THROUGHPUT = 0.8
"""Least share of the direct records a second, for aiokafka."""
THOUSAND = 1000


@dataclass(frozen=True, slots=True)
class Run:
    """One run of the bench."""

    command: str
    broker: str
    peers: Sequence[Peer]
    measured: Measured
    unavailable: Mapping[str, str]
    notes: Sequence[str]
    separate_cores: bool
    rate: int
    rounds: int
    seconds: float
    elapsed: float


@dataclass(frozen=True, slots=True)
class Target:
    """What is aimed at, and what came out; nothing where it was not measured."""

    text: str
    measured: Spread | None
    met: bool

    def line(self) -> str:
        if self.measured is None:
            return f"- not measured: {self.text}"
        word = "met" if self.met else "MISSED"
        return f"- {word}: {self.text}: {spread(self.measured, 2)}"


def text_of(run: Run) -> str:
    """The whole generated part: the machine, the targets, the tables, what was not available."""
    parts = [
        _header(run),
        "\n".join(target.line() for target in targets(run.measured)),
        *(_cpu_table(run, direction) for direction in ("produce", "fetch")),
        _variants_table(run),
        _clients_table(run),
        _latency_table(run),
        _remarks(run),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def targets(measured: Measured) -> list[Target]:
    """The medians against what the project is held to."""
    lines = []
    for direction, limit in (("produce", CPU_PRODUCE), ("fetch", CPU_FETCH)):
        taken = measured.micros(PRODUCT, Case(REPLAY, _direction(direction), AIMED))
        text = f"at most {limit} µs of CPU a record on {direction}, {AIMED.title}"
        lines.append(Target(text, taken, taken is not None and taken.median <= limit))
    for case in measured.cases(lambda each: each.client == "aiokafka"):
        ratio = measured.ratio(PRODUCT, case)
        text = f"at least {THROUGHPUT} of aiokafka's direct records/s on {case.direction},"
        lines.append(
            Target(
                f"{text} {case.load.title}", ratio, ratio is not None and ratio.median >= THROUGHPUT
            )
        )
    return lines


def _direction(name: str) -> Direction:
    return "produce" if name == "produce" else "fetch"


def _header(run: Run) -> str:
    versions = [peer.version() for peer in run.peers if peer.name not in run.unavailable]
    versions += [
        run.broker,
        f"aiokafka/{version('aiokafka')}",
        f"confluent-kafka/{confluent_kafka.version()}",
    ]
    pinning = (
        "The proxy has one core; client, broker and sink share another."
        if run.separate_cores
        else "There is only one core: client, broker, sink and proxy share it."
    )
    return (
        "## Kafka\n\n"
        f"`{run.command}`, {date()}, {run.elapsed:.0f} s. {pinning}\n\n"
        f"- Machine: {machine()}\n"
        f"- Versions: {'; '.join(dict.fromkeys(filter(None, versions)))}\n"
        f"- Interleaved rounds of {run.seconds} s, {run.rounds} of each; medians, with the extremes"
        " in brackets; ratios are of the same round"
        f"{_others(run.measured)}"
    )


def _others(measured: Measured) -> str:
    """How quiet the machine was: a figure from a busy one is worth less."""
    others = measured.others()
    if others is None:
        return ""
    text = (
        f"\n- Other processes used {others.median:.2f} of the two cores in the median round, at"
        f" most {others.high:.2f}"
    )
    return text if others.median <= QUIET_CORES else f"{text}. {NOT_QUIET}"


def _cpu_table(run: Run, direction: str) -> str:
    measured = run.measured
    cases = measured.cases(lambda each: each.client == REPLAY and each.direction == direction)
    main = [peer.name for peer in MAIN]
    rows = []
    for case in cases:
        for name in main:
            micros = measured.micros(name, case)
            if micros is None:
                continue
            rows.append(
                [
                    case.load.title, name, spread(micros, 2),
                    _more_than_passing(measured, name, case),
                    _thousands(measured.speed(name, case)),
                    spread(measured.of(name, case, lambda each: each.busy), 2),
                    _spans(measured, name, case),
                ]
            )  # fmt: skip
    columns = [
        "Batches", "Proxy", "CPU µs a record", f"more than {OPAQUE}", "1000 records/s", "busy",
        "spans a batch",
    ]  # fmt: skip
    title = f"### CPU a record, {direction}: ready-made requests, four connections"
    return _titled(title, table(columns, rows))


def _more_than_passing(measured: Measured, name: str, case: Case) -> str:
    mine, passing = measured.micros(name, case), measured.micros(OPAQUE, case)
    if mine is None or passing is None or name == OPAQUE:
        return EMPTY
    return f"{mine.median - passing.median:+.2f}"


def _spans(measured: Measured, name: str, case: Case) -> str:
    taken = measured.of(name, case, lambda each: each.spans / each.batches)
    return spread(taken, 2) if taken and taken.high else EMPTY


def _variants_table(run: Run) -> str:
    rows = []
    for peer in (peer for peer in MAIN + VARIANTS if peer.name.startswith(PRODUCT)):
        cells = []
        for case in (Case(REPLAY, "produce", AIMED), Case(REPLAY, "fetch", AIMED)):
            cells += [spread(run.measured.micros(peer.name, case), 2)]
            cells += [_spans(run.measured, peer.name, case)]
        if any(cell != EMPTY for cell in cells):
            rss = run.measured.rss_bytes.get(peer.name, 0)
            rows.append([peer.about, *cells, f"{rss / MEBIBYTE:.0f}"])
    columns = [
        "meshproxy with", "produce: CPU µs a record", "spans a batch", "fetch: CPU µs a record",
        "spans a batch", "RSS MiB",
    ]  # fmt: skip
    return _titled(f"### What each feature costs, {AIMED.title}", table(columns, rows))


def _clients_table(run: Run) -> str:
    measured = run.measured
    rows = []
    for case in measured.cases(lambda each: each.client != REPLAY):
        for name in [DIRECT, *(peer.name for peer in MAIN)]:
            speed = measured.speed(name, case)
            if speed is None:
                continue
            proxied = name != DIRECT
            rows.append(
                [
                    case.client, case.direction, case.load.title, name, _thousands(speed),
                    spread(measured.ratio(name, case), 2) if proxied else EMPTY,
                    spread(measured.micros(name, case), 2) if proxied else EMPTY,
                    spread(measured.of(name, case, lambda each: each.busy), 2)
                    if proxied else EMPTY,
                ]
            )  # fmt: skip
    columns = [
        "Client", "does", "Batches", "through", "1000 records/s", "× direct", "CPU µs a record",
        "busy",
    ]  # fmt: skip
    return _titled("### Real clients", table(columns, rows))


def _latency_table(run: Run) -> str:
    measured = run.measured
    rows = []
    for name, rounds in measured.latency.items():
        if name == DIRECT:
            rows.append(
                [
                    name, spread(Spread.of(each.p50 for each in rounds), 0),
                    spread(Spread.of(each.p99 for each in rounds), 0), EMPTY, EMPTY,
                ]
            )  # fmt: skip
            continue
        rows.append(
            [
                name, spread(Spread.of(each.p50 for each in rounds), 0),
                spread(Spread.of(each.p99 for each in rounds), 0),
                spread(measured.added(name, lambda each: each.p50), 0),
                spread(measured.added(name, lambda each: each.p99), 0),
            ]
        )  # fmt: skip
    columns = ["Through", "p50 µs", "p99 µs", "p50 added µs", "p99 added µs"]
    title = (
        f"### Acknowledgements at {run.rate} single records a second, confluent-kafka,"
        f" {AIMED.value_bytes} B"
    )
    return _titled(title, table(columns, rows))


def _remarks(run: Run) -> str:
    lines = [f"- {name}: not available: {reason}" for name, reason in run.unavailable.items()]
    lines += [f"- {note}" for note in run.notes]
    return "\n".join(lines)


def _thousands(speed: Spread | None) -> str:
    if speed is None:
        return EMPTY
    return spread(Spread(*(each / THOUSAND for each in (speed.median, speed.low, speed.high))), 0)


def spread(taken: Spread | None, digits: int) -> str:
    """The median, with the extremes in brackets where there are several values."""
    if taken is None:
        return EMPTY
    median = f"{taken.median:.{digits}f}"
    if taken.low == taken.high:
        return median
    return f"{median} ({taken.low:.{digits}f}–{taken.high:.{digits}f})"


def _titled(title: str, rows: str) -> str:
    return f"{title}\n\n{rows}" if rows else ""
