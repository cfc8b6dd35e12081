"""Resource attributes: which service spans are about (OpenTelemetry resource conventions)."""

from __future__ import annotations

from collections.abc import Mapping

from meshproxy.config.model import Service
from meshproxy.trace.span import Attributes, AttributeValue


def resource_attributes(
    service: Service,
    *,
    instance: str,
    version: str,
    detected: Mapping[str, AttributeValue] | None = None,
) -> Attributes:
    """Describe the service that the proxy stands beside, sorted by key.

    ``instance`` is the service.instance.id unless the configuration names one, ``version``
    meshproxy's own, and ``detected`` what is known about host and process (``host.name``,
    ``process.pid`` …). The service's free attributes win over detected ones, its named fields
    over both. meshproxy is named as telemetry.distro, not telemetry.sdk: no SDK made these
    spans, and telemetry.sdk.language would be taken for the service's language.
    """
    named = {
        "service.name": service.name,
        "service.namespace": service.namespace,
        "service.version": service.version,
        "service.instance.id": service.instance or instance,
        "deployment.environment.name": service.environment,
        "telemetry.distro.name": "meshproxy",
        "telemetry.distro.version": version,
    }
    merged: dict[str, AttributeValue] = dict(detected or {})
    merged.update(service.attributes)
    merged.update({key: value for key, value in named.items() if value is not None})
    return tuple(sorted(merged.items()))
