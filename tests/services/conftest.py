"""What the tests against real servers share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import aiohttp
import pytest
import uvloop

from meshproxy.demo.processes import Ports
from tests.services.kit.daemon import Daemons
from tests.services.kit.origin import Origin
from tests.support.fixtures import Spawn, collector, ports, spawn
from tests.support.otlp import Collector
from tests.support.process import SidecarProcess

__all__ = ["collector", "ports", "spawn"]

Sidecar = Callable[[int], Awaitable[SidecarProcess]]


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


def exporter(endpoint: str) -> dict[str, object]:
    """OTLP, sent soon."""
    return {"type": "otlp", "endpoint": endpoint, "queue": {"interval": "100ms"}}
