"""What both styles of service share: neighbours' addresses and the access record."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping


def neighbour(name: str) -> str:
    """The base URL of another service, from the environment."""
    return os.environ[f"{name.upper()}_URL"]


def announce(service: str) -> None:
    """Tell on standard output that the service accepts connections."""
    _write({"event": "listening", "service": service})


def record_access(
    service: str, method: str, path: str, status: int, started: float, headers: Mapping[str, str]
) -> None:
    """Write the access record of one request, which came in at ``started`` (Unix time, seconds).

    The received traceparent is noted as any other field of interest would be. Nothing acts on it.
    """
    _write(
        {
            "event": "request",
            "service": service,
            "method": method,
            "path": path,
            "status": status,
            "time": started,
            "duration_ms": round((time.time() - started) * 1000, 3),
            "traceparent": headers.get("traceparent"),
        }
    )


def _write(fields: dict[str, object]) -> None:
    """One write a line, so that lines of several threads do not mix."""
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()
