"""A sidecar as a process of its own, started as a user starts it."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path
from typing import Any

import yaml

from meshproxy.demo.processes import Ports, plain_environment
from tests.support.inprocess import fetch, metric
from tests.support.raw import PATIENCE, Peer

START_PATIENCE = 20.0
"""Seconds; a machine that is busy with other things starts Python slowly."""


class SidecarProcess:
    """``meshproxy sidecar -c FILE``. Its log lines are kept in ``records``.

    ``inbound`` and ``outbound`` are the ports of its listeners in order, ``admin`` its admin port.
    """

    def __init__(self, directory: Path, ports: Ports) -> None:
        self._ports = ports
        self.path = directory / f"process-{ports.take()}.yaml"
        self.config: dict[str, Any] = {}
        self.inbound: list[int] = []
        self.outbound: list[int] = []
        self.admin = ports.take()
        self.records: list[dict[str, Any]] = []
        self.errors: list[str] = []
        self._said = asyncio.Condition()
        self._tasks: list[asyncio.Task[None]] = []
        self._process: asyncio.subprocess.Process

    async def start(
        self, config: dict[str, Any], *, ready: bool = True, health: bool = True
    ) -> None:
        """Start, and wait until it is ready; ``health`` gives the health endpoints a free port."""
        config = {"admin": {"listen": f"127.0.0.1:{self.admin}"}} | config
        if health:
            config = {"health": {"listen": f"127.0.0.1:{self._ports.take()}"}} | config
        for direction, found in (("inbound", self.inbound), ("outbound", self.outbound)):
            config[direction] = [self._listening(each, found) for each in config.get(direction, [])]
        self.write(config)
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "meshproxy", "sidecar", "-c", str(self.path)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env=plain_environment({}),
        )
        self._tasks.append(asyncio.create_task(self._read()))
        if ready:
            await self.logged("ready", within=START_PATIENCE)
            assert (await fetch(self.admin, "/readyz"))[0] == 200

    def _listening(self, listener: dict[str, Any], found: list[int]) -> dict[str, Any]:
        port = self._ports.take()
        found.append(port)
        return {"listen": f"127.0.0.1:{port}"} | listener

    def free_port(self) -> int:
        """A port on which nobody listens."""
        return self._ports.take()

    def write(self, config: dict[str, Any]) -> None:
        """Put another configuration in the file."""
        self.config = config
        self.path.write_text(yaml.safe_dump(config))

    async def _read(self) -> None:
        stream = self._process.stderr
        assert stream is not None
        async for line in stream:
            async with self._said:
                try:
                    self.records.append(json.loads(line))
                except ValueError:
                    self.errors.append(line.decode(errors="replace").rstrip())
                self._said.notify_all()
        async with self._said:
            self._said.notify_all()

    async def logged(self, event: str, within: float = PATIENCE) -> dict[str, Any]:
        """The first log line of this event that was not asked for before."""
        found: dict[str, Any] = {}

        def said() -> bool:
            for record in self.records:
                if record.get("event") == event and not record.get("seen"):
                    found.update(record)
                    record["seen"] = True
                    return True
            return self._process.returncode is not None

        async with asyncio.timeout(within), self._said:
            await self._said.wait_for(said)
        assert found, f"it ended without saying {event!r}: {self.records} {self.errors}"
        return found

    async def client(self, port: int | None = None, **options: Any) -> Peer:
        """Connect to a listener: the first inbound or else outbound one, unless ``port`` says."""
        return await Peer.connect(port or (self.inbound or self.outbound)[0], **options)

    async def get(self, path: str, method: str = "GET") -> tuple[int, str]:
        """Status and body of an admin endpoint."""
        return await fetch(self.admin, path, method)

    async def metric(self, name: str, **labels: str) -> float:
        """The value of a metric with at least these labels."""
        return metric((await self.get("/metrics"))[1], name, **labels)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    async def ended(self, within: float = START_PATIENCE) -> int:
        """Wait for the end; returns the exit status."""
        async with asyncio.timeout(within):
            code = await self._process.wait()
            await asyncio.gather(*self._tasks)
        return code

    async def close(self) -> None:
        """Kill it if it still runs."""
        if self._process.returncode is None:
            self._process.kill()
        await self.ended()
