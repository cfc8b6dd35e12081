"""Ports beside a listener's own: one for each server that a protocol tells its clients about."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, cast

from meshproxy import logs
from meshproxy.filter import Failure, Places
from meshproxy.transport.runtime import Host
from meshproxy.transport.sockets import sockets_beside

if TYPE_CHECKING:
    import asyncio
    import socket

    from meshproxy.transport.listener import Listener
    from meshproxy.transport.upstream import Upstream

log = logs.get(__name__)

MOST = 512
"""Ports that one listener opens at most: clusters are smaller, and a broken server is bounded."""

ATTEMPTS = 3
"""Tries to find a free port; one that is free on an address may be taken on the next."""


class Place:
    """A server, and the port at which it is reached through us.

    ``elsewhere`` are clients of a port that was opened ahead, as long as nobody has named the
    server: they were led to another one, which knows where it is.
    """

    __slots__ = ("ahead", "closed", "destination", "elsewhere", "port", "servers", "sockets")

    def __init__(self, destination: Host, sockets: list[socket.socket]) -> None:
        self.destination = destination
        self.sockets = sockets
        self.port: int = sockets[0].getsockname()[1]
        self.servers: list[asyncio.Server] = []
        self.closed = False
        self.ahead = False
        self.elsewhere: list[asyncio.Transport] = []

    def close(self) -> None:
        """Accept no more; connections that are there live on."""
        self.closed = True
        for server in self.servers:
            server.close()
        for sock in self.sockets:
            sock.close()


class Ports:
    """The places of one listener, for as long as it listens and has this upstream: then `closed`.

    A server keeps its port; new connections to it go to the destination named last. Connections
    that are still there after that are told the ports all the same: their clients are to come back
    to us, after a restart or a reload, and not to go past us from then on.
    """

    def __init__(self, listener: Listener, upstream: Upstream | None) -> None:
        self._listener = listener
        self._upstream = upstream
        self._places: dict[int, Place] = {}
        self._own = 0
        self.closed = False

    def port_of(self, server: int, destination: Host) -> int:
        """The port for a server, opened if need be; raises OSError."""
        place = self._places.get(server)
        if self.closed:
            return place.port if place is not None else self._wanted(server) or self._own
        if place is None or place.destination != destination:
            if self._listener.leads_back(destination):
                raise OSError(errno.ELOOP, f"{destination[0]}:{destination[1]} leads back to us")
            if place is None:
                place = self._open(server, destination)
            else:
                place.destination = destination
                self._tell(server, place)
        if place.ahead:
            self._found(place)
        return place.port

    def _found(self, place: Place) -> None:
        """Whoever was led elsewhere comes again, once it has been told what is just being said."""
        place.ahead = False
        for transport in place.elsewhere:
            self._listener.runtime.loop.call_soon(transport.close)
        place.elsewhere.clear()

    def open_ahead(self) -> None:
        """Open the ports of the servers that are configured, before anybody names them.

        Connections there go to the upstream until then: it knows where the server is to be found.
        """
        kafka = self._listener.scope.kafka
        upstream = self._upstream
        if kafka is None or upstream is None:
            return
        for server in kafka.broker_ids:
            if server not in self._places:
                self._open_ahead(server, upstream.destination)

    def _open_ahead(self, server: int, destination: Host) -> None:
        wanted = self._wanted(server)
        try:
            place = self._open(server, destination)
            place.ahead = True
            if place.port == wanted:
                return
            self._drop(server)
            why = "the port is taken" if wanted else "the listener's own port is not fixed"
        except OSError as error:
            why = error.strerror or str(error)
        log.warning(
            "broker port not open ahead", listener=self._listener.name, server=server,
            port=wanted, reason=why,
        )  # fmt: skip

    def unreachable(self, destination: Host, error: OSError) -> None:
        """Say that clients are told the server's own address, since there is no port for it."""
        self._listener.unreachable(destination, Failure("no_port", error.strerror or str(error)))

    def close(self) -> None:
        """Close all, for good."""
        self.closed = True
        if self._listener.sockets:
            self._own = self._listener.sockets[0].getsockname()[1]
        for place in self._places.values():
            self._end(place)

    def _open(self, server: int, destination: Host) -> Place:
        if len(self._places) >= MOST:
            raise OSError(errno.EMFILE, f"{MOST} ports are open already")
        place = self._places[server] = Place(destination, self._sockets(server))
        runtime = self._listener.runtime
        runtime.own_listeners |= {sock.getsockname()[:2] for sock in place.sockets}
        runtime.spawn(runtime.loop.create_task(self._serve(server, place)))
        self._tell(server, place)
        return place

    def _tell(self, server: int, place: Place) -> None:
        host, port = place.destination
        log.info(
            "broker reachable", listener=self._listener.name, server=server,
            destination=f"{host}:{port}", port=place.port,
        )  # fmt: skip

    def _sockets(self, server: int) -> list[socket.socket]:
        """At the port that is meant for this server, or else at any that is free."""
        own = self._listener.sockets
        wanted = self._wanted(server)
        if wanted:
            try:
                return sockets_beside(own, wanted)
            except OSError as error:
                if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                    raise
        for _ in range(ATTEMPTS - 1):
            try:
                return sockets_beside(own, 0)
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
        return sockets_beside(own, 0)

    def _wanted(self, server: int) -> int:
        listener = self._listener
        kafka = listener.scope.kafka
        own = listener.address[1]
        first = (kafka and kafka.broker_ports) or (own and own + 1)
        port = first + server
        return port if first and server >= 0 and port < 65536 else 0

    async def _serve(self, server: int, place: Place) -> None:
        def upstream_of(transport: asyncio.Transport) -> Upstream:
            if place.ahead:
                place.elsewhere = [each for each in place.elsewhere if not each.is_closing()]
                place.elsewhere.append(transport)
            return cast("Upstream", self._upstream).elsewhere(place.destination)

        if place.closed:
            return
        try:
            place.servers = await self._listener.serve(place.sockets, upstream_of)
        except OSError as error:
            log.error("broker not reachable", server=server, port=place.port, error=str(error))
            if not place.closed:
                self._drop(server)
        if place.closed:
            place.close()

    def _drop(self, server: int) -> None:
        self._end(self._places.pop(server))

    def _end(self, place: Place) -> None:
        names = {sock.getsockname()[:2] for sock in place.sockets}
        self._listener.runtime.own_listeners -= names
        place.close()


class PlacesOf(Places):
    """The places as one client sees them: on the host at which it has reached us."""

    def __init__(self, ports: Ports, host: str) -> None:
        self._ports = ports
        self._host = host

    def local(self, server: int, destination: tuple[str, int]) -> tuple[str, int]:
        """See `Places.local`."""
        try:
            return self._host, self._ports.port_of(server, destination)
        except OSError as error:
            self._ports.unreachable(destination, error)
            raise
