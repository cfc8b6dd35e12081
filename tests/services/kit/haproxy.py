"""HAProxy in front of one server."""

from __future__ import annotations

from collections.abc import Sequence

from tests.services.kit.daemon import Daemons
from tests.services.kit.programs import program

CONFIG = """\
global
    maxconn 1000
defaults
    mode http
    timeout connect 5s
    timeout client 30s
    timeout server 30s
    {options}
frontend in
    bind 127.0.0.1:{port}
    default_backend out
backend out
    server one 127.0.0.1:{upstream}
"""


async def start_haproxy(daemons: Daemons, upstream: int, options: Sequence[str] = ()) -> int:
    """Start HAProxy with these lines in its defaults; returns its port."""
    port = daemons.port()
    text = CONFIG.format(port=port, upstream=upstream, options="\n    ".join(options))
    path = daemons.file(f"haproxy-{port}.cfg", text)
    await daemons.start(f"haproxy-{port}", [program("haproxy"), "-db", "-f", path], port)
    return port
