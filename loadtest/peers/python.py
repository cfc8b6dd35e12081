"""Two proxies of our own, to know what Python costs by itself."""

from __future__ import annotations

import platform
import sys
from functools import partial
from importlib.metadata import version

from loadtest.peers.base import Peer, Wiring


def _nothing_missing() -> str | None:
    return None


def _version(package: str) -> str:
    return f"{package}/{version(package)}, Python {platform.python_version()}"


def _command(wiring: Wiring, module: str) -> list[str]:
    program = f"loadtest.peers.{module}"
    return [sys.executable, "-m", program, str(wiring.listen), str(wiring.upstream)]


def _peer(name: str, about: str, package: str, module: str) -> Peer:
    return Peer(
        name, about, _nothing_missing, partial(_version, package), partial(_command, module=module)
    )


PEERS = (
    _peer(
        "aiohttp", "a plain aiohttp proxy on uvloop, without tracing", "aiohttp", "aiohttp_proxy"
    ),
    _peer("splice", "a bare asyncio.Protocol splice on uvloop: copies bytes", "uvloop", "splice"),
)
