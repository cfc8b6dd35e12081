"""Fixtures over the test support; a conftest imports those that its tests use."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from meshproxy.demo.processes import Ports
from tests.support.inprocess import InProcess
from tests.support.otlp import Collector
from tests.support.process import SidecarProcess
from tests.support.raw import App

Start = Callable[..., Awaitable[InProcess]]
Spawn = Callable[..., Awaitable[SidecarProcess]]


@pytest.fixture
def ports() -> Iterator[Ports]:
    """``ports.take()`` gives a free port; nobody listens there, so connections are refused."""
    held = Ports()
    yield held
    held.close()


@pytest.fixture
async def app() -> AsyncIterator[App]:
    """A raw upstream server."""
    app = await App().start()
    yield app
    await app.stop()


@pytest.fixture
async def start(tmp_path: Path, ports: Ports, app: App) -> AsyncIterator[Start]:
    """Start sidecars in this event loop: ``await start({...})``."""
    running: list[InProcess] = []

    async def begin(config: dict[str, Any], **options: Any) -> InProcess:
        sidecar = InProcess(tmp_path, ports)
        await sidecar.start(config, **options)
        running.append(sidecar)
        return sidecar

    yield begin
    for sidecar in running:
        await sidecar.close()


@pytest.fixture
async def spawn(tmp_path: Path, ports: Ports) -> AsyncIterator[Spawn]:
    """Start sidecars as processes: ``await spawn({...})``."""
    running: list[SidecarProcess] = []

    async def begin(config: dict[str, Any], **options: Any) -> SidecarProcess:
        process = SidecarProcess(tmp_path, ports)
        running.append(process)
        await process.start(config, **options)
        return process

    yield begin
    for process in running:
        await process.close()


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    """An OTLP/HTTP backend; ask for it before ``start``, so that it is there for the last spans."""
    collector = await Collector().start()
    yield collector
    await collector.stop()


Through = Callable[..., Awaitable[InProcess]]


@pytest.fixture
async def outbound(start: Start, app: App) -> Through:
    """A sidecar with one outbound route to ``app`` that adds nothing: bytes pass as they are.

    Arguments are limits. ``protocol="auto"`` detects the protocol, and may connect early to an
    upstream that could speak first: a connection more, which a test must then reckon with.
    """

    async def begin(protocol: str = "http", **limits: Any) -> InProcess:
        route = {"upstream": f"127.0.0.1:{app.port}", "trust": "edge", "peer": "app"}
        return await start({"outbound": [route | {"protocol": protocol}], "limits": limits})

    return begin


@pytest.fixture
async def inbound(start: Start, app: App) -> Through:
    """A sidecar in front of ``app``. Arguments are limits."""

    async def begin(**limits: Any) -> InProcess:
        return await start({"inbound": [{"upstream": f"127.0.0.1:{app.port}"}], "limits": limits})

    return begin
