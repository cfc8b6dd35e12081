"""What a peer is: how to start it, what it is called, whether it is here."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from loadtest.processes import NotReadyError

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Place:
    """The ports, on the loopback interface, and the folder that one process is started with."""

    name: str
    directory: Path
    listen: int
    """Where requests come in."""
    admin: int
    spans_url: str
    """Where spans go: the sink's port and a path of the peer's own."""


W = TypeVar("W", bound=Place)


@dataclass(frozen=True, slots=True)
class Proxy(Generic[W]):
    """One proxy in one configuration: one row of a table."""

    name: str
    about: str
    missing: Callable[[], str | None]
    """Why the peer cannot be measured here, or nothing."""
    version: Callable[[], str]
    command: Callable[[W], list[str]]
    """Writes the configuration; returns what starts the process."""
    traced: bool = False


@dataclass(frozen=True, slots=True)
class Wiring(Place):
    """What one peer is started with, for HTTP."""

    upstream: int
    """Where requests go: the backend, or the app that makes a call."""
    outbound: int
    """Where the app's call comes in; a second listener of the same proxy."""
    backend: int
    """Where the app's call goes."""
    sink: int


@dataclass(frozen=True, slots=True)
class Peer(Proxy[Wiring]):
    """A proxy of HTTP."""

    calls: bool = False
    """The upstream is the app, which makes one call through the peer's second listener."""


P = TypeVar("P", bound=Proxy[Any])
R = TypeVar("R")


def start_all(
    peers: Iterable[P], start: Callable[[P], R], say: Callable[[str], None]
) -> tuple[dict[str, R], dict[str, str]]:
    """Start all peers: what runs, and the reasons of those that do not work, by names.

    ``start`` raises `NotReadyError`; ``say`` is told of it.
    """
    running: dict[str, R] = {}
    unavailable: dict[str, str] = {}
    for peer in peers:
        reason = peer.missing()
        if reason is None:
            try:
                running[peer.name] = start(peer)
                continue
            except NotReadyError as error:
                reason = str(error)
        unavailable[peer.name] = reason
        say(f"{peer.name} is not available: {reason}")
    return running, unavailable


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
