"""The server side of HTTP/1.1: one client connection, one exchange at a time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, cast

from meshproxy.filter import Exchange, Failure
from meshproxy.transport.client import ClientConnection
from meshproxy.transport.heads import add_forwarded, name_destination, offer_upgrade
from meshproxy.transport.joining import open_for, pass_unread
from meshproxy.transport.pipeline import now_ns
from meshproxy.transport.replies import reply
from meshproxy.transport.sockets import reset
from meshproxy.wire.body import Body, ChunkedBody, EndlessBody, LengthBody
from meshproxy.wire.errors import ProtocolError
from meshproxy.wire.gather import HeadBuffer
from meshproxy.wire.http1 import CRLF, END_OF_HEAD, Request, Response, read_request

if TYPE_CHECKING:
    from meshproxy.transport.listener import Listener
    from meshproxy.transport.upstream import Upstream

LINGER: Final = 5.0
"""Seconds for which a body that nobody wants any more is still read, so that the client gets to
read its answer before the connection goes (RFC 9112 section 9.6)."""

SHOWN: Final = 2048
"""Bytes of a request body that came with its head and that filters get to see."""

RESENDABLE: Final = frozenset({b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"})
"""Idempotent methods (RFC 9110 section 9.2.2)."""


class ServerConnection:
    """Reads requests, hands them to an upstream connection, and stands for the client there.

    An `asyncio.Protocol` by its methods; not derived from it, so that it can be compiled.

    ``upstream`` is where all requests of this connection go; None on a forward proxy, where each
    names its own destination.

    ``body`` is the request body that is still coming in, if any. ``continued``: the upstream has
    asked for the body. ``active_at`` is when bytes last moved for the current exchange. ``opening``
    is the task that opens an upstream connection for it, if any. ``slow``: the client has yet to
    read what was written, so nothing more is begun.
    """

    __slots__ = ("_busy", "_close", "_fixed", "_head", "_held", "_lingering_since", "_own_names",
                 "_paused", "_payload", "_route", "_since", "_socket", "_start", "_upstream",
                 "active_at", "body", "client", "connection", "continued", "exchange", "listener",
                 "opening", "pipeline", "runtime", "slow", "transport")  # fmt: skip

    transport: asyncio.Transport
    exchange: Exchange
    _upstream: Upstream
    _start: bytes | None

    def __init__(
        self,
        listener: Listener,
        transport: asyncio.Transport,
        client: tuple[str, int],
        upstream: Upstream | None,
    ) -> None:
        self.listener = listener
        self.pipeline = listener.pipeline
        self.runtime = listener.runtime
        self.transport = transport
        self.client = client
        self.body: Body | None = None
        self.connection: ClientConnection | None = None
        self.continued = False
        self.active_at = self.runtime.ticker.now
        self.opening: asyncio.Task[None] | None = None
        self.slow = False
        self._busy = False
        self._close = False
        self._fixed = upstream
        self._held = b""
        self._lingering_since = 0.0
        self._route = listener.route
        self._own_names = self._route.own_names
        self._head = HeadBuffer(skip_empty=True)
        self._paused = False
        self._payload: bytes | None = None
        self._since = 0.0
        self._socket = listener.service_end(transport, client, upstream)
        self.runtime.ticker.add(self)

    # Reading requests

    def data_received(self, data: bytes) -> None:
        """Bytes from the client."""
        self.active_at = self.runtime.ticker.now
        if not self._busy:
            self._read_head(data)
        elif self.body is not None:
            self._read_body(self.body, data)
        else:
            self._hold(data)

    def _hold(self, data: bytes) -> None:
        """Bytes of a pipelined request wait until the one before is answered."""
        self._held = self._held + data if self._held else data
        self.transport.pause_reading()

    def _read_head(self, data: bytes) -> None:
        pipeline = self.pipeline
        try:
            head = self._head
            end = -1 if head.begun or data[0] == 13 else data.find(END_OF_HEAD)
            if not 0 <= end <= pipeline.header_bytes:
                if not head.begun:
                    self._since = self.runtime.ticker.now
                whole = head.feed(data, pipeline.header_bytes)
                if whole is None:
                    return
                data = whole
                end = data.find(END_OF_HEAD)
            request = read_request(data[:end], pipeline.table, pipeline.headers)
            self._begin(request, data, end + 4)
        except ProtocolError as error:
            self.refuse(error)

    def _begin(self, request: Request, data: bytes, position: int) -> None:
        upstream, start = self._fixed, None
        if upstream is None:
            upstream, start = self.listener.resolve(request)
        end = position
        body: Body | None = None
        if request.chunked or request.length:
            body = (
                ChunkedBody(self.pipeline.table)
                if request.chunked
                else LengthBody(cast(int, request.length))
            )
            end = body.feed(data, position)
            if body.done:
                body = None
        self._upstream = upstream
        self._start = start
        self.body = body
        self.continued = False
        self._close = request.close
        self._busy = True
        exchange = self.exchange = self._exchange_of(request, upstream, data[position:end][:SHOWN])
        if request.host in self._own_names:
            name_destination(exchange, upstream.authority, upstream.is_named)
        if end < len(data):
            self._hold(data[end:])
        self.pipeline.begin(exchange)
        if self._fixed is None and request.line.method == b"CONNECT":
            self._open(tunnel=True)
            return
        head = self._head_to_send(request)
        self._send(head + data[position:end] if end > position else head)

    def _exchange_of(self, request: Request, upstream: Upstream, body: bytes) -> Exchange:
        exchange = Exchange(
            self.listener.scope,
            request,
            self.client,
            upstream.destination,
            upstream.peer,
            upstream.tls is not None,
            now_ns(),
            body,
        )
        exchange.socket = self._socket
        return exchange

    def _head_to_send(self, request: Request) -> bytes:
        scope = self.listener.scope
        if scope.inbound:
            add_forwarded(request, self.client[0], scope.scheme)
        if request.upgrade:
            offer_upgrade(request)
        return request.encode(self._start)

    def _read_body(self, body: Body, data: bytes) -> None:
        try:
            end = body.feed(data)
        except ProtocolError as error:
            self.body = EndlessBody()  # where it ends cannot be told any more
            self.fail(error.status, Failure("bad_request", str(error)))
            return
        if body.done:
            self.body = None
            if end < len(data):
                self._hold(data[end:])
                data = data[:end]
        if self.connection is not None:
            self._show(data)
            self.connection.transport.write(data)
        elif self.opening is not None:
            self._show(data)
            self._payload = (self._payload or b"") + data
            self.pause_reading()
        elif body.done:
            self._next()  # the body of an exchange that is over: read, and dropped

    def _show(self, data: bytes) -> None:
        exchange = self.exchange
        if exchange.peek and not exchange.body:
            self.pipeline.request_body(exchange, data)

    # Sending upstream

    def _send(self, payload: bytes) -> None:
        self._payload = payload
        connection = self._upstream.take()
        if connection is None:
            self._open(tunnel=False)
        else:
            self._on_connection(connection)

    def _on_connection(self, connection: ClientConnection) -> None:
        payload = cast(bytes, self._payload)
        self.connection = connection
        if (
            connection.fresh
            or self.body is not None
            or self.exchange.request.line.method not in RESENDABLE
        ):
            self._payload = None  # no second try, so nothing to keep
        connection.begin(self, self.exchange, payload)

    def _open(self, tunnel: bool) -> None:
        """Open a connection; the body waits for it."""
        if self.body is not None:
            self.pause_reading()
        task = self.runtime.loop.create_task(open_for(self, self._upstream, tunnel))
        self.opening = self.runtime.spawn(task)

    def opened(self, connection: ClientConnection) -> None:
        """The exchange goes on with a new connection."""
        self._on_connection(connection)
        self.resume_reading()

    def become_tunnel(self, upstream: asyncio.Transport) -> None:
        """From here on bytes pass unread, until both sides have ended."""
        self.connection = None
        self.runtime.ticker.discard(self)
        held, self._held = self._held, b""
        pass_unread(self, upstream, held)

    def upstream_lost(self, connection: ClientConnection, error: BaseException | None) -> None:
        """The upstream connection ended before its answer did."""
        exchange = self.exchange
        self.connection = None
        if self._payload is not None and exchange.status == 0 and connection.untouched:
            self._resend(error)
            return
        where = self._where()
        what = "reset" if isinstance(error, ConnectionError) else "closed"
        when = "in the middle of its answer" if exchange.status else "before it answered"
        self.upstream_failed(502, "upstream_reset", f"{where} {what} the connection {when}.")

    def upstream_failed(self, status: int, kind: str, message: str) -> None:
        """The upstream is at fault: count that, and answer ``status`` if it can still be."""
        self.runtime.stats.upstream_error(self._where(), kind)
        self.fail(status, Failure(kind, message))

    def _where(self) -> str:
        exchange = self.exchange
        return exchange.peer or f"{exchange.destination[0]}:{exchange.destination[1]}"

    def _resend(self, error: BaseException | None) -> None:
        """A pooled connection was closed meanwhile: once more, on another one.

        A call's attempts are exchanges of their own to the filters (W3C Trace Context: each has a
        span id of its own). In front of the service it is still the one request that came in.
        """
        before = self.exchange
        self.runtime.stats.upstream_error(self._where(), "stale_connection")
        if before.scope.inbound:
            self._send(cast(bytes, self._payload))
            return
        before.failure = Failure("upstream_reset", f"A pooled connection was gone: {error}.")
        self.pipeline.end(before)
        raw = CRLF.join((before.request.line.raw, *before.request.lines))
        request = read_request(raw, self.pipeline.table, self.pipeline.headers)
        if self._fixed is None:
            self._upstream, self._start = self.listener.resolve(request)
        body = cast(bytes, self._payload).partition(END_OF_HEAD)[2]
        exchange = self.exchange = self._exchange_of(request, self._upstream, body[:SHOWN])
        exchange.attempt = before.attempt + 1
        exchange.authority = before.authority
        self.pipeline.begin(exchange)
        self._send(self._head_to_send(request) + body)

    # Answering the client

    def before_response(self, response: Response) -> None:
        """Say whether this connection is kept, in the client's HTTP version."""
        request = self.exchange.request
        unwanted = self.body is not None and request.expects and not self.continued
        if request.close or response.until_close or self.runtime.draining or unwanted:
            self._close = True
        if self._close:
            response.added.append(b"Connection: close")
        elif request.line.minor == 0:
            response.added.append(b"Connection: keep-alive")
        if request.line.minor == 0:
            response.close = True  # keep-alive was not asked of the upstream

    def finish(self) -> None:
        """The response has been written."""
        self.connection = None
        self._payload = None
        self.pipeline.end(self.exchange)
        if self.body is not None:
            self._linger()
        elif self._close:
            self._end()
        else:
            self._next()

    def _next(self) -> None:
        """Ready for the next request."""
        self._busy = False
        self._lingering_since = 0.0
        if self.pipeline is not self.listener.pipeline:
            self.renew()
        if self._close:
            self._end()
        elif self.slow:
            self.pause_reading()
        elif self._held:
            self.runtime.loop.call_soon(self._read_held)
        else:
            self.resume_reading()

    def renew(self) -> None:
        """Go by the listener's new configuration, unless an exchange is under way."""
        if self._busy:
            return
        listener = self.listener
        if self._fixed is self._route.upstream:
            self._fixed = listener.route.upstream
        self._route = listener.route
        self._own_names = self._route.own_names
        self.pipeline = listener.pipeline

    def _read_held(self) -> None:
        if not self._busy and self._held and not self.transport.is_closing():
            held, self._held = self._held, b""
            self.transport.resume_reading()
            self.data_received(held)

    def _linger(self) -> None:
        """Read what is left of a body that nobody wants, so that the answer is not lost."""
        self._lingering_since = self.runtime.ticker.now
        if self._close and not self.transport.can_write_eof():
            self.transport.close()  # TLS: the other way stays open for as long as it must
            return
        if self._close:
            self.transport.write_eof()
        self.resume_reading()

    def _end(self) -> None:
        self._busy = False
        self.transport.close()

    def fail(self, status: int, failure: Failure) -> None:
        """The exchange cannot go on: answer ``status``, or cut an answer that has begun."""
        exchange = self.exchange
        if self._lingering_since:
            self.transport.close()
            return
        exchange.failure = failure
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.abandon()
        self._payload = None
        if exchange.status:
            self.pipeline.end(exchange)
            self._busy = False
            reset(self.transport)  # an answer without length must not seem to be whole
            return
        exchange.status = status
        self._close = self._close or self.body is not None or status == 400
        self._answer(status, failure.message)
        self.finish()

    def _answer(self, status: int, message: str) -> None:
        head_only = self._busy and self.exchange.request.line.method == b"HEAD"
        self.transport.write(reply(status, message, close=self._close, head_only=head_only))

    def refuse(self, error: ProtocolError) -> None:
        """What came is not a request that could be passed on: say so, and close."""
        stats = self.runtime.stats
        stats.refused[(self.listener.name, error.status, error.reason)] += 1
        self.listener.refused(self.client, error)
        self._head.clear()
        self._close = True
        self._busy = False
        self._answer(error.status, str(error))
        self.body = EndlessBody()
        self._busy = True
        self._linger()

    # Limits and losses

    def check(self, now: float) -> None:
        """Time limits."""
        limits = self.pipeline.limits
        if self.transport.is_closing():
            if now - self.active_at > limits.stream_idle:
                self.transport.abort()  # the client does not take the last of its answer
        elif self._lingering_since:
            if now - self._lingering_since > LINGER:
                self.transport.abort()
        elif self._busy:
            if now - self.active_at > limits.stream_idle:
                self._stalled(limits.stream_idle)
        elif self._head.begun:
            if now - self._since > limits.header_timeout:
                self.refuse(ProtocolError(408, "header_timeout", "The request took too long."))
        elif now - self.active_at > self.runtime.longest_idle(limits.connection_idle):
            self.transport.close()

    def _stalled(self, seconds: float) -> None:
        if self.opening is not None:
            return  # has a limit of its own
        exchange = self.exchange
        if exchange.status:
            self.fail(0, Failure("stream_timeout", f"No byte moved for {seconds:g} s."))
        elif self.body is not None and not self._paused:
            self.fail(
                408, Failure("request_timeout", f"The body did not come on for {seconds:g} s.")
            )
        else:
            self.upstream_failed(
                504, "response_timeout", f"{self._where()} did not answer within {seconds:g} s."
            )

    def eof_received(self) -> bool:
        """The client sends no more. It still gets its answer, if the request was whole."""
        if self._busy and self.body is None:
            self._close = True
            return self.transport.can_write_eof()
        return False

    def connection_lost(self, exc: BaseException | None) -> None:
        """The client is gone."""
        self.runtime.ticker.discard(self)
        if self._busy and not self._lingering_since:
            self._busy = False
            connection, self.connection = self.connection, None
            if connection is not None:
                connection.abandon()
            if self.opening is not None:
                self.opening.cancel()
            self.exchange.failure = Failure("client_gone", "The client closed the connection.")
            self.pipeline.end(self.exchange)
        self.listener.left(self)

    def abort(self) -> None:
        """Cut the connection, whatever is going on."""
        reset(self.transport)

    # Flow control

    def pause_writing(self) -> None:
        """The client reads slower than the upstream sends."""
        self.slow = True
        if self.connection is not None and not self.connection.transport.is_closing():
            self.connection.transport.pause_reading()

    def resume_writing(self) -> None:
        """The client has caught up."""
        self.slow = False
        self.active_at = self.runtime.ticker.now
        if self.connection is not None:
            if not self.connection.transport.is_closing():
                self.connection.transport.resume_reading()
        elif not self._busy:
            self._next()

    def pause_reading(self) -> None:
        """Stop reading from the client for a while."""
        self._paused = True
        if not self.transport.is_closing():
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        """Read on, unless bytes of the next request are held already."""
        self._paused = False
        self.active_at = self.runtime.ticker.now
        if not self._held and not self.transport.is_closing():
            self.transport.resume_reading()
