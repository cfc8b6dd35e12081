"""Finished spans to backends: queue, batch, retry, drop and count.

`Telemetry` is what the sidecar uses. Behind it stands a `Worker` for each exporter, with a bounded
`SpanQueue`, a `Retry` and an `Exporter`, which is all that differs between backends.
"""

from meshproxy.export.build import build
from meshproxy.export.exporter import (
    Exporter,
    ExportError,
    ExporterSettingsError,
    PermanentError,
    RetryableError,
    SendResult,
)
from meshproxy.export.resource import resource_attributes
from meshproxy.export.telemetry import Telemetry
from meshproxy.export.worker import ExporterStats, Worker

__all__ = [
    "ExportError",
    "Exporter",
    "ExporterSettingsError",
    "ExporterStats",
    "PermanentError",
    "RetryableError",
    "SendResult",
    "Telemetry",
    "Worker",
    "build",
    "resource_attributes",
]
