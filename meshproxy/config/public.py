"""The configuration as it may be shown to others."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit, urlunsplit

import msgspec

from meshproxy.config.model import Config

REDACTED = "***"


def to_public(config: Config) -> dict[str, Any]:
    """``config`` as plain values for JSON, without what may be secret.

    Redacted are the values of header fields that exporters send, and the user information and the
    query of URLs.
    """
    public: dict[str, Any] = msgspec.to_builtins(config, builtin_types=())
    for exporter in public["export"]:
        if "headers" in exporter:
            exporter["headers"] = dict.fromkeys(exporter["headers"], REDACTED)
        if "endpoint" in exporter:
            exporter["endpoint"] = _redact_url(exporter["endpoint"])
    return public


def _redact_url(url: str) -> str:
    parts = urlsplit(url)
    _user, at, host = parts.netloc.rpartition("@")
    return urlunsplit(
        parts._replace(
            netloc=f"{REDACTED}@{host}" if at else host,
            query=REDACTED if parts.query else "",
        )
    )
