"""The services: what each is, how it is started, why it may not be here."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from loadtest.processes import find_tool

ROOT = Path(__file__).resolve().parents[3]
GUNICORN = ROOT / ".cache" / "linking-live-venv" / "bin" / "gunicorn"
PACKAGE = "loadtest.linking.live.services"
SCRIPT = Path(__file__).parent / "services" / "service.js"

MANY_WORKERS = 40
"""More than requests in flight: each worker belongs to one kept connection."""
FEW_WORKERS = 8
POOL_WORKERS = 16


@dataclass(frozen=True, slots=True)
class Service:
    """``command`` is given the settings file and the port."""

    name: str
    about: str
    command: Callable[[Path, int], Sequence[str | Path]]
    workers: int = 1
    missing: Callable[[], str | None] = lambda: None
    """Why it cannot be run here, or nothing."""


def _python(module: str, *words: str) -> Callable[[Path, int], Sequence[str | Path]]:
    def command(settings: Path, _port: int) -> Sequence[str | Path]:
        return [sys.executable, "-m", f"{PACKAGE}.{module}", settings, *words]

    return command


def _gunicorn(settings: Path, port: int) -> Sequence[str | Path]:
    return [
        *(GUNICORN, "--bind", f"127.0.0.1:{port}", "--workers", str(FEW_WORKERS)),
        *("--worker-class", "sync", "--backlog", "512", "--pythonpath", ROOT),
        *("--no-control-socket", f'{PACKAGE}.wsgi:application("{settings}")'),
    ]


def _node(settings: Path, _port: int) -> Sequence[str | Path]:
    return [find_tool("node") or "node", SCRIPT, settings]


def _without_gunicorn() -> str | None:
    return None if GUNICORN.exists() else "no gunicorn: loadtest/linking/live/setup.sh installs it"


def _without_node() -> str | None:
    return None if find_tool("node") else "node is not installed"


SERVICES = (
    Service(
        "prefork",
        f"{MANY_WORKERS} processes, connections kept",
        _python("prefork", "keep"),
        MANY_WORKERS,
    ),
    Service(
        "prefork-close",
        f"{FEW_WORKERS} processes, a connection for each request and call",
        _python("prefork", "close"),
        FEW_WORKERS,
    ),
    Service(
        "gunicorn",
        f"{FEW_WORKERS} sync workers; a thread makes calls after the answer",
        _gunicorn,
        FEW_WORKERS,
        _without_gunicorn,
    ),
    Service(
        "threads",
        "a thread for each kept connection, with its own connections",
        _python("threads", "keep", "own"),
    ),
    Service(
        "threads-shared",
        "the same, but threads share the connections of their calls",
        _python("threads", "keep", "shared"),
    ),
    Service(
        "threads-close",
        "a thread and new connections for each request (HTTP/1.0)",
        _python("threads", "close", "own"),
    ),
    Service(
        "pool",
        f"one thread reads, {POOL_WORKERS} work off a queue, shared connections",
        _python("pool"),
        POOL_WORKERS,
    ),
    Service("asyncio", "aiohttp, server and client", _python("aio")),
    Service("node", "Node.js, http with a keep-alive agent", _node, missing=_without_node),
)

BY_NAME = {service.name: service for service in SERVICES}
