"""On uvloop, and with as many open files as the system allows."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
import uvloop

from tests.scale.load import Server
from tests.support.fixtures import app, ports, spawn

__all__ = ["app", "ports", "spawn"]


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(autouse=True)
def open_files() -> Iterator[int]:
    """How many files we may have open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    """An upstream that answers everything."""
    server = await Server().start()
    yield server
    await server.stop()
