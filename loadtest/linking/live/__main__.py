"""``python -m loadtest.linking.live``: real services, real load, a real sidecar; see README.md."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from loadtest.linking.live import cases, report
from loadtest.linking.live.registry import BY_NAME
from loadtest.linking.live.rig import Limits, Outcome, Rig
from loadtest.processes import Cores, NotReadyError, Processes, run_main
from loadtest.report import write

SECTION = "linking-live"


def numbers(kind: Callable[[str], float]) -> Callable[[str], list[float]]:
    """An argument such as ``1,8,32``."""

    def read(text: str) -> list[float]:
        return [kind(each) for each in text.split(",")]

    return read


def names_of(known: Iterable[str]) -> Callable[[str], list[str]]:
    """An argument such as ``pool,asyncio``."""

    def read(text: str) -> list[str]:
        for name in text.split(","):
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name!r} is not one of {', '.join(known)}")
        return text.split(",")

    return read


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m loadtest.linking.live", description=__doc__)
    add = parser.add_argument
    add("--quick", action="store_true", help="two short looks at some services")
    add("--services", type=names_of(BY_NAME), help=f"of {', '.join(BY_NAME)}")
    add("--in-flight", type=numbers(int), help="closed loops")
    add("--rates", type=numbers(float), help="open loops: requests a second")
    add("--mixes", type=names_of(cases.MIXES), help=f"of {', '.join(cases.MIXES)}")
    add("--echo", type=numbers(int), help="per cent of calls that echo something")
    add("--seconds", type=float, help="of each run")
    add("--requests", type=int, default=cases.MANY_REQUESTS, help="of each run, at most")
    add("--warm-up", type=float, default=0.0, help="seconds of load that are not counted")
    add("--threshold", type=float, default=0.99, help="linking.threshold")
    add("--process", choices=("auto", "off"), default="auto", help="linking.process")
    add("--json", type=Path, metavar="FILE", help="write everything to this file")
    add("--results", action="store_true", help="write the tables to loadtest/RESULTS.md")
    return parser.parse_args()


def planned(options: argparse.Namespace) -> list[cases.Case]:
    """The full plan, the quick one, or, once a load is given, everything with everything."""
    names = options.services or (cases.QUICK_SERVICES if options.quick else BY_NAME)
    if options.in_flight or options.rates or options.mixes or options.echo:
        return [
            case
            for name in names
            for case in cases.chosen(
                name,
                options.mixes or ["mixed"],
                options.echo or cases.ECHOES,
                options.in_flight or ([] if options.rates else cases.FEW_IN_FLIGHT),
                options.rates or [],
            )
        ]
    plan = cases.quick if options.quick else cases.full
    return [case for name in names for case in plan(name)]


def run(plan: Iterable[cases.Case], options: argparse.Namespace) -> report.Run:
    """Run all cases; what cannot be run is remarked upon."""
    started = time.monotonic()
    outcomes: list[Outcome] = []
    remarks: dict[str, str] = {}
    limits = Limits(
        seconds=options.seconds or (2.0 if options.quick else 3.0),
        requests=options.requests,
        warm_up=options.warm_up,
    )
    linking = {"threshold": options.threshold, "process": options.process}
    with (
        TemporaryDirectory(prefix="meshproxy-live-") as folder,
        Processes(Path(folder)) as processes,
    ):
        rig = Rig(processes, Cores.of_machine(), linking)
        for case in plan:
            reason = remarks.get(case.service) or BY_NAME[case.service].missing()
            if reason is None:
                try:
                    progress(case)
                    outcomes.append(rig.run(case, limits))
                    continue
                except NotReadyError as error:
                    reason = str(error)
            remarks[case.service] = reason
    told = [f"{name}: not available: {reason}" for name, reason in remarks.items()]
    command = " ".join(["python -m loadtest.linking.live", *sys.argv[1:]])
    return report.Run(command, time.monotonic() - started, outcomes, told)


def progress(case: cases.Case) -> None:
    """Say on standard error what happens now."""
    text = f"{case.service}: {case.mix}, echo {case.echo} %, {case.load} in flight"
    print(f"live: {text}", file=sys.stderr, flush=True)


def main() -> None:
    options = arguments()
    done = run(planned(options), options)
    text = report.text_of(done)
    print(text)
    if options.json:
        encoded = msgspec.json.encode(report.json_of(done))
        options.json.write_bytes(msgspec.json.format(encoded, indent=1))
    if options.results:
        write(SECTION, text)


if __name__ == "__main__":
    run_main(main)
