"""The service behind the proxies, as nginx: the cheapest there is."""

from __future__ import annotations

from pathlib import Path

BODY = b'{"id": 12345, "name": "Ada Lovelace", "email": "ada@example.org", "active": true}\n'
LARGE_BYTES = 1 << 20
LARGE_PATH = "/1mb"

# Worker processes of a root's nginx run as nobody: the folder must be readable for it.
COMMON = """\
daemon off;
worker_processes 1;
pid {directory}/{name}.pid;
error_log stderr warn;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  tcp_nodelay on;
  sendfile on;
  keepalive_timeout 300s;
  keepalive_requests 1000000000;
  client_body_temp_path {directory}/{name}-body;
  proxy_temp_path {directory}/{name}-proxy;
  fastcgi_temp_path {directory}/{name}-fastcgi;
  uwsgi_temp_path {directory}/{name}-uwsgi;
  scgi_temp_path {directory}/{name}-scgi;
{http}
}}
"""

SERVER = """\
  default_type application/json;
  server {{
    listen 127.0.0.1:{port} backlog=1024;
    location = {large} {{ root {directory}; }}
    location / {{ return 200 '{body}'; }}
  }}
"""


def nginx_command(binary: Path, directory: Path, name: str, http: str) -> list[str]:
    """Write the configuration of one nginx with its own files; return how to start it."""
    config = directory / f"{name}.conf"
    config.write_text(COMMON.format(directory=directory, name=name, http=http))
    return [str(binary), "-e", "stderr", "-p", str(directory), "-c", str(config)]


def backend_command(binary: Path, directory: Path, port: int) -> list[str]:
    """How to start the backend: `LARGE_PATH` is a file of 1 MiB, every other path is `BODY`."""
    (directory / LARGE_PATH.lstrip("/")).write_bytes(bytes(LARGE_BYTES))
    server = SERVER.format(port=port, large=LARGE_PATH, directory=directory, body=BODY.decode())
    return nginx_command(binary, directory, "backend", server)
