"""The listeners that a configuration asks for; changed in place at a reload."""

from __future__ import annotations

import os

from meshproxy.config.model import Config, Inbound, Outbound
from meshproxy.config.values import Address
from meshproxy.filter import Scope
from meshproxy.sidecar.tls import Certificates
from meshproxy.transport.destinations import Destinations
from meshproxy.transport.listener import Listener, Route
from meshproxy.transport.pipeline import Pipeline
from meshproxy.transport.runtime import Host, Runtime
from meshproxy.transport.upstream import Upstream


class ListenError(Exception):
    """An address cannot be listened on, or a certificate cannot be read."""


class Listeners:
    """All listeners of one sidecar, by address."""

    def __init__(
        self, runtime: Runtime, destinations: Destinations, certificates: Certificates
    ) -> None:
        self._runtime = runtime
        self._destinations = destinations
        self._certificates = certificates
        self._open: dict[Host, tuple[Inbound | Outbound, Listener]] = {}

    async def apply(self, config: Config, pipeline: Pipeline) -> None:
        """Open, change and close listeners so that they are as ``config`` says.

        Raises `ListenError`, and then all is as it was.
        """
        items: list[Inbound | Outbound] = [*config.inbound, *config.outbound]
        wanted = [(_host(item.listen), item, self._route(item, config)) for item in items]
        opened = await self._open_new(wanted, pipeline)
        addresses = {address for address, _, _ in wanted}
        for address in [each for each in self._open if each not in addresses]:
            self._open.pop(address)[1].stop()
        for address, item, route in wanted:
            if address in opened:
                self._open[address] = (item, opened[address])
            else:
                listener = self._open[address][1]
                self._open[address] = (item, listener)
                await listener.change(route, pipeline)

    async def _open_new(
        self, wanted: list[tuple[Host, Inbound | Outbound, Route]], pipeline: Pipeline
    ) -> dict[Host, Listener]:
        opened: dict[Host, Listener] = {}
        for address, item, route in wanted:
            if address in self._open:
                continue
            listener = Listener(self._runtime, self._destinations, address, route, pipeline)
            try:
                await listener.start()
            except OSError as error:
                for other in opened.values():
                    other.stop()
                why = os.strerror(error.errno) if error.errno else str(error)
                raise ListenError(f"cannot listen on {item.listen}: {why}") from error
            opened[address] = listener
        return opened

    def _route(self, item: Inbound | Outbound, config: Config) -> Route:
        inbound = isinstance(item, Inbound)
        try:
            settings = item.tls if isinstance(item, Inbound) else None
            tls = self._certificates.server(settings) if settings else None
            upstream = self._upstream(item)
        except OSError as error:
            raise ListenError(f"TLS of {item.listen}: {error}") from error
        # Calls are made from within: only in front of the service is there an outside by default.
        trust = item.trust or (config.propagation.trust if inbound else "mesh")
        scope = Scope(inbound, item.listen, "https" if tls else "http", trust)
        mode = item.mode if item.mode in ("redirect", "forward-proxy") else "fixed"
        return Route(scope, mode, item.protocol, upstream, tls, frozenset(config.opaque_ports))

    def _upstream(self, item: Inbound | Outbound) -> Upstream | None:
        if item.upstream is None:
            return None
        known = self._open.get(_host(item.listen))
        if known is not None and _same_upstream(known[0], item):
            return known[1].route.upstream
        settings = item.upstream_tls
        address = Address.parse(item.upstream)
        return Upstream(
            self._runtime,
            (address.host, address.port),
            item.peer or "" if isinstance(item, Outbound) else "",
            self._certificates.client(settings) if settings else None,
            settings.server_name if settings else None,
        )

    def stop(self, *, inbound: bool) -> None:
        """Close the listeners of one direction."""
        for address, (item, listener) in tuple(self._open.items()):
            if isinstance(item, Inbound) is inbound:
                listener.stop()
                del self._open[address]


def _host(listen: str) -> Host:
    address = Address.parse_listen(listen)
    return address.host, address.port


def _same_upstream(one: Inbound | Outbound, other: Inbound | Outbound) -> bool:
    return (
        one.upstream == other.upstream
        and one.upstream_tls == other.upstream_tls
        and getattr(one, "peer", None) == getattr(other, "peer", None)
    )
