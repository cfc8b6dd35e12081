"""How many files the process may have open: a connection is one, and one more with its upstream."""

from __future__ import annotations

import resource
from contextlib import suppress

import msgspec

from meshproxy import logs
from meshproxy.config.model import Limits

FILES_PER_CONNECTION = 2
OTHER_FILES = 64
"""Listeners, connections of the exporters, admin clients, certificate files."""

log = logs.get(__name__)


def raise_limit() -> None:
    """Allow ourselves as many open files as the system lets us."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # an unlimited hard limit cannot always be used up
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def within_files(limits: Limits) -> Limits:
    """``limits`` with no more connections than there are files for; says so if it has to.

    Otherwise clients would take them all, and none would be left to reach an upstream.
    """
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough_for = max(1, (files - OTHER_FILES) // FILES_PER_CONNECTION)
    if files == resource.RLIM_INFINITY or limits.connections <= enough_for:
        return limits
    log.warning(
        "fewer connections than limits.connections: too few files may be open",
        configured=limits.connections,
        connections=enough_for,
        open_files=files,
    )
    return msgspec.structs.replace(limits, connections=enough_for)
