"""What stands between client and broker: one row of a table each."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from functools import partial
from shutil import which
from typing import Any

from loadtest.kafka.broker import NODE_ID, Broker
from loadtest.kafka.loads import MESSAGE_BYTES
from loadtest.peers.base import ROOT, Place, Proxy, first_line
from loadtest.peers.meshproxy import BINARY
from loadtest.peers.registry import BY_NAME

SIDECAR = BY_NAME["meshproxy"]
KROXYLICIOUS = ROOT / ".cache/kroxylicious"

PRODUCT = "meshproxy"
OPAQUE = "opaque"
NEAREST = "kroxylicious"


@dataclass(frozen=True, slots=True)
class Wiring(Place):
    """What one peer is started with; clients are told of ``listen`` as the bootstrap server."""

    broker: Broker
    node: int
    """The port at which the only broker is to be."""


@dataclass(frozen=True, slots=True)
class Peer(Proxy[Wiring]):
    """A proxy of Kafka."""

    reads: bool = True
    """Whether it reads the protocol, so that it can say where the brokers are."""


def _sidecar(wiring: Wiring, outbound: dict[str, Any], changes: dict[str, Any]) -> list[str]:
    config: dict[str, Any] = {
        "service": {"name": "cart", "version": "2.4.1", "environment": "production"},
        "outbound": [{"listen": f"127.0.0.1:{wiring.listen}", **outbound}],
        "sampling": {"default": 1.0},
        "export": [{"type": "otlp", "endpoint": wiring.spans_url}],
        "admin": {"listen": f"127.0.0.1:{wiring.admin}"},
    }
    config.update(copy.deepcopy(changes))
    # JSON is YAML too.
    file = wiring.directory / f"{wiring.name}.yaml"
    file.write_text(json.dumps(config, indent=1))
    return [str(BINARY), "sidecar", "-c", str(file)]


def _tracing(wiring: Wiring, kafka: dict[str, Any], changes: dict[str, Any]) -> list[str]:
    settings = {"message_bytes": MESSAGE_BYTES, "broker_ports": wiring.node - NODE_ID, **kafka}
    outbound = {
        "upstream": f"127.0.0.1:{wiring.broker.direct}",
        "protocol": "kafka",
        "kafka": settings,
    }
    return _sidecar(wiring, outbound, changes)


def _passing(wiring: Wiring) -> list[str]:
    upstream = wiring.broker.relayed or wiring.broker.direct
    return _sidecar(wiring, {"upstream": f"127.0.0.1:{upstream}", "protocol": "opaque"}, {})


def _variant(
    name: str, about: str, kafka: dict[str, Any], changes: dict[str, Any], *, traced: bool = True
) -> Peer:
    command = partial(_tracing, kafka=kafka, changes=changes)
    return Peer(name, about, SIDECAR.missing, SIDECAR.version, command, traced=traced)


def _kroxylicious_missing() -> str | None:
    if which("java") is None:
        return "no Java"
    if not (KROXYLICIOUS / "stamp").exists():
        return "not installed; loadtest/kafka/setup.sh says why"
    return None


def _kroxylicious_version() -> str:
    jar = next((KROXYLICIOUS / "lib").glob("kroxylicious-runtime-*.jar"))
    return f"{jar.stem.replace('-runtime-', '/')}, {first_line('java', '-version')}"


def _kroxylicious(wiring: Wiring) -> list[str]:
    ports = {
        "bootstrapAddress": f"127.0.0.1:{wiring.listen}",
        "nodeStartPort": wiring.node,
        "nodeIdRanges": [{"name": "all", "start": NODE_ID, "end": NODE_ID}],
    }
    config = {
        "virtualClusters": [
            {
                "name": "bench",
                "targetCluster": {"bootstrapServers": f"127.0.0.1:{wiring.broker.direct}"},
                "gateways": [{"name": "plain", "portIdentifiesNode": ports}],
            }
        ],
        "filterDefinitions": [{"name": "headers", "type": "TraceHeaders"}],
        "defaultFilters": ["headers"],
    }
    file = wiring.directory / f"{wiring.name}.yaml"
    file.write_text(json.dumps(config, indent=1))
    classes = f"{KROXYLICIOUS}/lib/*:{KROXYLICIOUS}/classes"
    return ["java", "-Xmx1g", "-cp", classes, "meshproxy.loadtest.Proxy", str(file)]


MAIN = (
    _variant(PRODUCT, "protocol kafka, 100 % sampling, OTLP over HTTP with gzip", {}, {}),
    Peer(
        OPAQUE, "the sidecar with protocol opaque: nothing is read",
        SIDECAR.missing, SIDECAR.version, _passing, reads=False,
    ),
    Peer(
        NEAREST, "a filter that adds traceparent to each record, without spans",
        _kroxylicious_missing, _kroxylicious_version, _kroxylicious,
    ),
)  # fmt: skip
"""In all tables."""

VARIANTS = (
    _variant("meshproxy-per-record", "per_record: a span a record", {"per_record": True}, {}),
    _variant("meshproxy-consumer-spans", "consumer_spans", {"consumer_spans": True}, {}),
    _variant("meshproxy-unsampled", "sampling 0", {}, {"sampling": {"default": 0.0}}, traced=False),
)
"""What each feature costs; with one load only."""

PEERS = {peer.name: peer for peer in (*MAIN, *VARIANTS)}
