"""Runs one case: a service behind a sidecar, both new, in front of the backend of all."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from random import Random

from loadtest.linking.live.cases import MIXES, Case
from loadtest.linking.live.judge import Told, Verdict, judge, read_truth
from loadtest.linking.live.load import Generator, Sent
from loadtest.linking.live.registry import BY_NAME, Service
from loadtest.linking.live.services.behaviour import CALL_NONCE, DESTINATIONS, INBOUND_NONCE
from loadtest.linking.live.services.settings import Settings
from loadtest.linking.live.spans import read_spans
from loadtest.peers.meshproxy import BINARY
from loadtest.probe import answer_to, get, listens
from loadtest.processes import Cores, Process, Processes, free_ports

SETTLE_SECONDS = 0.6
"""After the last answer: calls that come after it are answered by then, almost always."""
LAST_CALL_SECONDS = 0.3
METRICS = ("meshproxy_links", "meshproxy_propagation", "meshproxy_gaps", "meshproxy_spans")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a case came to. ``metrics`` are the sidecar's own figures, by name and labels."""

    case: Case
    sent: Sent
    verdict: Verdict
    metrics: dict[str, float]


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a case runs. What is sent in the first ``warm_up`` seconds is not counted."""

    seconds: float
    requests: int
    warm_up: float = 0.0


class Rig:
    """The backend, and what is started for each case; `Processes` ends all of it.

    The service has one core. The sidecar and the backend have the other.
    """

    def __init__(self, processes: Processes, cores: Cores, linking: Mapping[str, object]) -> None:
        self._processes = processes
        self._cores = cores
        self._linking = linking
        self._ports = free_ports()
        self._serial = count()
        self._backend_port = next(self._ports)
        words = [sys.executable, "-m", "loadtest.linking.live.backend", str(self._backend_port)]
        backend = self._processes.start("backend", words, cores.proxy)
        backend.wait_ready(lambda: listens(self._backend_port))

    def run(self, case: Case, limits: Limits) -> Outcome:
        """Run a case to its end.

        Raises `NotReadyError` when the service or the sidecar does not start.
        """
        folder = self._processes.directory / f"{next(self._serial)}-{case.service}"
        folder.mkdir()
        place = Place(folder, next(self._ports), next(self._ports), next(self._ports))
        calls = {name: next(self._ports) for name in DESTINATIONS}
        sidecar = self._start_sidecar(place, calls)
        try:
            # Before the service, whose timer begins to call at once.
            sidecar.wait_ready(lambda: answer_to(place.admin, "/readyz") is not None)
            sent, truth, metrics = self._serve(case, limits, place, calls)
        finally:
            self._processes.end([sidecar])
        return Outcome(case, sent, judge(truth, read_spans(place.spans)), metrics)

    def _serve(
        self, case: Case, limits: Limits, place: Place, calls: Mapping[str, int]
    ) -> tuple[Sent, Sequence[Told], dict[str, float]]:
        service = self._start_service(case, place, calls)
        try:
            service.wait_ready(lambda: listens(place.service))
            return asyncio.run(_load(case, limits, place))
        finally:
            self._processes.end([service])

    def _start_service(self, case: Case, place: Place, calls: Mapping[str, int]) -> Process:
        service: Service = BY_NAME[case.service]
        settings = place.folder / "settings.json"
        Settings(
            port=place.service,
            destinations=calls,
            truth=str(place.truth),
            echo=case.echo / 100,
            background=MIXES[case.mix].background,
            workers=service.workers,
        ).write(settings)
        command = service.command(settings, place.service)
        return self._processes.start(f"{place.folder.name}-app", command, self._cores.load)

    def _start_sidecar(self, place: Place, calls: Mapping[str, int]) -> Process:
        file = place.folder / "sidecar.yaml"
        # JSON is YAML too.
        file.write_text(json.dumps(self._config(place, calls), indent=1))
        command: list[str | Path] = [BINARY, "sidecar", "-c", file]
        return self._processes.start(f"{place.folder.name}-sidecar", command, self._cores.proxy)

    def _config(self, place: Place, calls: Mapping[str, int]) -> dict[str, object]:
        backend = f"127.0.0.1:{self._backend_port}"
        exporter = {"type": "file", "path": str(place.spans)}
        return {
            "service": {"name": "shop"},
            # Not `auto`: that may connect before a request is there, and a worker process that
            # belongs to such a connection serves nobody.
            "inbound": [
                {
                    "listen": f"127.0.0.1:{place.entry}",
                    "upstream": f"127.0.0.1:{place.service}",
                    "protocol": "http",
                }
            ],
            "outbound": [
                {"listen": f"127.0.0.1:{port}", "upstream": backend, "peer": name}
                for name, port in calls.items()
            ],
            "capture": {"request_headers": [INBOUND_NONCE, CALL_NONCE]},
            "linking": dict(self._linking),
            "export": [exporter | {"queue": {"size": 100_000, "interval": "200ms"}}],
            "admin": {"listen": f"127.0.0.1:{place.admin}"},
            "health": {"listen": f"127.0.0.1:{next(self._ports)}"},
            "limits": {"drain": "1s"},
        }


@dataclass(frozen=True, slots=True)
class Place:
    """The folder and the ports of one case."""

    folder: Path
    service: int
    entry: int
    admin: int

    @property
    def truth(self) -> Path:
        return self.folder / "truth"

    @property
    def spans(self) -> Path:
        return self.folder / "spans.jsonl"


async def _load(
    case: Case, limits: Limits, place: Place
) -> tuple[Sent, Sequence[Told], dict[str, float]]:
    """Send the load; read the truth while the service still runs, so that no call is cut off."""
    if limits.warm_up:
        warm_up = case.requests(limits.warm_up, limits.requests)
        await Generator(place.entry, warm_up, Random()).run()
        await asyncio.sleep(SETTLE_SECONDS)
    before = len(_truth(place))
    load = case.requests(limits.seconds, limits.requests)
    sent = await Generator(place.entry, load, Random()).run()
    await asyncio.sleep(SETTLE_SECONDS)
    truth = read_truth(_truth(place)[before:])
    await asyncio.sleep(LAST_CALL_SECONDS)
    return sent, truth, _metrics(place.admin)


def _truth(place: Place) -> list[str]:
    return place.truth.read_text().splitlines() if place.truth.exists() else []


def _metrics(port: int) -> dict[str, float]:
    lines = get(port, "/metrics").decode().splitlines()
    pairs = (line.rpartition(" ") for line in lines if line.startswith(METRICS))
    return {name: float(value) for name, _, value in pairs}
