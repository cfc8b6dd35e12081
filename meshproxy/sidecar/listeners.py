"""The listeners that a configuration asks for; changed in place at a reload."""

from __future__ import annotations

import os
import ssl
from collections.abc import Container

from meshproxy.config.model import Config, Inbound, Kafka, Outbound
from meshproxy.config.values import Address
from meshproxy.filter import Scope
from meshproxy.sidecar.tls import Certificates
from meshproxy.transport.destinations import Destinations
from meshproxy.transport.listener import Listener, Route
from meshproxy.transport.pipeline import Pipeline
from meshproxy.transport.runtime import Host, Runtime
from meshproxy.transport.upstream import Upstream

Item = Inbound | Outbound
Key = tuple[Host, int]
"""An address, and a number that tells apart what listens on port 0 of it."""


class ListenError(Exception):
    """An address cannot be listened on, or a certificate cannot be read."""


class Listeners:
    """All listeners of one sidecar, by address: a socket each, also for two that share one."""

    def __init__(self, runtime: Runtime, destinations: Destinations) -> None:
        self._runtime = runtime
        self._destinations = destinations
        self._certificates = Certificates()
        self._open: dict[Key, tuple[Item, Listener]] = {}

    async def apply(self, config: Config, pipeline: Pipeline) -> None:
        """Open, change and close listeners so that they are as ``config`` says.

        Raises `ListenError`, and then all is as it was.
        """
        certificates = Certificates()
        wanted = [
            (key, item, self._route(key, item, redirected, config, certificates))
            for key, (item, redirected) in _by_socket(config).items()
        ]
        opened = await self._open_new(wanted, pipeline)
        self._certificates = certificates
        keys = {key for key, _, _ in wanted}
        for key in [each for each in self._open if each not in keys]:
            self._open.pop(key)[1].stop()
        for key, item, route in wanted:
            if route.upstream is not None:
                route.upstream.tls = _client_tls(item, certificates)
            if key in opened:
                self._open[key] = (item, opened[key])
            else:
                listener = self._open[key][1]
                self._open[key] = (item, listener)
                await listener.change(route, pipeline)

    async def _open_new(
        self, wanted: list[tuple[Key, Item, Route]], pipeline: Pipeline
    ) -> dict[Key, Listener]:
        opened: dict[Key, Listener] = {}
        for key, item, route in wanted:
            if key in self._open:
                continue
            listener = Listener(self._runtime, self._destinations, key[0], route, pipeline)
            try:
                await listener.start()
            except OSError as error:
                for other in opened.values():
                    other.stop()
                why = os.strerror(error.errno) if error.errno else str(error)
                raise ListenError(f"cannot listen on {item.listen}: {why}") from error
            opened[key] = listener
        return opened

    def _route(
        self,
        key: Key,
        item: Item,
        redirected: bool,
        config: Config,
        certificates: Certificates,
    ) -> Route:
        inbound = isinstance(item, Inbound)
        try:
            settings = item.tls if isinstance(item, Inbound) else None
            tls = certificates.server(settings) if settings else None
            upstream = self._upstream(key, item, certificates)
        except OSError as error:
            raise ListenError(f"TLS of {item.listen}: {error}") from error
        # Calls are made from within: only in front of the service is there an outside by default.
        trust = item.trust or (config.propagation.trust if inbound else "mesh")
        scope = Scope(inbound, item.listen, "https" if tls else "http", trust, _kafka(item))
        mode = item.mode if item.mode in ("redirect", "forward-proxy") else "fixed"
        opaque_ports = frozenset(config.opaque_ports)
        return Route(scope, mode, item.protocol, upstream, tls, opaque_ports, redirected)

    def _upstream(self, key: Key, item: Item, certificates: Certificates) -> Upstream | None:
        if item.upstream is None:
            return None
        tls = _client_tls(item, certificates)
        known = self._open.get(key)
        if known is not None and _same_upstream(known[0], item):
            return known[1].route.upstream
        address = Address.parse(item.upstream)
        return Upstream(
            self._runtime,
            (address.host, address.port),
            item.peer or "" if isinstance(item, Outbound) else "",
            tls,
            item.upstream_tls.server_name if item.upstream_tls else None,
        )

    def check_certificates(self, now: float) -> None:
        """Read certificate files again that have changed."""
        self._certificates.check(now)

    def stop(self, *, inbound: bool) -> None:
        """Close the listeners of one direction."""
        for key, (item, listener) in tuple(self._open.items()):
            if isinstance(item, Inbound) is inbound:
                listener.stop()
                del self._open[key]


def _by_socket(config: Config) -> dict[Key, tuple[Item, bool]]:
    """What is configured for each socket, and whether redirected connections are welcome there.

    Of a redirect and another mode on one address, it is the other.
    """
    found: dict[Key, tuple[Item, bool]] = {}
    items: list[Item] = [*config.inbound, *config.outbound]
    for item in items:
        redirected = item.mode == "redirect"
        key = _free_key(item, found)
        other = found.get(key)
        if other is None:
            found[key] = (item, redirected)
        else:
            found[key] = (other[0] if redirected else item, True)
    return found


def _free_key(item: Item, taken: Container[Key]) -> Key:
    address = Address.parse_listen(item.listen)
    host = (address.host, address.port)
    number = 0
    while not address.port and (host, number) in taken:
        number += 1  # each gets a free port of its own
    return host, number


def _client_tls(item: Item, certificates: Certificates) -> ssl.SSLContext | None:
    if item.upstream_tls is None:
        return None
    return certificates.client(item.upstream_tls, http=item.protocol in ("auto", "http"))


def _kafka(item: Item) -> Kafka | None:
    if isinstance(item, Inbound) or item.protocol != "kafka":
        return None
    return item.kafka or Kafka()


def _same_upstream(one: Item, other: Item) -> bool:
    return (
        one.upstream == other.upstream
        and one.upstream_tls == other.upstream_tls
        and getattr(one, "peer", None) == getattr(other, "peer", None)
    )
