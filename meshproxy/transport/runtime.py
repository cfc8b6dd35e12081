"""What all listeners of one process share."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable

from meshproxy.linking.sockets import Socket
from meshproxy.stats import Stats
from meshproxy.transport.ticker import Ticker
from meshproxy.transport.workers import Workers

Host = tuple[str, int]


class Runtime:
    """Event loop, clock, counters, and which sockets are our own.

    ``own_listeners`` are addresses that we listen on, ``own_sockets`` the local addresses of our
    upstream connections: a connection from one of these would be us talking to ourselves.
    ``workers`` do what takes too long for the event loop.
    ``watch`` is told of each request that is about to be written to the service: on which socket,
    its size in bytes if that is known, and whether it is the first one there.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, ticker: Ticker, stats: Stats) -> None:
        self.loop = loop
        self.ticker = ticker
        self.stats = stats
        self.draining = False
        self.workers = Workers(loop)
        self.connections = 0
        self.turned_away = 0
        self._inbound = 0
        self._left = asyncio.Event()
        self.own_listeners: set[Host] = set()
        self.own_sockets: set[Host] = set()
        self.watch: Callable[[Socket, int, bool], None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def enter(self, inbound: bool) -> None:
        """Count a client connection in."""
        self.connections += 1
        self._inbound += inbound

    def leave(self, inbound: bool) -> None:
        """Count a client connection out."""
        self.connections -= 1
        self._inbound -= inbound
        self._left.set()

    async def drained(self, inbound_only: bool, deadline: float) -> bool:
        """Wait until no client connection is left; False when ``deadline`` comes first."""
        try:
            async with asyncio.timeout_at(deadline):
                while self._inbound if inbound_only else self.connections:
                    self._left.clear()
                    await self._left.wait()
        except TimeoutError:
            return False
        return True

    def longest_idle(self, configured: float) -> float:
        """Seconds for which a client may be idle.

        While draining it is two ticks: whoever is about to send the next request on a connection
        gets it answered, and is told there that the connection ends.
        """
        return min(configured, 1.5 * self.ticker.interval) if self.draining else configured

    def spawn(self, task: asyncio.Task[None]) -> asyncio.Task[None]:
        """Keep a reference to a task until it is done."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def is_own_listener(self, destination: Host) -> bool:
        """Whether a connection to ``destination`` would come back to us."""
        port = destination[1]
        return destination in self.own_listeners or any(
            own_port == port and own_host in ("0.0.0.0", "::") and _is_local(destination[0])
            for own_host, own_port in self.own_listeners
        )


def plain_host(address: tuple[str, int] | tuple[str, int, int, int]) -> Host:
    """A socket's address without scope; IPv4 as such, also if a dual-stack socket has mapped it."""
    return address[0].partition("%")[0].removeprefix("::ffff:"), address[1]


def _is_local(host: str) -> bool:
    """Whether an address is one of this host's own: whether it can be bound."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind((host, 0))
    except OSError as error:
        return error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
    return True
