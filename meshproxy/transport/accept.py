"""The first moments of a connection: is it wanted, where does it go, what does it speak?"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from meshproxy.transport.client import ClientConnection
from meshproxy.transport.connect import ConnectError
from meshproxy.transport.conversing import Conversing
from meshproxy.transport.passage import Holding, Passing, Reached
from meshproxy.transport.runtime import plain_host
from meshproxy.transport.server import ServerConnection
from meshproxy.wire.detect import Protocol, detect
from meshproxy.wire.tls import server_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshproxy.transport.listener import Listener
    from meshproxy.transport.upstream import Upstream

SILENCE = 0.005
"""Seconds after which a silent client may be waiting for the server to speak first: then the
upstream is connected, and whoever speaks first decides. If it was an HTTP client after all, the
connection goes to the pool, so nothing is lost."""


NOT_SPOKEN = frozenset({"auto", "http", "opaque"})
"""Protocols of listeners that need no filter to speak them."""


class Accepting(Holding):
    """Decides by the first bytes what becomes of a connection, and hands it over.

    ``upstream_of`` says where it goes, as `Listener.upstream_of` does.
    """

    def __init__(
        self, listener: Listener, upstream_of: Callable[[asyncio.Transport], Upstream | None]
    ) -> None:
        super().__init__()
        self._listener = listener
        self._upstream_of = upstream_of
        self._runtime = listener.runtime
        self._decided = False
        self._is_http = False
        self._eager: Holding | None = None
        self._opening: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._since = self._runtime.ticker.now

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A connection was accepted."""
        self.transport = cast(asyncio.Transport, transport)
        self._address = _client_address(self.transport)
        listener = self._listener
        if not listener.entered(self.transport, self._address):
            self._decided = True
            return
        upstream = self._upstream_of(self.transport)
        route = listener.route
        if self.transport.is_closing():
            self._decided = True  # a loop, or not redirected: refused already
            return
        self._upstream = upstream
        self._route = route
        self._runtime.ticker.add(self)
        if route.protocol == "http" or upstream is None:
            self._to_http()
        elif route.protocol not in NOT_SPOKEN:
            self._pass(upstream, route.protocol, "", Conversing)
        elif route.protocol == "opaque" or upstream.destination[1] in route.opaque_ports:
            self._pass(upstream, "opaque", "")
        else:
            self._timer = self._runtime.loop.call_later(SILENCE, self._connect_early)

    def data_received(self, data: bytes) -> None:
        """The client's first bytes."""
        if self._decided:
            super().data_received(data)
            return
        self.received += data
        self._decide(cast("Upstream", self._upstream))

    def _decide(self, upstream: Upstream) -> None:
        protocol = detect(self.received)
        if protocol is None:
            return
        if protocol is Protocol.HTTP1:
            self._to_http()
        elif protocol is Protocol.TLS:
            name = server_name(self.received)
            if name is not None:
                self._pass(upstream, protocol.value, name)
        else:
            self._pass(upstream, protocol.value, "")

    def _to_http(self) -> None:
        self._settle()
        self._is_http = True
        upstream = self._upstream
        if upstream is self._route.upstream:
            upstream = self._listener.route.upstream  # there may have been a reload meanwhile
        connection = ServerConnection(self._listener, self.transport, self._address, upstream)
        self.transport.set_protocol(cast(asyncio.BaseProtocol, connection))
        early, self._eager = self._eager, None
        if early is not None:
            _to_pool(self._listener, cast("Upstream", self._upstream), early)
        if self.received:
            connection.data_received(self.received)

    def _pass(
        self, upstream: Upstream, protocol: str, name: str, kind: type[Passing] = Passing
    ) -> None:
        self._settle()
        self.transport.pause_reading()
        passing = kind(self._listener, self, self._address)
        self._runtime.spawn(
            self._runtime.loop.create_task(self._run(passing, upstream, protocol, name))
        )

    async def _run(self, passing: Passing, upstream: Upstream, protocol: str, name: str) -> None:
        if self._opening is not None:
            await self._opening
        await passing.run(upstream, protocol, name, self._eager)

    def _settle(self) -> None:
        self._decided = True
        self._runtime.ticker.discard(self)
        if self._timer is not None:
            self._timer.cancel()

    def _connect_early(self) -> None:
        self._opening = self._runtime.spawn(self._runtime.loop.create_task(self._open_early()))

    async def _open_early(self) -> None:
        upstream = cast("Upstream", self._upstream)
        timeout = self._listener.pipeline.limits.connect_timeout
        try:
            early = await upstream.open(
                lambda: Reached(self._runtime, self._upstream_spoke), timeout
            )
        except ConnectError:
            if not self._decided:
                # Nobody can tell yet whether an HTTP client waits for its 502 here.
                self._opening = None
            return
        if self._is_http:
            _to_pool(self._listener, upstream, early)
        else:
            self._eager = early

    def _upstream_spoke(self) -> None:
        """The server speaks first, or has closed: whatever this is, it is not HTTP/1."""
        if not self._decided and self._upstream is not None:
            self._pass(self._upstream, "opaque", "")

    def check(self, now: float) -> None:
        """A client that began and never came to the point is refused; one that is silent waits."""
        limits = self._listener.pipeline.limits
        waited = now - self._since
        if self.received and waited > limits.header_timeout:
            self._to_http()
        elif waited > self._runtime.longest_idle(limits.connection_idle):
            self.transport.close()

    def abort(self) -> None:
        """Cut the connection."""
        self.transport.abort()

    def eof_received(self) -> bool:
        """The client sends no more, and has not said what it is."""
        if self._decided:
            return super().eof_received()
        self.ended = True
        if self.received:
            self._pass(cast("Upstream", self._upstream), "opaque", "")
            return True
        return False

    def connection_lost(self, exc: BaseException | None) -> None:
        """The client is gone."""
        super().connection_lost(exc)
        if not self._decided:
            self._settle()
            if self._opening is not None:
                self._opening.cancel()
            if self._eager is not None:
                self._eager.transport.abort()
            self._listener.left()


def _to_pool(listener: Listener, upstream: Upstream, early: Holding) -> None:
    """A connection that was opened in case the server speaks first serves HTTP now."""
    if early.ended or early.lost or early.received:
        early.transport.abort()
        return
    connection = ClientConnection(upstream)
    early.transport.set_protocol(cast(asyncio.BaseProtocol, connection))
    connection.connection_made(early.transport)
    connection.fresh = False  # it has waited, so it may be gone when a request comes
    upstream.give(connection, listener.pipeline.limits.pool_size)


def _client_address(transport: asyncio.Transport) -> tuple[str, int]:
    peer = transport.get_extra_info("peername")
    if not peer:
        return "", 0
    return plain_host(peer)
