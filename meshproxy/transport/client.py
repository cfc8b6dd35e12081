"""The client side of HTTP/1.1: one connection to an upstream."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from meshproxy.filter import Exchange
from meshproxy.linking.sockets import Socket
from meshproxy.transport.pipeline import now_ns
from meshproxy.transport.runtime import plain_host
from meshproxy.wire.body import Body, ChunkedBody, EndlessBody, LengthBody
from meshproxy.wire.errors import ProtocolError
from meshproxy.wire.gather import HeadBuffer
from meshproxy.wire.http1 import END_OF_HEAD, Response, read_response

if TYPE_CHECKING:
    from meshproxy.transport.server import ServerConnection
    from meshproxy.transport.upstream import Upstream


class ClientConnection:
    """An `asyncio.Protocol` by its methods; not derived from it, so that it can be compiled.

    Serves one exchange at a time, for the server connection that `begin` names."""

    __slots__ = ("_body", "_head", "exchange", "fresh", "idle_since", "local",
                 "remote", "server", "socket", "transport", "upstream")  # fmt: skip

    transport: asyncio.Transport

    def __init__(self, upstream: Upstream) -> None:
        self.upstream = upstream
        self.server: ServerConnection | None = None
        self.exchange: Exchange | None = None
        self.fresh = True
        self.idle_since = 0.0
        self._body: Body | None = None
        self._head = HeadBuffer(skip_empty=False)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Adopt the socket."""
        self.transport = cast(asyncio.Transport, transport)
        self.local = plain_host(transport.get_extra_info("sockname"))
        remote = transport.get_extra_info("peername")  # None when it is gone again already
        self.remote = remote[:2] if remote else self.upstream.destination
        self.socket = Socket(self.remote, self.local)
        self.upstream.runtime.stats.upstream_connections["opened"] += 1

    def begin(self, server: ServerConnection, exchange: Exchange, payload: bytes) -> None:
        """Send a request, with as much of its body as is there."""
        self.server = server
        self.exchange = exchange
        exchange.connected_to = self.remote
        if exchange.scope.inbound:
            exchange.socket = self.socket
            watch = self.upstream.runtime.watch
            if watch is not None:
                whole = server.body is None and self.upstream.tls is None
                watch(self.socket, len(payload) if whole else 0, self.fresh)
        self.transport.write(payload)

    def data_received(self, data: bytes) -> None:
        """Bytes of the response."""
        server = self.server
        if server is None:
            self.transport.abort()  # nobody asked
            return
        server.active_at = server.runtime.ticker.now
        try:
            if self._body is None:
                self._read_head(data)
            else:
                self._read_body(self._body, data)
        except ProtocolError as error:
            server.upstream_failed(502, "bad_response", str(error))

    def _read_head(self, data: bytes) -> None:
        server = cast("ServerConnection", self.server)
        exchange = cast(Exchange, self.exchange)
        pipeline = server.pipeline
        limit = pipeline.header_bytes
        while True:
            end = -1 if self._head.begun else data.find(END_OF_HEAD)
            if not 0 <= end <= limit:
                whole = self._gather(data, limit)
                if whole is None:
                    return
                data = whole
                end = data.find(END_OF_HEAD)
            response = read_response(
                data[:end], pipeline.table, pipeline.headers, exchange.request.line.method
            )
            code = response.line.code
            if code >= 200:
                break
            data = data[end + 4 :]
            self._interim(server, exchange, response, data)
            if not data or code == 101:
                return
        exchange.response = response
        exchange.status = code
        if pipeline.sees_responses:
            pipeline.respond(exchange)
        if code < 300 and exchange.request.line.method == b"CONNECT":
            self._switch(server, response, data[end + 4 :])
            return
        server.before_response(response)
        self._send_response(server, exchange, response, data, end + 4)

    def _gather(self, data: bytes, limit: int) -> bytes | None:
        try:
            return self._head.feed(data, limit)
        except ProtocolError as error:
            message = f"The upstream's answer: {error}"
            raise ProtocolError(502, error.reason, message) from None

    def _interim(
        self, server: ServerConnection, exchange: Exchange, response: Response, rest: bytes
    ) -> None:
        """A 1xx response (RFC 9110 section 15.2): passed on, except to HTTP/1.0."""
        if response.line.code == 101:
            self._upgrade(server, exchange, response, rest)
            return
        server.continued = server.continued or response.line.code == 100
        if exchange.request.line.minor:
            server.transport.write(response.encode())

    def _send_response(
        self,
        server: ServerConnection,
        exchange: Exchange,
        response: Response,
        data: bytes,
        position: int,
    ) -> None:
        body: Body | None = None
        if response.chunked:
            body = ChunkedBody(server.pipeline.table)
        elif response.until_close:
            body = EndlessBody()
        elif response.length:
            body = LengthBody(response.length)
        end = position
        broken: ProtocolError | None = None
        if body is not None:
            try:
                end = body.feed(data, position)
            except ProtocolError as error:
                broken = error
        if exchange.peek and end > position:
            server.pipeline.response_body(exchange, data[position:end])
        if body is None or body.done:
            exchange.end_ns = now_ns()  # before the write: the client's span ends after ours
        if response.plain:
            server.transport.write(data if end == len(data) else data[:end])
        else:
            server.transport.write(response.encode() + data[position:end])
        if broken is not None:
            raise broken
        if body is None or body.done:
            self._complete(server, response, end < len(data))
        else:
            self._body = body

    def _read_body(self, body: Body, data: bytes) -> None:
        server = cast("ServerConnection", self.server)
        exchange = cast(Exchange, self.exchange)
        end = body.feed(data)
        if exchange.peek:
            server.pipeline.response_body(exchange, data[:end])
        if body.done:
            exchange.end_ns = now_ns()
        if end == len(data):
            server.transport.write(data)
        else:
            server.transport.write(data[:end])
        if body.done:
            response = cast(Response, exchange.response)
            self._body = None
            self._complete(server, response, end < len(data))

    def _complete(self, server: ServerConnection, response: Response, surplus: bool) -> None:
        """The response has ended: keep the connection if it can be trusted to be in step."""
        self.server = None
        self.exchange = None
        self.fresh = False
        if surplus or response.close or server.body is not None:
            self.close()
        else:
            if server.slow:
                self.transport.resume_reading()
            self.upstream.give(self, server.pipeline.pool_size)
        server.finish()

    def _upgrade(
        self, server: ServerConnection, exchange: Exchange, response: Response, rest: bytes
    ) -> None:
        """101 (Switching Protocols), RFC 9110 section 15.2.2."""
        if not exchange.request.upgrade:
            raise ProtocolError(502, "upgrade", "The upstream switched protocols unasked.")
        exchange.response = response
        exchange.status = 101
        server.pipeline.respond(exchange)
        response.added += (b"Connection: upgrade", b"Upgrade: " + response.upgrade)
        self._switch(server, response, rest)

    def _switch(self, server: ServerConnection, response: Response, rest: bytes) -> None:
        """From here on bytes pass unread, both ways."""
        server.transport.write(response.encode() + rest)
        self.server = None
        self.exchange = None
        server.become_tunnel(self.transport)

    def eof_received(self) -> None:
        """The upstream will send no more; what that means is told by `connection_lost`."""

    def connection_lost(self, exc: BaseException | None) -> None:
        """The connection is gone: well for a body without length, otherwise not."""
        runtime = self.upstream.runtime
        runtime.own_sockets.discard(self.local)
        runtime.stats.upstream_connections["closed"] += 1
        server = self.server
        if server is None:
            self.upstream.forget(self)
            return
        exchange = cast(Exchange, self.exchange)
        body, self._body = self._body, None
        if isinstance(body, EndlessBody) and exc is None:
            self._complete(server, cast(Response, exchange.response), False)
            return
        self.server = None
        self.exchange = None
        server.upstream_lost(self, exc)

    def pause_writing(self) -> None:
        """The upstream reads slower than the client sends."""
        if self.server is not None:
            self.server.pause_reading()

    def resume_writing(self) -> None:
        """The upstream has caught up."""
        if self.server is not None:
            self.server.resume_reading()

    @property
    def untouched(self) -> bool:
        """Whether it was used before, and closed before a byte of this answer came."""
        return not self.fresh and not self._head.begun

    def close(self) -> None:
        """Close, sending first what was written."""
        self.transport.close()

    def abandon(self) -> None:
        """Drop the exchange and the connection; nobody waits for the answer any more."""
        self.server = None
        self.exchange = None
        self._body = None
        self.transport.abort()
