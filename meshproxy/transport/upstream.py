"""One destination and the pool of idle connections to it."""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Callable
from typing import TypeVar

from meshproxy.transport.client import ClientConnection
from meshproxy.transport.connect import ConnectError, open_connection
from meshproxy.transport.runtime import Host, Runtime

P = TypeVar("P")


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


class Upstream:
    """Where requests go. The connection used last is taken first.

    ``peer`` is the configured name of the destination. ``tls`` encrypts towards it, checking the
    certificate for ``server_name``, or for the destination's host.
    """

    def __init__(
        self,
        runtime: Runtime,
        destination: Host,
        peer: str = "",
        tls: ssl.SSLContext | None = None,
        server_name: str | None = None,
    ) -> None:
        self.runtime = runtime
        self.destination = destination
        self.peer = peer
        self.tls = tls
        self._server_name = server_name
        host = f"[{destination[0]}]" if ":" in destination[0] else destination[0]
        self.authority = f"{host}:{destination[1]}".encode()
        self.is_named = not _is_address(destination[0])
        self._idle: list[ClientConnection] = []
        self._retired = False
        self.last_used = runtime.ticker.now

    def elsewhere(self, destination: Host) -> Upstream:
        """The same service at another address of its own, spoken to in the same way."""
        return Upstream(self.runtime, destination, self.peer, self.tls, self._server_name)

    def take(self) -> ClientConnection | None:
        """An idle connection that still lives, or None."""
        idle = self._idle
        while idle:
            connection = idle.pop()
            if not connection.transport.is_closing():
                return connection
        return None

    def give(self, connection: ClientConnection, most: int) -> None:
        """Keep a connection for the next request, unless ``most`` wait already."""
        now = self.runtime.ticker.now
        connection.idle_since = self.last_used = now
        if len(self._idle) >= most or self._retired or self.runtime.draining:
            connection.close()
        else:
            self._idle.append(connection)

    def forget(self, connection: ClientConnection) -> None:
        """The connection was closed while idle."""
        if connection in self._idle:
            self._idle.remove(connection)

    def expire(self, now: float, longest_idle: float) -> None:
        """Close what was idle for too long, so that the app's own idle close comes later."""
        old = [each for each in self._idle if now - each.idle_since >= longest_idle]
        if old:
            self._idle = [each for each in self._idle if now - each.idle_since < longest_idle]
            for each in old:
                each.close()

    def close(self) -> None:
        """Close all idle connections."""
        idle, self._idle = self._idle, []
        for each in idle:
            each.close()

    def retire(self) -> None:
        """Keep no connections any more: nobody looks after them."""
        self._retired = True
        self.close()

    @property
    def idle(self) -> int:
        """How many connections wait."""
        return len(self._idle)

    async def connect(self, timeout: float) -> ClientConnection:
        """Open a connection for HTTP; raises `ConnectError`."""
        return await self.open(lambda: ClientConnection(self), timeout)

    async def open(self, factory: Callable[[], P], timeout: float) -> P:
        """Open a connection for any protocol; raises `ConnectError`."""
        self.last_used = self.runtime.ticker.now
        try:
            _, protocol = await open_connection(
                self.runtime, factory, self.destination, self.tls, self._server_name, timeout
            )
        except ConnectError as error:
            where = self.peer or f"{self.destination[0]}:{self.destination[1]}"
            self.runtime.stats.upstream_error(where, error.failure.kind)
            raise
        return protocol
