"""One listening address: who comes in, and where it goes."""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
import ssl
import time
from collections.abc import Callable, Sequence

from meshproxy import logs
from meshproxy.filter import Failure, Passage, Scope
from meshproxy.linking.sockets import Socket
from meshproxy.logs import Limiter
from meshproxy.transport.accept import Accepting
from meshproxy.transport.conversing import Dialogue
from meshproxy.transport.destinations import Destinations
from meshproxy.transport.original_destination import original_destination
from meshproxy.transport.pipeline import Pipeline
from meshproxy.transport.places import Ports
from meshproxy.transport.replies import reply
from meshproxy.transport.runtime import Host, Runtime, plain_host
from meshproxy.transport.server import ServerConnection
from meshproxy.transport.sockets import BACKLOG, listening_sockets
from meshproxy.transport.turned_away import MOST, TurnedAway
from meshproxy.transport.upstream import Upstream
from meshproxy.wire.errors import ProtocolError
from meshproxy.wire.http1 import Request

log = logs.get(__name__)

AUTHORITY = re.compile(rb"(?:\[([0-9A-Fa-f:.]+)\]|([!$&'()*+,;=._~0-9A-Za-z-]+)):([0-9]{1,5})")
"""uri-host with a port (RFC 9110 section 4.2.1); no userinfo."""

ABSOLUTE = re.compile(rb"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]*)([^#]*)")


class Route:
    """Where the connections of a listener go, and what they are taken for.

    ``mode`` says what becomes of connections that were made to the listener itself: ``fixed`` (all
    to ``upstream``), ``forward-proxy`` (to what each request names) or ``redirect`` (refused).
    ``redirected``: connections that the kernel redirected go to their original destination.
    ``tls`` terminates TLS.
    """

    __slots__ = (
        "mode",
        "opaque_ports",
        "own_names",
        "protocol",
        "redirected",
        "scope",
        "tls",
        "upstream",
    )

    def __init__(
        self,
        scope: Scope,
        mode: str,
        protocol: str,
        upstream: Upstream | None,
        tls: ssl.SSLContext | None,
        opaque_ports: frozenset[int],
        redirected: bool,
    ) -> None:
        self.scope = scope
        self.mode = mode
        self.redirected = redirected
        self.protocol = protocol
        self.upstream = upstream
        self.tls = tls
        self.opaque_ports = opaque_ports
        self.own_names = frozenset[bytes]()
        """What a Host field holds when the client took us for the destination."""
        if upstream is not None and not scope.inbound:
            port = scope.listen.rpartition(":")[2]
            hosts = (scope.listen, f"localhost:{port}", f"127.0.0.1:{port}", f"[::1]:{port}")
            self.own_names = frozenset(host.encode() for host in hosts)


class Listener:
    """Accepts connections on one address.

    ``route`` and ``pipeline`` may be replaced at any time, by `change`: an exchange keeps those
    that it began with, and no connection is lost. ``ports`` are others that belong to it.
    """

    def __init__(
        self, runtime: Runtime, destinations: Destinations, address: Host, route: Route,
        pipeline: Pipeline,
    ) -> None:  # fmt: skip
        self.runtime = runtime
        self.address = address
        self.route = route
        self.scope = route.scope
        self.name = route.scope.listen
        self.pipeline = pipeline
        self._destinations = destinations
        self._servers: list[asyncio.Server] = []
        self.sockets: list[socket.socket] = []
        self.ports = Ports(self, route.upstream)
        self._limiter = Limiter(10.0, time.monotonic)

    async def start(self) -> None:
        """Listen; raises OSError when the address is not to be had."""
        self.sockets = listening_sockets(*self.address)
        self.runtime.own_listeners |= self._names()
        if self.route.upstream is not None:
            self._destinations.hold(self.route.upstream)
        self._servers = await self.serve(self.sockets, self.upstream_of)
        self.ports.open_ahead()
        log.info(
            "listening",
            listener=self.name,
            mode=self.route.mode,
            redirected=self.route.redirected,
            inbound=self.scope.inbound,
        )

    async def serve(
        self,
        sockets: Sequence[socket.socket],
        upstream_of: Callable[[asyncio.Transport], Upstream | None],
    ) -> list[asyncio.Server]:
        """Take what comes in at ``sockets`` as this listener's; ``upstream_of`` says whereto."""
        tls = self.route.tls
        servers = []
        for sock in sockets:
            server = await self.runtime.loop.create_server(
                lambda: Accepting(self, upstream_of),
                sock=sock.dup(),
                ssl=tls,
                backlog=BACKLOG,
                ssl_handshake_timeout=self.pipeline.limits.header_timeout if tls else None,
            )
            servers.append(server)
        return servers

    async def change(self, route: Route, pipeline: Pipeline) -> None:
        """Treat new connections, and new requests on those there are, in another way."""
        before, self.route = self.route, route
        self.scope = route.scope
        self.pipeline = pipeline
        if before.upstream is not route.upstream:
            if route.upstream is not None:
                self._destinations.hold(route.upstream)
            if before.upstream is not None:
                self._destinations.release(before.upstream)
            self.ports.close()
            self.ports = Ports(self, route.upstream)
        self.ports.open_ahead()
        for member in self.runtime.ticker.members():
            if isinstance(member, ServerConnection | Dialogue) and member.listener is self:
                member.renew()
        if before.tls is not route.tls:
            old = self._servers
            self._servers = await self.serve(self.sockets, self.upstream_of)
            for server in old:
                server.close()

    def stop(self) -> None:
        """Accept no more; connections that are there live on."""
        for server in self._servers:
            server.close()
        self._servers.clear()
        self.ports.close()
        self.runtime.own_listeners -= self._names()
        for sock in self.sockets:
            sock.close()
        self.sockets.clear()
        if self.route.upstream is not None:
            self._destinations.release(self.route.upstream)

    def _names(self) -> set[Host]:
        return {sock.getsockname()[:2] for sock in self.sockets}

    # Connections coming and going

    def entered(self, transport: asyncio.Transport, client: Host) -> bool:
        """Count a connection in; False when it was turned away."""
        runtime = self.runtime
        runtime.enter(self.scope.inbound)
        runtime.stats.accepted[self.name] += 1
        runtime.stats.connections[self.name] += 1
        limits = self.pipeline.limits
        if runtime.connections > limits.connections:
            self._turn_away(transport)
            return False
        transport.set_write_buffer_limits(high=limits.buffer_bytes)
        return True

    def left(self, _connection: object = None) -> None:
        """Count a connection out."""
        self.runtime.leave(self.scope.inbound)
        self.runtime.stats.connections[self.name] -= 1

    def _turn_away(self, transport: asyncio.Transport) -> None:
        self.runtime.stats.refused[(self.name, 503, "too_many_connections")] += 1
        self._log("too many connections", limit=self.pipeline.limits.connections)
        speaks_http = self.route.protocol in ("auto", "http") and self.route.mode != "redirect"
        if speaks_http and self.runtime.turned_away < MOST:
            TurnedAway(self.runtime, transport, reply(503, "Too many connections.", close=True))
        else:
            transport.abort()
        self.left()

    def refused(self, client: Host, error: ProtocolError) -> None:
        """Say that a request was not valid."""
        self._log(
            "request refused", status=error.status, reason=error.reason, client=client[0],
            detail=str(error),
        )  # fmt: skip

    def unreachable(self, destination: Host, failure: Failure) -> None:
        """Say that a connection could not be passed on."""
        self._log(
            "connection failed", reason=failure.kind, detail=failure.message,
            destination=f"{destination[0]}:{destination[1]}",
        )  # fmt: skip

    def noticed(self, event: str, reason: str, detail: str, passage: Passage) -> None:
        """Say what a filter has noticed about a connection."""
        host, port = passage.destination
        self._log(
            event, reason=reason, detail=detail, client=passage.client[0],
            destination=f"{host}:{port}",
        )  # fmt: skip

    def _log(self, event: str, **facts: object) -> None:
        suppressed = self._limiter.allow(f"{event} {facts.get('reason', '')}")
        if suppressed is not None:
            log.warning(event, listener=self.name, suppressed=suppressed, **facts)

    def service_end(
        self, transport: asyncio.Transport, client: Host, upstream: Upstream | None
    ) -> Socket | None:
        """The service's end of a connection that it made to us; None for one that it did not make.

        As the service sees it: that the kernel redirected it is hidden from the service.
        """
        if self.scope.inbound:
            return None
        if upstream is not None and upstream is not self.route.upstream:
            return Socket(client, upstream.destination)
        ours = transport.get_extra_info("sockname")  # None when it is gone again already
        return Socket(client, plain_host(ours)) if ours else None

    # Where it goes

    def upstream_of(self, transport: asyncio.Transport) -> Upstream | None:
        """Where a whole connection goes; None if requests decide.

        None also for one that leads back to us, or that a redirect listener alone cannot place:
        such a connection is cut, and counted out.
        """
        route = self.route
        if not route.redirected:
            return route.upstream
        peer = transport.get_extra_info("peername")
        if peer and plain_host(peer) in self.runtime.own_sockets:
            self._refuse(transport, "loop", "A connection of our own came back to us.")
            return None
        try:
            destination = original_destination(transport.get_extra_info("socket"))
        except OSError as error:
            self._refuse(transport, "original_destination", str(error))
            return None
        if destination is not None and not self.runtime.is_own_listener(destination):
            return self._destinations.of(destination)
        if route.mode == "redirect":
            message = "Connected directly to a redirect listener."
            self._refuse(transport, "not_redirected", message)
        return route.upstream

    def _refuse(self, transport: asyncio.Transport, reason: str, message: str) -> None:
        self.runtime.stats.refused[(self.name, 0, reason)] += 1
        self._log("connection refused", reason=reason, detail=message)
        transport.abort()
        self.left()

    def resolve(self, request: Request) -> tuple[Upstream, bytes | None]:
        """Where a request to a forward proxy goes, and its request line there.

        Raises `ProtocolError` for what is not a request to a proxy (RFC 9112 section 3.2).
        """
        request.drop(b"proxy-authorization")
        line = request.line
        if line.method == b"CONNECT":
            return self._of_authority(line.target, None), None
        match = ABSOLUTE.fullmatch(line.target)
        if match is None:
            raise ProtocolError(
                400, "not_for_a_proxy", "A forward proxy needs an absolute URI (http://host/path)."
            )
        if match[1].lower() != b"http":
            raise ProtocolError(501, "scheme", "Only http:// URIs; use CONNECT for https.")
        upstream = self._of_authority(match[2], 80)
        if request.host.lower() != match[2].lower():
            request.drop(b"host")
            request.host = match[2]
            request.added.append(b"Host: " + match[2])
        path = match[3] if match[3].startswith(b"/") else b"/" + match[3]
        if line.method == b"OPTIONS" and not match[3]:
            path = b"*"
        return upstream, b"%s %s HTTP/1.%d" % (line.method, path, line.minor)

    def _of_authority(self, authority: bytes, default_port: int | None) -> Upstream:
        match = AUTHORITY.fullmatch(authority)
        if match is None and default_port is not None:
            match = AUTHORITY.fullmatch(b"%s:%d" % (authority, default_port))
        if match is None or not 0 < int(match[3]) < 65536:
            raise ProtocolError(400, "authority", "The destination is not host:port.")
        destination = ((match[1] or match[2]).decode("ascii").lower(), int(match[3]))
        if self.leads_back(destination):
            raise ProtocolError(400, "loop", "The destination is this proxy itself.")
        return self._destinations.of(destination)

    def leads_back(self, destination: Host) -> bool:
        """Whether a connection to ``destination`` would come to this process."""
        host, port = destination
        if host == "localhost":
            host = "127.0.0.1"
        try:
            ipaddress.ip_address(host)
        except ValueError:
            return False
        return self.runtime.is_own_listener((host, port))
