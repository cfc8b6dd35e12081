"""HAProxy as a reverse proxy with kept upstream connections, without tracing."""

from __future__ import annotations

from loadtest.peers.base import Peer, Wiring, first_line
from loadtest.processes import find_tool

CONFIG = """\
global
  nbthread 1
  maxconn 4096
defaults
  mode http
  option http-keep-alive
  http-reuse always
  timeout connect 5s
  timeout client 60s
  timeout server 60s
frontend requests
  bind 127.0.0.1:{listen}
  default_backend service
backend service
  server service 127.0.0.1:{upstream}
"""


def _missing() -> str | None:
    return None if find_tool("haproxy") else "haproxy is not installed"


def _version() -> str:
    words = first_line(find_tool("haproxy") or "haproxy", "-v").split()
    return f"haproxy/{words[2]}" if len(words) > 2 else ""


def _command(wiring: Wiring) -> list[str]:
    config = wiring.directory / f"{wiring.name}.cfg"
    config.write_text(CONFIG.format(listen=wiring.listen, upstream=wiring.upstream))
    return [str(find_tool("haproxy")), "-db", "-f", str(config)]


PEERS = (Peer("haproxy", "one thread, without tracing", _missing, _version, _command),)
