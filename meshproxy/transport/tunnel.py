"""Two sockets joined: bytes pass both ways, unread, with back-pressure and half-close."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from meshproxy.filter import Failure
from meshproxy.transport.runtime import Runtime, plain_host
from meshproxy.transport.sockets import reset


class Tunnel:
    """Joins the client's transport with the upstream's until both have ended.

    ``closed`` is called once, with the error that ended it or None. `sent` counts bytes from the
    client, `received` bytes from the upstream.
    """

    client: TunnelEnd
    upstream: TunnelEnd

    def __init__(
        self,
        runtime: Runtime,
        client: asyncio.Transport,
        upstream: asyncio.Transport,
        longest_idle: float,
        closed: Callable[[BaseException | None], None],
    ) -> None:
        self._runtime = runtime
        self._closed = closed
        self._open = 2
        self._error: BaseException | None = None
        self._longest_idle = longest_idle
        self._active_at = runtime.ticker.now
        self._own_socket = plain_host(upstream.get_extra_info("sockname"))
        self.active = True
        self._make_ends(client, upstream)
        runtime.ticker.add(self)
        for end in (self.client, self.upstream):
            end.transport.set_protocol(end)
            if not end.transport.is_closing():
                end.transport.resume_reading()

    def _make_ends(self, client: asyncio.Transport, upstream: asyncio.Transport) -> None:
        self.client = TunnelEnd(self, client, upstream)
        self.upstream = TunnelEnd(self, upstream, client)

    def check(self, now: float) -> None:
        """Cut a tunnel through which nothing went for too long."""
        if self.active:
            self.active = False
            self._active_at = now
        elif now - self._active_at > self._longest_idle:
            self._error = TimeoutError("nothing passed for too long")
            self.abort()

    @property
    def sent(self) -> int:
        """Bytes that came from the client."""
        return self.client.count

    @property
    def received(self) -> int:
        """Bytes that came from the upstream."""
        return self.upstream.count

    def abort(self) -> None:
        """Cut both ends."""
        self.client.transport.abort()
        self.upstream.transport.abort()

    def lost(self, error: BaseException | None) -> None:
        """One end is gone."""
        self._open -= 1
        self._error = self._error or error
        if not self._open:
            self._runtime.ticker.discard(self)
            self._runtime.own_sockets.discard(self._own_socket)
            self._closed(self._error)


def failure_of(error: BaseException | None) -> Failure | None:
    """What to call the error with which a tunnel ended."""
    if isinstance(error, TimeoutError):
        return Failure("stream_timeout", str(error))
    return Failure("reset", f"The connection was cut: {error}.") if error is not None else None


class TunnelEnd(asyncio.Protocol):
    """One end: what it receives, the other end sends."""

    __slots__ = ("_other", "_tunnel", "count", "ended", "transport")

    def __init__(
        self, tunnel: Tunnel, transport: asyncio.Transport, other: asyncio.Transport
    ) -> None:
        self._tunnel = tunnel
        self._other = other
        self.ended = False
        self.transport = transport
        self.count = 0

    def data_received(self, data: bytes) -> None:
        """Bytes to pass on."""
        self.count += len(data)
        self._tunnel.active = True
        self._other.write(data)

    def eof_received(self) -> bool:
        """This end sends no more; it may still receive."""
        return self.pass_end()

    def pass_end(self) -> bool:
        """Let the other end send no more either; False when that takes closing both."""
        self.ended = True
        if self._other.can_write_eof() and not self._other.is_closing():
            self._other.write_eof()
            other = cast(TunnelEnd, self._other.get_protocol())
            if other.ended:  # both directions are done
                self._other.close()
                self.transport.close()
            return self.transport.can_write_eof()  # TLS closes by itself
        self._other.close()
        return False

    def connection_lost(self, exc: BaseException | None) -> None:
        """This end is gone, so the other has nobody to talk to."""
        if exc is not None:
            reset(self._other)
        else:
            self._other.close()
        self._tunnel.lost(exc)

    def pause_writing(self) -> None:
        """This end is slow: stop reading from the other."""
        if not self._other.is_closing():
            self._other.pause_reading()

    def resume_writing(self) -> None:
        """This end has caught up."""
        if not self._other.is_closing():
            self._other.resume_reading()
