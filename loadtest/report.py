"""The measurements as Markdown tables, and their place in RESULTS.md."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from loadtest.load import PLAIN, SINGLE, UNIQUE, Scenario, wrk_version
from loadtest.measure import Measured, Spread
from loadtest.peers.base import Peer
from loadtest.peers.registry import CALLERS, MAIN, PRODUCT, REFERENCE, VARIANTS

RESULTS = Path(__file__).parent / "RESULTS.md"
EMPTY = "–"
MEBIBYTE = 1 << 20
QUIET_CORES = 0.1
TOLD_SHARE = 0.005
"""The requests in flight when a run begins or ends are another case than all others."""
NOT_QUIET = "**The machine was not quiet: measure again before relying on these figures.**"


@dataclass(frozen=True, slots=True)
class Run:
    """One complete run of the bench."""

    command: str
    peers: Sequence[Peer]
    results: Mapping[str, Measured]
    unavailable: Mapping[str, str]
    notes: Sequence[str]
    separate_cores: bool
    rate: int
    cpu_rounds: int
    rounds: int
    seconds: int
    elapsed: float


def text_of(run: Run) -> str:
    """The whole generated part: the machine, the tables, what was not available."""
    parts = [_header(run), _main_table(run), _variants_table(run), _calls_table(run), _remarks(run)]
    return "\n\n".join(part for part in parts if part) + "\n"


def write(section: str, text: str) -> None:
    """Replace one generated section of RESULTS.md; what is written by hand stays."""
    begin, end = f"<!-- begin {section} -->", f"<!-- end {section} -->"
    before = RESULTS.read_text() if RESULTS.exists() else "# Results\n"
    block = f"{begin}\n{text.strip()}\n{end}"
    head, found, rest = before.partition(begin)
    if found:
        RESULTS.write_text(head + block + rest.partition(end)[2])
    else:
        RESULTS.write_text(f"{before.rstrip()}\n\n{block}\n")


def machine() -> str:
    """The processor, its cores, the kernel and Python, in one line."""
    info = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(":")[2].strip() for line in info if line.startswith("model name")]
    model = models[0] if models else platform.machine()
    cores = sum(line.startswith("processor") for line in info)
    kernel = platform.release()
    return f"{model}, {cores} cores, Linux {kernel}, Python {platform.python_version()}"


def date() -> str:
    """Now, to the minute."""
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")


def _header(run: Run) -> str:
    versions = [peer.version() for peer in run.peers if peer.name in run.results]
    versions += [wrk_version(), f"uvloop/{version('uvloop')}"]
    pinning = (
        "The proxy has one core; generator, backend and sink share another."
        if run.separate_cores
        else "There is only one core: generator, backend, sink and proxy share it."
    )
    return (
        "## Beside other proxies\n\n"
        f"`{run.command}`, {date()}, {run.elapsed:.0f} s. {pinning}\n\n"
        f"- Machine: {machine()}\n"
        f"- Versions: {'; '.join(dict.fromkeys(filter(None, versions)))}\n"
        f"- Interleaved rounds of {run.seconds} s: {run.cpu_rounds} for CPU a request,"
        f" {run.rounds} for the rest; medians, with the extremes in brackets;"
        " a ratio is of the medians, in brackets of the lowest"
        f"{_others(run)}{_direct(run)}"
    )


def _others(run: Run) -> str:
    """How quiet the machine was: a figure from a busy one is worth less."""
    rounds = [each for m in run.results.values() for taken in m.cpu.values() for each in taken]
    if not rounds:
        return ""
    others = Spread.of(each.others for each in rounds)
    text = (
        f"\n- Other processes used {others.median:.2f} of the two cores in the median CPU round, at"
        f" most {others.high:.2f}"
    )
    return text if others.median <= QUIET_CORES else f"{text}. {NOT_QUIET}"


def _direct(run: Run) -> str:
    """What the added latencies are added to."""
    rounds = [each for measured in run.results.values() for each in measured.latency]
    if not rounds:
        return ""
    p50 = _spread(Spread.of(each.direct_p50 for each in rounds), 0)
    p99 = _spread(Spread.of(each.direct_p99 for each in rounds), 0)
    return f"\n- Direct, at {run.rate} requests a second: p50 {p50} µs, p99 {p99} µs"


def _main_table(run: Run) -> str:
    reference = run.results.get(REFERENCE)
    columns = [
        "Proxy", "CPU µs a request", f"× {REFERENCE}", "CPU µs, unique requests",
        f"× {REFERENCE}", "requests/s", "busy", "spans a request", "RSS MiB",
        f"p50 added µs at {run.rate}/s", "p99 added µs", "1 MB: MB/s", "1 MB: CPU ms/MB",
    ]  # fmt: skip
    rows = []
    for name in MAIN:
        measured = run.results.get(name)
        if measured is None:
            if name in run.unavailable:
                rows.append([name, "not available", *[EMPTY] * (len(columns) - 2)])
            continue
        rows.append([name, *_load_cells(measured, reference), *_other_cells(measured)])
    return table(columns, rows)


def _load_cells(measured: Measured, reference: Measured | None) -> list[str]:
    rounds = measured.cpu.get(PLAIN.name, [])
    spans = measured.spans_per_request(PLAIN)
    return [
        _spread(measured.micros(PLAIN)),
        _ratio(measured, reference, PLAIN),
        _spread(measured.micros(UNIQUE)),
        _ratio(measured, reference, UNIQUE),
        f"{Spread.of(r.requests_per_second for r in rounds).median:.0f}" if rounds else EMPTY,
        f"{Spread.of(r.busy for r in rounds).median:.2f}" if rounds else EMPTY,
        EMPTY if spans is None else f"{spans:.2f}",
        f"{measured.rss_bytes / MEBIBYTE:.0f}" if measured.rss_bytes else EMPTY,
    ]


def _other_cells(measured: Measured) -> list[str]:
    latency, body = measured.latency, measured.body
    return [
        _spread(Spread.of(r.p50 for r in latency), 0) if latency else EMPTY,
        _spread(Spread.of(r.p99 for r in latency), 0) if latency else EMPTY,
        _spread(Spread.of(r.megabytes_per_second for r in body), 0) if body else EMPTY,
        _spread(Spread.of(r.cpu_millis_per_megabyte for r in body), 3) if body else EMPTY,
    ]


def _variants_table(run: Run) -> str:
    product = run.results.get(PRODUCT)
    plain = product.micros(PLAIN) if product else None
    rows = []
    for peer in run.peers:
        measured = run.results.get(peer.name)
        micros = measured.micros(PLAIN) if measured else None
        if peer.name not in (PRODUCT, *VARIANTS) or measured is None or micros is None:
            continue
        difference = f"{micros.median - plain.median:+.1f}" if plain else EMPTY
        spans = measured.spans_per_request(PLAIN) or 0.0
        rss = f"{measured.rss_bytes / MEBIBYTE:.0f}"
        rows.append([peer.about, _spread(micros), difference, f"{spans:.2f}", rss])
    columns = ["meshproxy with", "CPU µs a request", "difference", "spans a request", "RSS MiB"]
    return _titled("### What each feature costs", table(columns, rows))


def _calls_table(run: Run) -> str:
    cases = [
        *[(name, SINGLE, "no call (one hop), one request in flight", 1) for name in MAIN],
        *[(name, SINGLE, "a call, one request in flight", 2) for name in CALLERS],
        *[(name, UNIQUE, "a call that echoes x-request-id, 32 in flight", 2) for name in CALLERS],
        *[(name, PLAIN, "a call without evidence, 32 in flight", 2) for name in CALLERS],
    ]
    rows = []
    for name, scenario, about, hops in cases:
        measured = run.results.get(name)
        micros = measured.micros(scenario) if measured else None
        if measured is None or micros is None:
            continue
        spans = measured.spans_per_request(scenario) or 0.0
        per_hop = Spread(micros.median / hops, micros.low / hops, micros.high / hops)
        rows.append(
            [
                name, about, _spread(per_hop), f"{spans:.2f}",
                _shares(measured.shares(scenario, "evidence")),
                _shares(measured.shares(scenario, "propagation")),
            ]
        )  # fmt: skip
    columns = [
        "Proxy",
        "The app makes",
        "CPU µs a hop",
        "spans a request",
        "evidence",
        "propagation",
    ]
    return _titled(
        "### A call through the second listener\n\n"
        "The app passes on no trace header; a hop is one pass through the proxy. Shares are of all"
        " spans, of which half are CLIENT spans where the app makes a call.",
        table(columns, rows),
    )


def _remarks(run: Run) -> str:
    lines = [f"- {name}: not available: {reason}" for name, reason in run.unavailable.items()]
    lines += [
        f"- {name}: {measured.failures} failed requests"
        for name, measured in run.results.items()
        if measured.failures
    ]
    lines += [f"- {note}" for note in run.notes]
    return "\n".join(lines)


def _ratio(measured: Measured, reference: Measured | None, scenario: Scenario) -> str:
    mine = measured.micros(scenario)
    base = reference.micros(scenario) if reference else None
    if mine is None or base is None:
        return EMPTY
    return f"{mine.median / base.median:.2f} ({mine.low / base.low:.2f})"


def _spread(spread: Spread | None, digits: int = 1) -> str:
    if spread is None:
        return EMPTY
    median = f"{spread.median:.{digits}f}"
    if spread.low == spread.high:
        return median
    return f"{median} ({spread.low:.{digits}f}–{spread.high:.{digits}f})"


def _shares(shares: Mapping[str, float]) -> str:
    told = [f"{value} {share:.0%}" for value, share in shares.items() if share >= TOLD_SHARE]
    return ", ".join(told) or EMPTY


def _titled(title: str, table: str) -> str:
    return f"{title}\n\n{table}" if table else ""


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table that is also readable as it is; nothing when there are no rows."""
    if not rows:
        return ""
    widths = [max(len(row[i]) for row in [columns, *rows]) for i in range(len(columns))]
    pad: list[Callable[[str, int], str]] = [str.ljust, *[str.rjust] * (len(columns) - 1)]
    lines = [
        "| "
        + " | ".join(fit(cell, width) for fit, cell, width in zip(pad, row, widths, strict=True))
        for row in [columns, *rows]
    ]
    rule = ["-" * widths[0], *["-" * (width - 1) + ":" for width in widths[1:]]]
    return " |\n".join([lines[0], "| " + " | ".join(rule), *lines[1:]]) + " |"
