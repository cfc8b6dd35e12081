"""Joins a client with an upstream when no idle connection will do: by a new one, or by a tunnel."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from meshproxy.transport.connect import ConnectError
from meshproxy.transport.tunnel import Tunnel, failure_of

if TYPE_CHECKING:
    from meshproxy.transport.server import ServerConnection
    from meshproxy.transport.upstream import Upstream

ESTABLISHED: Final = b"HTTP/1.1 200 Connection Established\r\n\r\n"


async def open_for(server: ServerConnection, upstream: Upstream, tunnel: bool) -> None:
    """Open a connection for the exchange of ``server``; without one, the exchange has failed.

    ``tunnel``: it is a CONNECT (RFC 9110 section 9.3.6), after whose 200 bytes pass unread. If the
    client is gone by then, nobody is left to use the connection.
    """
    try:
        connection = await upstream.connect(server.pipeline.limits.connect_timeout)
    except ConnectError as error:
        server.opening = None
        timed_out = error.failure.kind == "connect_timeout"
        server.fail(504 if timed_out else 502, error.failure)
        return
    server.opening = None
    if server.transport.is_closing():
        connection.close()
    elif connection.transport.is_closing():
        server.upstream_lost(connection, None)
    elif tunnel:
        server.exchange.connected_to = connection.remote
        server.exchange.status = 200
        server.transport.write(ESTABLISHED)
        server.become_tunnel(connection.transport)
    else:
        server.opened(connection)


def pass_unread(server: ServerConnection, upstream: asyncio.Transport, held: bytes) -> None:
    """Join both sides; ``held`` has come from the client already. The exchange ends with them."""

    def closed(error: BaseException | None) -> None:
        server.exchange.failure = failure_of(error)
        server.pipeline.end(server.exchange)
        server.listener.left()

    idle = server.pipeline.limits.connection_idle
    Tunnel(server.runtime, server.transport, upstream, idle, closed)
    if held:
        upstream.write(held)
