"""nginx, in the foreground, with everything it writes in the test's folder."""

from __future__ import annotations

from dataclasses import dataclass

from tests.services.kit.daemon import Daemon, Daemons
from tests.services.kit.programs import program

MAIN = """\
user root;
worker_processes 1;
daemon off;
pid {folder}/nginx-{port}.pid;
error_log stderr warn;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_max_body_size 0;
    client_body_temp_path {folder}/nginx-body;
    proxy_temp_path {folder}/nginx-proxy;
    fastcgi_temp_path {folder}/nginx-fastcgi;
    uwsgi_temp_path {folder}/nginx-uwsgi;
    scgi_temp_path {folder}/nginx-scgi;
    {http}
    server {{
        listen 127.0.0.1:{port};
        {server}
    }}
}}
"""


@dataclass(frozen=True)
class Nginx:
    """A running nginx."""

    port: int
    daemon: Daemon


async def start_nginx(daemons: Daemons, server: str, http: str = "") -> Nginx:
    """Start nginx with these directives in its one server, and these outside of it."""
    port = daemons.port()
    text = MAIN.format(folder=daemons.folder, port=port, server=server, http=http)
    path = daemons.file(f"nginx-{port}.conf", text)
    # Its compiled-in error log, opened before the configuration is read, is put on stderr.
    command = [program("nginx"), "-e", "stderr", "-p", str(daemons.folder), "-c", path]
    return Nginx(port, await daemons.start(f"nginx-{port}", command, port))
