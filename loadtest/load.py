"""The load: closed-loop scenarios by wrk, an open loop by a generator of our own."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from loadtest.peers.base import first_line
from loadtest.processes import Cores, NotReadyError, find_tool, run_pinned
from loadtest.servers.nginx_backend import LARGE_PATH

SCRIPTS = Path(__file__).parent / "wrk"
START_SECONDS = 15.0
"""What a generator may take beyond its load, to start and to end."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """What wrk sends, and over how many connections at once."""

    name: str
    connections: int
    script: str
    path: str = "/api/users/12345?page=2"


PLAIN = Scenario("plain", 32, "plain.lua")
UNIQUE = Scenario("unique", 32, "unique.lua")
SINGLE = Scenario("single", 1, "plain.lua")
LARGE = Scenario("1mb", 4, "plain.lua", LARGE_PATH)


class Totals(msgspec.Struct, frozen=True):
    """What wrk counted in one run (the fields of ``wrk/report.lua``)."""

    requests: int
    microseconds: int
    bytes: int
    refused: int
    """Answers with a status of 400 or above."""
    socket_errors: int

    @property
    def seconds(self) -> float:
        return self.microseconds / 1e6

    @property
    def failures(self) -> int:
        return self.refused + self.socket_errors


class Latencies(msgspec.Struct, frozen=True):
    """Of one target at the open loop's rate, in microseconds from the scheduled send time."""

    count: int
    failures: int
    p50: float
    p99: float


def closed_loop(scenario: Scenario, port: int, seconds: int, cores: Cores) -> Totals:
    """Run wrk: one thread, every connection sends its next request when it has its answer.

    wrk knows whole seconds only.

    Raises `NotReadyError` when wrk fails or nothing was answered.
    """
    binary = find_tool("wrk")
    if binary is None:
        raise NotReadyError("wrk is not installed (loadtest/setup.sh)")
    command: list[str | Path] = [
        binary, "-t1", f"-c{scenario.connections}", "-d", str(seconds), "--timeout=5s",
        "-s", SCRIPTS / scenario.script, f"http://127.0.0.1:{port}{scenario.path}",
    ]  # fmt: skip
    environment = {"BENCH_REPORT_LUA": str(SCRIPTS / "report.lua")}
    output = run_pinned(command, cores.load, seconds + START_SECONDS, environment)
    totals = msgspec.json.decode(output.strip().splitlines()[-1], type=Totals)
    if totals.requests == 0:
        raise NotReadyError(f"no request of scenario {scenario.name} was answered")
    return totals


def open_loop(ports: Sequence[int], rate: int, seconds: float, cores: Cores) -> list[Latencies]:
    """Send at a fixed rate, in turns to each port; `seconds` is the time each of them gets.

    Raises `NotReadyError` when the generator fails.
    """
    words = [str(rate), str(seconds), *map(str, ports)]
    command = [sys.executable, "-m", "loadtest.openloop", *words]
    output = run_pinned(command, cores.load, seconds * len(ports) * 2 + START_SECONDS)
    return msgspec.json.decode(output, type=list[Latencies])


def wrk_version() -> str:
    """As ``wrk/debian/4.1.0``; empty when it is missing."""
    binary = find_tool("wrk")
    words = first_line(binary, "-v").split() if binary else []
    return "/".join(words[:2])
