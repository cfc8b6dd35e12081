"""What a peer is: how to start it, what it is called, whether it is here."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Wiring:
    """The ports, on the loopback interface, and the folder that one peer is started with."""

    name: str
    directory: Path
    listen: int
    """Where requests come in."""
    upstream: int
    """Where requests go: the backend, or the app that makes a call."""
    outbound: int
    """Where the app's call comes in; a second listener of the same proxy."""
    backend: int
    """Where the app's call goes."""
    admin: int
    sink: int
    spans_url: str
    """Where spans go: the sink's port and a path of the peer's own."""


@dataclass(frozen=True, slots=True)
class Peer:
    """One proxy in one configuration: one row of a table."""

    name: str
    about: str
    missing: Callable[[], str | None]
    """Why the peer cannot be measured here, or nothing."""
    version: Callable[[], str]
    command: Callable[[Wiring], list[str]]
    """Writes the configuration; returns what starts the process."""
    traced: bool = False
    calls: bool = False
    """The upstream is the app, which makes one call through the peer's second listener."""


def first_line(*command: str | Path) -> str:
    """What a program prints first, usually its version, on either stream; empty if it fails."""
    try:
        done = subprocess.run(
            list(command), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    return lines[0].strip() if lines else ""
