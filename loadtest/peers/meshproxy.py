"""meshproxy itself, and variants that show what each feature costs."""

from __future__ import annotations

import copy
import json
import platform
import subprocess
import sys
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from loadtest.peers.base import Peer, Wiring

BINARY = Path(sys.executable).parent / "meshproxy"


@cache
def _missing() -> str | None:
    try:
        done = subprocess.run(
            [BINARY, "sidecar", "--help"], stdin=subprocess.DEVNULL, capture_output=True, timeout=20
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"meshproxy does not start: {error}"
    return None if done.returncode == 0 else "meshproxy has no working command sidecar"


def _version() -> str:
    return f"meshproxy/{version('meshproxy')}, Python {platform.python_version()}"


def _config(wiring: Wiring, changes: dict[str, Any]) -> dict[str, Any]:
    exporter = {"type": "otlp", "endpoint": wiring.spans_url}
    config: dict[str, Any] = {
        "service": {"name": "cart", "version": "2.4.1", "environment": "production"},
        "inbound": [
            {"listen": f"127.0.0.1:{wiring.listen}", "upstream": f"127.0.0.1:{wiring.upstream}"}
        ],
        "outbound": [
            {
                "listen": f"127.0.0.1:{wiring.outbound}",
                "upstream": f"127.0.0.1:{wiring.backend}",
                "peer": "pricing",
            }
        ],
        "sampling": {"default": 1.0},
        "export": [exporter],
        "admin": {"listen": f"127.0.0.1:{wiring.admin}"},
    }
    changes = copy.deepcopy(changes)
    exporter.update(changes.pop("exporter", {}))
    config.update(changes)
    return config


def _command(wiring: Wiring, changes: dict[str, Any]) -> list[str]:
    # JSON is YAML too.
    file = wiring.directory / f"{wiring.name}.yaml"
    file.write_text(json.dumps(_config(wiring, changes), indent=1))
    return [str(BINARY), "sidecar", "-c", str(file)]


def _peer(
    name: str, about: str, changes: dict[str, Any], *, traced: bool = True, calls: bool = False
) -> Peer:
    command = partial(_command, changes=changes)
    return Peer(name, about, _missing, _version, command, traced=traced, calls=calls)


PEERS = (
    _peer("meshproxy", "100 % sampling, OTLP over HTTP with gzip", {}),
    _peer("meshproxy-nogzip", "export without gzip", {"exporter": {"compression": "none"}}),
    _peer("meshproxy-noexport", "no exporter", {"export": []}, traced=False),
    _peer("meshproxy-unsampled", "sampling 0", {"sampling": {"default": 0.0}}, traced=False),
    _peer("meshproxy-accesslog", "access log on", {"log": {"access": True}}),
    _peer("meshproxy-calls", "as meshproxy; the app makes a call", {}, calls=True),
)
