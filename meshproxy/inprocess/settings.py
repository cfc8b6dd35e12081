"""Settings from environment variables, by their OpenTelemetry names.

What cannot be read is logged and left at its default: an application must not fail by its tracing.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote, urlsplit, urlunsplit

from meshproxy import __version__
from meshproxy.config import formats
from meshproxy.config.model import Service
from meshproxy.export.otlp_http import traces_url
from meshproxy.export.resource import resource_attributes
from meshproxy.trace.span import Attributes

SIDECAR: Final = "http://127.0.0.1:15000/v1/traces"
"""Where the sidecar's admin listener takes spans (`meshproxy.sidecar.ingest`)."""

BEHIND_SIDECAR: Final = "MESHPROXY_KAFKA_SIDECAR"
"""Set where the wire filter stands in between: it does what only it can know."""

_YES, _NO = ("1", "true", "yes", "on"), ("0", "false", "no", "off", "")

_OF_THE_EXPORTER: Final = frozenset(
    (
        "connection", "content-encoding", "content-length", "content-type", "expect", "te",
        "trailer", "transfer-encoding", "upgrade",
    )
)  # fmt: skip
"""Header fields that say how a request is framed, or what it holds (RFC 9110)."""

_ENDPOINTS: Final = (
    ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", ""),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "/v1/traces"),
)
"""By precedence, and what is added to the URL."""

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
        headers=_headers(environ, "OTEL_EXPORTER_OTLP_HEADERS")
        | _headers(environ, "OTEL_EXPORTER_OTLP_TRACES_HEADERS"),
        ratio=_ratio(environ),
        service=environ.get("OTEL_SERVICE_NAME") or named,
        attributes=attributes,
    )


def behind_sidecar(environ: Mapping[str, str]) -> bool:
    """Whether the wire filter stands in between (`BEHIND_SIDECAR`)."""
    text = environ.get(BEHIND_SIDECAR, "").strip().lower()
    if text not in _YES + _NO:
        log.warning("%s is neither 1 nor 0: %r; it counts as 0", BEHIND_SIDECAR, text)
    return text in _YES


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
    """The endpoint for traces as it is, or the common one with ``/v1/traces`` at its path's end."""
    for name, path in _ENDPOINTS:
        url = environ.get(name, "").strip()
        if url:
            try:
                return _below(url, path)
            except ValueError as error:
                log.warning("%s %s; spans go to %s", name, error, SIDECAR)
                break
    return SIDECAR


def _below(url: str, path: str) -> str:
    """Check a URL, and add ``path`` to it. Raises ValueError with a message for people."""
    formats.check("url", url)
    parts = urlsplit(url)
    try:
        (parts.hostname or "").encode("idna")
    except UnicodeError:
        raise ValueError("must be a URL whose host has labels of 1 to 63 characters") from None
    if path:
        parts = parts._replace(path=parts.path.rstrip("/") + path)
    return traces_url(urlunsplit(parts))


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


def _headers(environ: Mapping[str, str], name: str) -> dict[str, str]:
    """Pairs that can be header fields. No value is logged: it may be secret."""
    found: dict[str, str] = {}
    for key, value in _pairs(environ, name).items():
        try:
            if key.lower() in _OF_THE_EXPORTER:
                raise ValueError("is not for others to set")
            formats.check("header name", key)
            formats.check("header value", value)
        except ValueError as error:
            log.warning("%s: %r is ignored: its name or value %s", name, key, error)
        else:
            found[key] = value
    return found


def _pairs(environ: Mapping[str, str], name: str) -> dict[str, str]:
    """``key=value,key=value``, percent-encoded (W3C Baggage without properties)."""
    pairs: dict[str, str] = {}
    for number, item in enumerate(filter(str.strip, environ.get(name, "").split(",")), 1):
        key, equals, value = item.partition("=")
        if equals and key.strip():
            pairs[unquote(key.strip())] = unquote(value.strip())
        else:  # not shown: it may be a secret
            log.warning("%s has no key or no value in item %d", name, number)
    return pairs
