"""nginx as a reverse proxy with kept upstream connections, without tracing."""

from __future__ import annotations

from loadtest.peers.base import Peer, Wiring, first_line
from loadtest.processes import find_tool
from loadtest.servers.nginx_backend import nginx_command

HTTP = """\
  proxy_max_temp_file_size 0;
  upstream service {{
    server 127.0.0.1:{upstream};
    keepalive 64;
    keepalive_requests 1000000000;
  }}
  server {{
    listen 127.0.0.1:{listen} backlog=1024;
    location / {{
      proxy_pass http://service;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $http_host;
    }}
  }}
"""


def _missing() -> str | None:
    return None if find_tool("nginx") else "nginx is not installed"


def _version() -> str:
    return first_line(find_tool("nginx") or "nginx", "-v").removeprefix("nginx version: ")


def _command(wiring: Wiring) -> list[str]:
    binary = find_tool("nginx")
    assert binary is not None  # noqa: S101 (`missing` was asked before)
    http = HTTP.format(listen=wiring.listen, upstream=wiring.upstream)
    return nginx_command(binary, wiring.directory, wiring.name, http)


PEERS = (Peer("nginx", "one worker, without tracing", _missing, _version, _command),)
