"""The mesh: services and a broker as processes and, if wanted, a sidecar process for each."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import aiohttp
import yaml

from meshproxy.demo.arrivals import Arrivals
from meshproxy.demo.processes import Child, DemoError, Ports, stop_all
from meshproxy.demo.services.common import TOPIC

CALLS: dict[str, tuple[str, ...]] = {
    "gateway": ("orders", "coupons"),
    "orders": ("inventory", "pricing", "payments"),
    "inventory": (),
    "pricing": (),
    "payments": ("ledger",),
    "ledger": (),
    "coupons": (),
    "shipping": ("carriers",),
    "carriers": (),
}
"""Who calls whom."""

KAFKA: dict[str, dict[str, bool]] = {
    "orders": {"per_record": True},
    "shipping": {"consumer_spans": True},
}
"""Who speaks to the broker, and what the sidecar makes of it: a span for each message."""

ENTRY = "gateway"
CONSUMER = "shipping"
"""Gets messages only: nobody calls it."""

BROKER_NODE = 1
"""The mock broker's node id."""

START_TIMEOUT = 30.0
READY_POLL = 0.05
ADMIN_TIMEOUT = aiohttp.ClientTimeout(total=2)


@dataclass(frozen=True)
class Access:
    """A service's own record of one request that it received at ``time`` (Unix, seconds).

    Or of one message: ``path`` is topic and key, and there is no status.
    """

    service: str
    method: str
    path: str
    status: int | None
    time: float
    duration_ms: float
    traceparent: str | None


@dataclass(frozen=True)
class Place:
    """The loopback ports of one service and its sidecar; ``outbound`` by neighbour.

    ``bootstrap`` and ``broker`` are the sidecar's for Kafka, 0 where the service does not speak it.
    """

    app: int
    inbound: int
    admin: int
    outbound: dict[str, int] = field(default_factory=dict)
    bootstrap: int = 0
    broker: int = 0


def find_places(take_port: Callable[[], int]) -> dict[str, Place]:
    """Ports for everything in the mesh, by service."""
    return {
        name: Place(
            app=take_port(),
            inbound=take_port(),
            admin=take_port(),
            outbound={peer: take_port() for peer in peers},
            bootstrap=take_port() if name in KAFKA else 0,
            broker=take_port() if name in KAFKA else 0,
        )
        for name, peers in CALLS.items()
    }


def sidecar_config(
    name: str, places: dict[str, Place], collector: str, broker: str
) -> dict[str, Any]:
    """The configuration of the sidecar of service ``name``; ``broker`` is Kafka's address."""
    place = places[name]
    inbound = {"listen": _local(place.inbound), "upstream": _local(place.app)}
    return {
        "service": {"name": name, "environment": "demo"},
        "inbound": [] if name == CONSUMER else [inbound],
        "outbound": [
            {"listen": _local(port), "upstream": _local(places[peer].inbound), "peer": peer}
            for peer, port in place.outbound.items()
        ]
        + ([_kafka_listener(name, place, broker)] if name in KAFKA else []),
        "export": [{"type": "otlp", "endpoint": collector, "queue": {"interval": "200ms"}}],
        "admin": {"listen": _local(place.admin)},
        "limits": {"drain": "1s"},
    }


def _kafka_listener(name: str, place: Place, broker: str) -> dict[str, Any]:
    return {
        "listen": _local(place.bootstrap),
        "upstream": broker,
        "peer": "kafka",
        "protocol": "kafka",
        "kafka": {**KAFKA[name], "broker_ports": place.broker - BROKER_NODE},
    }


def _local(port: int) -> str:
    return f"127.0.0.1:{port}"


class Mesh:
    """Runs while the context is open; entering waits until everything is ready.

    With ``collector``, the base URL of an OTLP receiver, each service gets a sidecar, configured by
    a file in ``folder``; without, services call each other directly. Raises `DemoError` if a
    process dies or does not get ready in time.
    """

    def __init__(self, folder: Path, collector: str | None = None) -> None:
        self.access: Arrivals[Access] = Arrivals()
        self._folder = folder
        self._collector = collector
        self._ports = Ports()
        self._children: list[Child] = []
        self._listening: dict[str, asyncio.Event] = {name: asyncio.Event() for name in CALLS}
        self._broker = ""
        self._broker_ready = asyncio.Event()
        self.places = find_places(self._ports.take)

    @property
    def entry(self) -> str:
        """The base URL where requests enter the mesh."""
        place = self.places[ENTRY]
        return f"http://{_local(place.inbound if self._collector else place.app)}"

    def admin(self, name: str) -> str:
        """The base URL of a sidecar's admin endpoints."""
        return f"http://{_local(self.places[name].admin)}"

    def config_file(self, name: str) -> Path:
        """The configuration file of a service's sidecar."""
        return self._folder / f"{name}.yaml"

    async def __aenter__(self) -> Mesh:
        try:
            await self._start()
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stop()

    async def gaps(self) -> list[dict[str, Any]]:
        """What the sidecars' ``/gaps`` tell, together."""
        async with aiohttp.ClientSession(timeout=ADMIN_TIMEOUT) as session:
            answers = await asyncio.gather(*(self._gaps_of(session, name) for name in CALLS))
        return [gap for answer in answers for gap in answer]

    async def unless_dead(self, work: Awaitable[object]) -> None:
        """Await ``work``; raises `DemoError` with the log if a process dies meanwhile."""
        tasks = [asyncio.ensure_future(work)]
        tasks += [asyncio.create_task(child.fail_when_dead()) for child in self._children]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _start(self) -> None:
        try:
            async with asyncio.timeout(START_TIMEOUT):
                await self._start_all()
                await self.unless_dead(self._all_ready())
        except TimeoutError:
            raise DemoError(f"the mesh was not ready within {START_TIMEOUT:.0f} s") from None

    async def _start_all(self) -> None:
        """The broker first, and what needs its address last."""
        await self._start_broker()
        for name in sorted(CALLS, key=KAFKA.__contains__):
            if name in KAFKA and not self._broker:
                await self.unless_dead(self._broker_ready.wait())
            await self._start_service(name)
            if self._collector:
                await self._start_sidecar(name, self._collector)

    async def _start_broker(self) -> None:
        arguments = ["-m", "meshproxy.demo.broker", TOPIC]
        self._children.append(await Child.start("the broker", arguments, {}, self._line))

    async def _start_service(self, name: str) -> None:
        place = self.places[name]
        addresses = {
            f"{peer.upper()}_URL": "http://"
            + _local(place.outbound[peer] if self._collector else self.places[peer].app)
            for peer in CALLS[name]
        }
        if name in KAFKA:
            sidecar = _local(place.bootstrap)
            addresses["KAFKA_BOOTSTRAP"] = sidecar if self._collector else self._broker
        arguments = ["-m", "meshproxy.demo.services", name, str(place.app)]
        child = await Child.start(f"service {name}", arguments, addresses, self._line)
        self._children.append(child)

    async def _start_sidecar(self, name: str, collector: str) -> None:
        file = self.config_file(name)
        config = sidecar_config(name, self.places, collector, self._broker)
        file.write_text(yaml.safe_dump(config, sort_keys=False))
        arguments = ["-m", "meshproxy", "sidecar", "-c", str(file)]
        child = await Child.start(f"the sidecar of {name}", arguments, {}, lambda line: None)
        self._children.append(child)

    def _line(self, line: str) -> None:
        """Take in one line of standard output; what is no record stays in the child's log."""
        try:
            fields = json.loads(line)
            event = fields.pop("event")
            if event == "listening":
                self._listening[fields["service"]].set()
            elif event == "broker":
                self._broker = fields["address"]
                self._broker_ready.set()
            elif event == "request":
                self.access.extend([Access(**fields)])
        except (ValueError, TypeError, KeyError, AttributeError):
            return

    async def _all_ready(self) -> None:
        for event in self._listening.values():
            await event.wait()
        if self._collector:
            async with aiohttp.ClientSession(timeout=ADMIN_TIMEOUT) as session:
                for name in CALLS:
                    await self._sidecar_ready(session, name)

    async def _sidecar_ready(self, session: aiohttp.ClientSession, name: str) -> None:
        while True:
            try:
                async with session.get(f"{self.admin(name)}/readyz") as response:
                    if response.status == 200:
                        return
            except (aiohttp.ClientError, TimeoutError):
                pass
            await asyncio.sleep(READY_POLL)

    async def _gaps_of(self, session: aiohttp.ClientSession, name: str) -> list[dict[str, Any]]:
        try:
            async with session.get(f"{self.admin(name)}/gaps") as response:
                response.raise_for_status()
                gaps: list[dict[str, Any]] = (await response.json())["gaps"]
                return gaps
        except (aiohttp.ClientError, TimeoutError, ValueError, KeyError) as error:
            raise DemoError(f"/gaps of the sidecar of {name}: {error!r}") from error

    async def _stop(self) -> None:
        await stop_all(self._children)
        self._children.clear()
        self._ports.close()
