"""Settings from environment variables, by their OpenTelemetry names.

What cannot be read is logged and left at its default: an application must not fail by its tracing.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote

from meshproxy import __version__
from meshproxy.config.model import Service
from meshproxy.export.exporter import ExporterSettingsError
from meshproxy.export.otlp_http import traces_url
from meshproxy.export.resource import resource_attributes
from meshproxy.trace.span import Attributes

SIDECAR: Final = "http://127.0.0.1:15000/v1/traces"
"""Where the sidecar's admin listener takes spans (`meshproxy.sidecar.ingest`)."""

_SERVICE_NAME, _INSTANCE = "service.name", "service.instance.id"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settings:
    """Where spans go, which of them, and what they say of the process.

    ``endpoint`` is a whole URL. ``ratio`` is the share of new traces that is kept.
    """

    endpoint: str = SIDECAR
    headers: Mapping[str, str] = field(default_factory=dict)
    ratio: float = 1.0
    service: str = "unknown_service"
    attributes: Mapping[str, str] = field(default_factory=dict)


def read(environ: Mapping[str, str]) -> Settings:
    """Read ``OTEL_EXPORTER_OTLP_*``, ``OTEL_SERVICE_NAME`` and others (docs/kafka-clients.md)."""
    attributes = _pairs(environ, "OTEL_RESOURCE_ATTRIBUTES")
    named = attributes.pop(_SERVICE_NAME, "") or "unknown_service"
    return Settings(
        endpoint=_endpoint(environ),
        headers=_pairs(environ, "OTEL_EXPORTER_OTLP_HEADERS")
        | _pairs(environ, "OTEL_EXPORTER_OTLP_TRACES_HEADERS"),
        ratio=_ratio(environ),
        service=environ.get("OTEL_SERVICE_NAME") or named,
        attributes=attributes,
    )


def resource(settings: Settings, host: str, pid: int) -> Attributes:
    """Describe this process as the resource of its spans."""
    attributes = dict(settings.attributes)
    instance = attributes.pop(_INSTANCE, "") or f"{host}-{pid}"
    return resource_attributes(
        Service(name=settings.service, attributes=attributes),
        instance=instance,
        version=__version__,
        detected={"host.name": host, "process.pid": pid},
    )


def _endpoint(environ: Mapping[str, str]) -> str:
    """The endpoint for traces as it is, or the common one with ``/v1/traces`` behind it."""
    whole = environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "").strip()
    base = environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", "").strip()
    url = whole or (base.rstrip("/") + "/v1/traces" if base else SIDECAR)
    try:
        return traces_url(url)
    except ExporterSettingsError as error:
        log.warning("%s; spans go to %s", error, SIDECAR)
        return SIDECAR


def _ratio(environ: Mapping[str, str]) -> float:
    text = environ.get("OTEL_TRACES_SAMPLER_ARG", "").strip()
    try:
        ratio = float(text or 1)
    except ValueError:
        ratio = -1.0
    if 0.0 <= ratio <= 1.0:
        return ratio
    log.warning("OTEL_TRACES_SAMPLER_ARG is no ratio between 0 and 1: %r; all is kept", text)
    return 1.0


def _pairs(environ: Mapping[str, str], name: str) -> dict[str, str]:
    """``key=value,key=value``, percent-encoded (W3C Baggage without properties)."""
    pairs: dict[str, str] = {}
    for item in filter(str.strip, environ.get(name, "").split(",")):
        key, equals, value = item.partition("=")
        if equals and key.strip():
            pairs[unquote(key.strip())] = unquote(value.strip())
        else:
            log.warning("%s has an item without key or value: %r", name, item)
    return pairs
