"""One mesh for all tests, as its sidecars are processes that take a while; a bed for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from meshproxy.demo.processes import Ports
from tests.e2e.bed import Bed, Lay, Service
from tests.e2e.mesh import Mesh


@pytest.fixture
async def lay(tmp_path: Path) -> AsyncIterator[Lay]:
    """A bed for a service: ``await lay(service, sampling={...})``."""
    made: list[Bed] = []

    async def make(service: Service, **config: Any) -> Bed:
        bed = Bed(tmp_path, service)
        made.append(bed)
        await bed.start(config)
        return bed

    yield make
    for bed in made:
        await bed.stop()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def mesh(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Mesh]:
    ports = Ports()
    directory: Path = tmp_path_factory.mktemp("mesh")
    mesh = Mesh(directory, ports)
    try:
        await mesh.start()
        yield mesh
    finally:
        await mesh.stop()
        ports.close()
