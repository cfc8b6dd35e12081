"""Envoy in front of one server, with its OpenTelemetry tracer at 100 %."""

from __future__ import annotations

import json
from typing import Any

from tests.services.kit.daemon import Daemons
from tests.services.kit.programs import envoy

TYPES = "type.googleapis.com/envoy."
HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
FLUSH_MILLISECONDS = 100


def _cluster(name: str, port: int, options: dict[str, Any]) -> dict[str, Any]:
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    assignment = {
        "cluster_name": name,
        "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
    }
    protocol = {
        "@type": f"type.googleapis.com/{HTTP_OPTIONS}",
        "explicit_http_config": {"http_protocol_options": options},
    }
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "5s",
        "load_assignment": assignment,
        "typed_extension_protocol_options": {HTTP_OPTIONS: protocol},
    }


def _tracing(endpoint: str) -> dict[str, Any]:
    uri = {"uri": f"{endpoint}/v1/traces", "cluster": "collector", "timeout": "5s"}
    return {
        "random_sampling": {"value": 100},
        "provider": {
            "name": "envoy.tracers.opentelemetry",
            "typed_config": {
                "@type": TYPES + "config.trace.v3.OpenTelemetryConfig",
                "service_name": "envoy",
                "http_service": {"http_uri": uri},
            },
        },
    }


def _manager(endpoint: str) -> dict[str, Any]:
    route = {"match": {"prefix": "/"}, "route": {"cluster": "upstream", "timeout": "0s"}}
    return {
        "@type": TYPES
        + "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "in",
        "codec_type": "HTTP1",
        "http_protocol_options": {"enable_trailers": True},
        "upgrade_configs": [{"upgrade_type": "websocket"}],
        "tracing": _tracing(endpoint),
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": TYPES + "extensions.filters.http.router.v3.Router"},
            }
        ],
    }


def _listener(port: int, direction: str, endpoint: str) -> dict[str, Any]:
    connection_manager = {
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": _manager(endpoint),
    }
    return {
        "name": "in",
        "traffic_direction": direction,
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [{"filters": [connection_manager]}],
    }


async def start_envoy(
    daemons: Daemons, upstream: int, endpoint: str, direction: str = "INBOUND"
) -> int:
    """Start Envoy, exporting OTLP to ``endpoint``; returns its port.

    ``direction`` tells which kind its spans have: INBOUND means SERVER, OUTBOUND means CLIENT.
    """
    port = daemons.port()
    layer = {"tracing.opentelemetry.flush_interval_ms": FLUSH_MILLISECONDS}
    collector = int(endpoint.rpartition(":")[2])
    config = {
        "node": {"id": "envoy", "cluster": "envoy"},
        "layered_runtime": {"layers": [{"name": "static", "static_layer": layer}]},
        "static_resources": {
            "listeners": [_listener(port, direction, endpoint)],
            "clusters": [
                _cluster("upstream", upstream, {"enable_trailers": True}),
                _cluster("collector", collector, {}),
            ],
        },
    }
    path = daemons.file(f"envoy-{port}.json", json.dumps(config))
    options = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "warn"]
    await daemons.start(f"envoy-{port}", [envoy(), "-c", path, *options], port)
    return port
