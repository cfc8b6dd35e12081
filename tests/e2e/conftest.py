"""One mesh for all tests of a module: its sidecars are processes that take a while to start."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from meshproxy.demo.processes import Ports
from tests.e2e.mesh import Mesh


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
