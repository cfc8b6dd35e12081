"""On uvloop, as in the product."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import uvloop

from tests.support.fixtures import app, collector, inbound, outbound, ports, spawn, start
from tests.transport.shouting import talk

__all__ = ["app", "collector", "inbound", "outbound", "ports", "spawn", "start", "talk"]


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}
