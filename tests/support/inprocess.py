"""A whole sidecar in the test's own event loop, with what a test wants to see of it.

When it is closed it must have nothing left over: no connection counted in, no request in flight,
no socket of its own remembered, and no exception that went to the event loop.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from meshproxy.config.loader import load_file
from meshproxy.demo.processes import Ports
from meshproxy.filter import Environment, Filter
from meshproxy.sidecar import app as sidecar_app
from meshproxy.sidecar.app import Sidecar
from meshproxy.trace.span import Span
from tests.support.raw import PATIENCE, App, Peer

LIMITS = {"drain": "2s", "connection_idle": "30s", "pool_idle": "30s"}
"""Longer than a test waits, so that no time limit does what the product should have done."""


class InProcess:
    """A running `Sidecar`; ``inbound`` and ``outbound`` are the ports of its listeners, in order.

    The configuration is the one given, plus free ports where a ``listen`` is missing.
    """

    def __init__(self, directory: Path, ports: Ports) -> None:
        self._path = directory / f"sidecar-{ports.take()}.yaml"
        self._ports = ports
        self._spans: asyncio.Queue[Span] = asyncio.Queue()
        self._trouble: list[dict[str, Any]] = []
        self._peers: list[Peer] = []
        self._run: asyncio.Task[None] | None = None
        self.inbound: list[int] = []
        self.outbound: list[int] = []
        self.sidecar: Sidecar

    async def start(
        self, config: dict[str, Any], filters: Sequence[type[Filter]] | None = None
    ) -> InProcess:
        """Start; ``filters`` takes the place of those that are installed."""
        config = dict(config)
        config.setdefault("admin", {"listen": f"127.0.0.1:{self._ports.take()}"})
        config.setdefault("health", {"listen": f"127.0.0.1:{self._ports.take()}"})
        config["limits"] = LIMITS | config.get("limits", {})
        for direction, found in (("inbound", self.inbound), ("outbound", self.outbound)):
            config[direction] = [self._listening(each, found) for each in config.get(direction, [])]
        self._path.write_text(yaml.safe_dump(config))
        asyncio.get_running_loop().set_exception_handler(lambda _, what: self._trouble.append(what))
        self.sidecar = Sidecar(str(self._path), load_file(str(self._path), {}))
        self._tap()
        await self._with_filters(filters)
        self._run = asyncio.create_task(self.sidecar.run_until_stopped())
        return self

    def _listening(self, listener: dict[str, Any], found: list[int]) -> dict[str, Any]:
        port = self._ports.take()
        found.append(port)
        return {"listen": f"127.0.0.1:{port}"} | listener

    def _tap(self) -> None:
        offer = self.sidecar.telemetry.offer

        def tapped(span: Span) -> None:
            offer(span)
            self._spans.put_nowait(span)

        self.sidecar.telemetry.offer = tapped  # type: ignore[method-assign]

    async def _with_filters(self, filters: Sequence[type[Filter]] | None) -> None:
        installed = sidecar_app.load_filters

        def load(environment: Environment) -> list[Filter]:
            if filters is None:
                return installed(environment)
            return [each(environment) for each in filters]

        sidecar_app.load_filters = load
        try:
            await self.sidecar.start()
        finally:
            sidecar_app.load_filters = installed

    async def client(self, port: int | None = None, **options: Any) -> Peer:
        """Connect to a listener: the first outbound or else inbound one, unless ``port`` says."""
        port = port or (self.outbound or self.inbound)[0]
        peer = await Peer.connect(port, **options)
        self._peers.append(peer)
        return peer

    async def span(self) -> Span:
        """The next span that was finished."""
        async with asyncio.timeout(PATIENCE):
            return await self._spans.get()

    def no_span(self) -> bool:
        """Whether all finished spans were taken."""
        return self._spans.empty()

    async def get(self, path: str) -> tuple[int, str]:
        """Status and body of an admin endpoint."""
        port = int(self.sidecar.config.admin.listen.rpartition(":")[2])
        return await fetch(port, path)

    async def metric(self, name: str, **labels: str) -> float:
        """The value of a metric with at least these labels."""
        return metric((await self.get("/metrics"))[1], name, **labels)

    def narrow(self) -> None:
        """Let the kernel take next to nothing for the clients that are connected."""
        for member in self.sidecar._runtime.ticker.members():
            sock = member.transport.get_extra_info("socket")  # type: ignore[attr-defined]
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)

    async def left(self) -> None:
        """Wait until no client connection is counted in any more."""
        runtime = self.sidecar._runtime
        deadline = asyncio.get_running_loop().time() + PATIENCE
        assert await runtime.drained(False, deadline), f"{runtime.connections} did not leave"

    async def close(self) -> None:
        """Stop, and see that nothing is left over."""
        for peer in self._peers:
            peer.reset()  # a mere close could still want its answer
        runtime = self.sidecar._runtime
        if self._run is not None:
            await self.left()
            self.sidecar.request_stop()
            async with asyncio.timeout(PATIENCE):
                await self._run
        await asyncio.sleep(0)  # closed sockets say so in the loop's next turn
        await asyncio.sleep(0)
        assert self._trouble == []
        assert runtime.connections == 0
        assert list(self.sidecar.inflight) == []
        assert runtime.own_sockets == set()


async def fetch(port: int, path: str, method: str = "GET") -> tuple[int, str]:
    """One request to an admin port: status and body."""
    peer = await Peer.connect(port)
    try:
        await peer.send(
            f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n"
            "Connection: close\r\n\r\n".encode()
        )
        head, _, body = (await peer.rest()).partition(b"\r\n\r\n")
    finally:
        await peer.close()
    return int(head[9:12]), body.decode()


def metric(text: str, name: str, **labels: str) -> float:
    """The value in Prometheus text of the one series that has at least these labels; 0 if none."""
    found = [
        float(line.rpartition(" ")[2])
        for line in text.splitlines()
        if line.partition(" ")[0].partition("{")[0] == name
        and all(f'{label}="{value}"' in line for label, value in labels.items())
    ]
    assert len(found) < 2
    return found[0] if found else 0.0


def attributes(span: Span) -> dict[str, Any]:
    """All attributes of a span."""
    return dict([*span.shape.attributes, *span.attributes])


__all__ = ["App", "InProcess", "Peer", "attributes", "fetch", "metric"]
