"""A connection that passes without being understood."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from meshproxy.filter import Passage
from meshproxy.transport.connect import ConnectError
from meshproxy.transport.pipeline import now_ns
from meshproxy.transport.runtime import plain_host
from meshproxy.transport.sockets import reset
from meshproxy.transport.tunnel import Tunnel, failure_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshproxy.linking.sockets import Socket
    from meshproxy.transport.listener import Listener
    from meshproxy.transport.runtime import Host, Runtime
    from meshproxy.transport.tunnel import TunnelEnd
    from meshproxy.transport.upstream import Upstream


class Holding(asyncio.Protocol):
    """An end of a connection whose other end is not there yet: keeps what comes in.

    ``spoke`` is called at the first bytes and at the end of input; not once `silent` was set.
    """

    transport: asyncio.Transport

    def __init__(self, spoke: Callable[[], None] | None = None) -> None:
        self.received = b""
        self.remote: Host | None = None
        self.ended = False
        self.lost = False
        self._error: BaseException | None = None
        self._spoke = spoke

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Adopt the socket."""
        self.transport = cast(asyncio.Transport, transport)
        remote = transport.get_extra_info("peername")  # None when it is gone again already
        self.remote = remote[:2] if remote else None

    def data_received(self, data: bytes) -> None:
        """Keep the bytes, and ask for no more until somebody takes them."""
        self.received += data
        self.transport.pause_reading()
        self._speak()

    def eof_received(self) -> bool:
        """The end of input, kept like the bytes."""
        self.ended = True
        self._speak()
        return True

    def connection_lost(self, exc: BaseException | None) -> None:
        """The connection is gone; kept as well."""
        self.lost = True
        self._error = exc
        self._speak()

    def replay(self, end: TunnelEnd) -> None:
        """Let ``end``, which takes over, know what has happened so far."""
        if self.received:
            end.data_received(self.received)
        if self.lost:
            end.connection_lost(self._error)
        elif self.ended:
            end.eof_received()

    def _speak(self) -> None:
        spoke, self._spoke = self._spoke, None
        if spoke is not None:
            spoke()


class Reached(Holding):
    """The upstream's end: its address is one of ours until it is gone, or part of a tunnel."""

    def __init__(self, runtime: Runtime, spoke: Callable[[], None] | None = None) -> None:
        super().__init__(spoke)
        self._runtime = runtime

    def connection_lost(self, exc: BaseException | None) -> None:
        """The connection is gone."""
        self._runtime.own_sockets.discard(plain_host(self.transport.get_extra_info("sockname")))
        super().connection_lost(exc)


class Passing:
    """Joins a client with an upstream, and tells the filters when that begins and ends."""

    def __init__(self, listener: Listener, client: Holding, address: tuple[str, int]) -> None:
        self._listener = listener
        self._pipeline = listener.pipeline
        self._client = client
        self._address = address

    async def run(
        self, upstream: Upstream, protocol: str, server_name: str, opened: Holding | None
    ) -> None:
        """Pass bytes until both ends are done; ``opened`` is the upstream's end if it exists."""
        passage = Passage(
            self._listener.scope, self._address, upstream.destination, upstream.peer, now_ns()
        )
        passage.socket = self._service_end(upstream)
        passage.protocol = protocol
        passage.server_name = server_name
        self._begin(passage)
        try:
            other = opened
            if other is None:
                other = await upstream.open(
                    lambda: Reached(self._listener.runtime), self._pipeline.limits.connect_timeout
                )
        except ConnectError as error:
            passage.failure = error.failure
            self._listener.unreachable(upstream.destination, error.failure)
            self._end(passage)
            reset(self._client.transport)
            return
        passage.connected_to = other.remote
        self._join(passage, other)

    def _service_end(self, upstream: Upstream) -> Socket | None:
        return self._listener.service_end(self._client.transport, self._address, upstream)

    def _begin(self, passage: Passage) -> None:
        self._listener.runtime.stats.passed[(self._listener.name, passage.protocol)] += 1
        self._pipeline.open(passage)

    def _end(self, passage: Passage) -> None:
        self._pipeline.close(passage)
        self._listener.left()

    def _join(self, passage: Passage, other: Holding) -> None:
        def closed(error: BaseException | None) -> None:
            passage.sent = tunnel.sent
            passage.received = tunnel.received
            passage.failure = failure_of(error)
            self._end(passage)

        client = self._client
        tunnel = Tunnel(
            self._listener.runtime,
            client.transport,
            other.transport,
            self._pipeline.limits.connection_idle,
            closed,
        )
        client.replay(tunnel.client)
        other.replay(tunnel.upstream)
