"""What all styles of service share: where others are, and the record of what came in."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping

TOPIC = "shipments"
"""Where orders are announced that are to be shipped, by their number."""


def neighbour(name: str) -> str:
    """The base URL of another service, from the environment."""
    return os.environ[f"{name.upper()}_URL"]


def bootstrap() -> str:
    """The address of the Kafka broker, from the environment."""
    return os.environ["KAFKA_BOOTSTRAP"]


def announce(service: str) -> None:
    """Tell on standard output that the service is ready for work."""
    _write({"event": "listening", "service": service})


def record_access(
    service: str,
    method: str,
    path: str,
    status: int | None,
    started: float,
    headers: Mapping[str, str],
) -> None:
    """Write the access record of one request, which came in at ``started`` (Unix time, seconds).

    Of a message, ``path`` is topic and key, and there is no status.

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
