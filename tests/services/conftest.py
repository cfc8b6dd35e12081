"""What the tests against real servers share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import uvloop

from meshproxy.demo.processes import Ports
from tests.services.kit.daemon import Daemons
from tests.services.kit.kafka import Kafka, running
from tests.services.kit.origin import Origin
from tests.services.kit.programs import KAFKA, OLDER_KAFKA
from tests.support.fixtures import Spawn, collector, ports, spawn
from tests.support.otlp import Collector
from tests.support.process import SidecarProcess

__all__ = ["collector", "ports", "spawn"]

Sidecar = Callable[[int], Awaitable[SidecarProcess]]
Brokered = Callable[..., Awaitable[SidecarProcess]]


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
async def daemons(tmp_path: Path, ports: Ports) -> AsyncIterator[Daemons]:
    """Starts servers; ends them all."""
    running = Daemons(tmp_path, ports)
    yield running
    await running.close()


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    """The service at the far end."""
    origin = await Origin().start()
    yield origin
    await origin.stop()


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """A client that shows bodies as they are on the wire."""
    timeout = aiohttp.ClientTimeout(total=60)
    async with aiohttp.ClientSession(auto_decompress=False, timeout=timeout) as session:
        yield session


@pytest.fixture
def inbound(spawn: Spawn, collector: Collector) -> Sidecar:
    """``await inbound(port)``: a sidecar in front of what listens there."""

    async def begin(port: int) -> SidecarProcess:
        return await spawn(
            {
                "service": {"name": "front"},
                "inbound": [{"upstream": f"127.0.0.1:{port}"}],
                "export": [exporter(collector.endpoint)],
            }
        )

    return begin


@pytest.fixture
def outbound(spawn: Spawn, collector: Collector) -> Sidecar:
    """``await outbound(port)``: a sidecar with one outbound route, to what listens there."""

    async def begin(port: int) -> SidecarProcess:
        return await spawn(
            {
                "service": {"name": "caller"},
                "outbound": [{"upstream": f"127.0.0.1:{port}", "peer": "callee"}],
                "export": [exporter(collector.endpoint)],
            }
        )

    return begin


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """Three brokers of the newest version. Every test has topics of its own in them."""
    yield from running(tmp_path_factory.mktemp("kafka"), KAFKA, 3)


@pytest.fixture(scope="session")
def older_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """One broker of the version before, which still speaks what 4.0 has dropped."""
    yield from running(tmp_path_factory.mktemp("older-kafka"), OLDER_KAFKA, 1)


@pytest.fixture
def brokered(spawn: Spawn, collector: Collector) -> Brokered:
    """``await brokered(cluster)``: a sidecar through which a cluster is reached.

    ``listener`` is the brokers' listener, ``node`` the broker that is asked first; what else is
    given is configured for the route.
    """

    async def begin(
        cluster: Kafka, listener: str = "PLAINTEXT", node: int = 1, **route: Any
    ) -> SidecarProcess:
        upstream = {"upstream": cluster.address(node, listener), "protocol": "kafka"}
        return await spawn(
            {
                "service": {"name": "app"},
                "outbound": [upstream | route],
                "export": [exporter(collector.endpoint)],
            }
        )

    return begin


def exporter(endpoint: str) -> dict[str, object]:
    """OTLP, sent soon."""
    return {"type": "otlp", "endpoint": endpoint, "queue": {"interval": "100ms"}}
