"""A cluster of mock brokers for all tests, and sidecars in front of it for each."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from meshproxy.demo.processes import Ports
from tests.kafka.bed import Sidecar, Start, Through, exporting, route
from tests.kafka.mock_cluster import MockCluster
from tests.kafka.relay import Relay
from tests.support.fixtures import collector, ports, spawn
from tests.support.otlp import Collector

__all__ = ["collector", "ports", "spawn"]

_topics = count()


@pytest.fixture(scope="session")
def cluster() -> Iterator[MockCluster]:
    cluster = MockCluster().start()
    yield cluster
    cluster.stop()


@pytest.fixture
def topic() -> str:
    """The name of a topic of the test's own."""
    return f"topic-{next(_topics)}"


@pytest.fixture
async def relay(cluster: MockCluster) -> AsyncIterator[Relay]:
    """Between a sidecar and the cluster, for those who name its ``broker`` as upstream."""
    relay = await Relay(cluster).start()
    yield relay
    await relay.stop()


@pytest.fixture
async def start(tmp_path: Path, ports: Ports) -> AsyncIterator[Start]:
    """Start sidecars in this event loop: ``await start({...})``."""
    running: list[Sidecar] = []

    async def begin(config: dict[str, Any]) -> Sidecar:
        sidecar = Sidecar(tmp_path, ports)
        await sidecar.start(config)
        running.append(sidecar)
        return sidecar

    yield begin
    for sidecar in running:
        await sidecar.close()


@pytest.fixture
async def through(cluster: MockCluster, collector: Collector, start: Start) -> Through:
    """``await through(per_record=True)``: a sidecar with one way, to the cluster or a relay."""

    async def begin(by: Relay | None = None, **kafka: Any) -> Sidecar:
        return await start(
            {
                "service": {"name": "orders"},
                "outbound": [route(by or cluster, **kafka)],
                "export": exporting(collector),
                "linking": {"process": "off"},  # all of this is one process
            }
        )

    return begin


@pytest.fixture
async def sidecar(through: Through) -> Sidecar:
    """One with the settings that it has by default."""
    return await through()
