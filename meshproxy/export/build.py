"""From an exporter's settings to its worker."""

from __future__ import annotations

import sys
from typing import TextIO
from urllib.parse import urlsplit, urlunsplit

from meshproxy.config.model import ConsoleExporter, FileExporter, OtlpExporter
from meshproxy.config.model import Exporter as ExporterSettings
from meshproxy.export.console import ConsoleSpanExporter
from meshproxy.export.exporter import Exporter
from meshproxy.export.file import FileSpanExporter
from meshproxy.export.otlp_http import OtlpHttpExporter, traces_url
from meshproxy.export.retry import Retry
from meshproxy.export.worker import Worker
from meshproxy.trace.span import Attributes


def build(
    settings: ExporterSettings, resource: Attributes, *, console: TextIO | None = None
) -> Worker:
    """Make the worker of an exporter; ``console`` is standard output unless given.

    Raises `ExporterSettingsError` for settings with which it can never work.
    """
    retry_for = settings.retry_for if isinstance(settings, OtlpExporter) else 0.0
    exporter = _exporter(settings, resource, console or sys.stdout)
    return Worker(_name(settings), exporter, settings.queue, Retry(retry_for))


def _exporter(settings: ExporterSettings, resource: Attributes, console: TextIO) -> Exporter:
    match settings:
        case OtlpExporter():
            return OtlpHttpExporter(settings, resource)
        case FileExporter(path=path):
            return FileSpanExporter(path, resource)
        case ConsoleExporter():
            return ConsoleSpanExporter(console)


def _name(settings: ExporterSettings) -> str:
    """Tell exporters apart in logs and metrics, without what may be secret in a URL."""
    match settings:
        case OtlpExporter(endpoint=endpoint):
            parts = urlsplit(traces_url(endpoint))
            host = parts.netloc.rpartition("@")[2]
            return f"otlp {urlunsplit((parts.scheme, host, parts.path, '', ''))}"
        case FileExporter(path=path):
            return f"file {path}"
        case ConsoleExporter():
            return "console"
