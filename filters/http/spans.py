"""Finished exchanges to spans. What does not differ from span to span is made once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from filters.http import attributes as names
from filters.shared import Pairs, tell_failure
from meshproxy.filter import Exchange
from meshproxy.stats import Series, Stats
from meshproxy.trace.context import SpanContext
from meshproxy.trace.span import (
    AttributeValue,
    Kind,
    Link,
    SharedAttributes,
    Span,
    SpanShape,
    Status,
)

REMEMBERED_SHAPES: Final = 1000
REMEMBERED_PEERS: Final = 2000

Key = tuple[object, ...]


class Shape:
    """A span shape, the statistics that go with it, and whether it is an error."""

    __slots__ = ("error", "series", "span")

    def __init__(self, span: SpanShape, series: Series, error: bool) -> None:
        self.span = span
        self.series = series
        self.error = error


class Peers:
    """Attributes of the other end of a connection, made once for each; bounded."""

    def __init__(self, old_names: bool) -> None:
        self._old_names = old_names
        self._known: dict[tuple[tuple[str, int], str | None], SharedAttributes] = {}

    def of(self, peer: tuple[str, int] | None, client: str | None) -> SharedAttributes | None:
        """network.peer.*, and client.address if ``client`` is given; None without a peer."""
        if peer is None:
            return None
        key = (peer, client)
        found = self._known.get(key)
        if found is None:
            pairs: Pairs = [("network.peer.address", peer[0]), ("network.peer.port", peer[1])]
            if client is not None:
                pairs.append(("client.address", client))
            if self._old_names:
                pairs = names.with_old_names(pairs, names.OLD_NAMES)
            if len(self._known) >= REMEMBERED_PEERS:
                self._known.clear()
            found = self._known[key] = SharedAttributes(pairs)
        return found


class Shapes:
    """Span shapes by what tells them apart; bounded.

    ``old_names``: also give the attributes the names that they had before they were stable.
    """

    def __init__(self, stats: Stats, old_names: bool) -> None:
        self._stats = stats
        self._old_names = old_names
        self._shapes: dict[Key, Shape] = {}
        self.get = self._shapes.get

    def _remember(self, key: Key, shape: Shape) -> Shape:
        if len(self._shapes) >= REMEMBERED_SHAPES:
            self._shapes.clear()
        self._shapes[key] = shape
        return shape

    def server(
        self,
        key: Key,
        exchange: Exchange,
        route: str,
        verdict: Sequence[tuple[str, AttributeValue]],
    ) -> Shape:
        """Make the shape of a SERVER span; ``verdict`` says what was made of its context."""
        method, original = names.method_of(exchange.request.line.method)
        scheme = exchange.scope.scheme
        pairs: Pairs = [("url.scheme", scheme)]
        if exchange.request.host:
            host, port = names.host_and_port(names.bounded(exchange.request.host), scheme)
            pairs += [("server.address", host), ("server.port", port)]
        if route:
            pairs.append(("http.route", route))
        agent = names.bounded(exchange.request.agent)
        if agent:
            pairs.append(("user_agent.original", agent.decode("utf-8", "replace")))
        pairs += verdict
        self._common(pairs, exchange, method, original, 500, exchange.status)
        shape = self._shape("inbound", Kind.SERVER, method, route, exchange, pairs, 500)
        return self._remember(key, shape)

    def client(
        self, key: Key, exchange: Exchange, route: str, linked: Sequence[tuple[str, AttributeValue]]
    ) -> Shape:
        """Make the shape of a CLIENT span; ``linked`` says how it was linked."""
        method, original = names.method_of(exchange.request.line.method)
        scheme = "https" if exchange.tls else "http"
        host, port = exchange.destination
        if exchange.authority and method != "CONNECT":
            host, port = names.host_and_port(names.bounded(exchange.authority), scheme)
        pairs: Pairs = [("server.address", host), ("server.port", port)]
        if exchange.peer:
            pairs.append(("peer.service", exchange.peer))
        if route:
            pairs.append(("url.template", route))
        pairs += linked
        # An answer that we gave ourselves is none that was received.
        received = 0 if exchange.failure and exchange.response is None else exchange.status
        self._common(pairs, exchange, method, original, 400, received)
        shape = self._shape("outbound", Kind.CLIENT, method, route, exchange, pairs, 400)
        return self._remember(key, shape)

    def _common(
        self,
        pairs: Pairs,
        exchange: Exchange,
        method: str,
        original: str,
        error_from: int,
        status: int,
    ) -> None:
        pairs.append(("http.request.method", method))
        if original:
            pairs.append(("http.request.method_original", original))
        pairs.append(("network.protocol.version", f"1.{exchange.request.line.minor}"))
        if status:
            pairs.append(("http.response.status_code", status))
        if exchange.failure is not None:
            pairs.append(("error.type", exchange.failure.kind))
        elif exchange.status >= error_from:
            pairs.append(("error.type", str(exchange.status)))

    def _shape(
        self,
        direction: str,
        kind: Kind,
        method: str,
        route: str,
        exchange: Exchange,
        pairs: Pairs,
        error_from: int,
    ) -> Shape:
        if self._old_names:
            own = names.OLD_SERVER_NAMES if kind is Kind.SERVER else names.OLD_CLIENT_NAMES
            pairs = names.with_old_names(pairs, names.OLD_NAMES | own)
        status = str(exchange.status) if exchange.status else "none"
        series = self._stats.requests(direction, method, route, status)
        error = exchange.failure is not None or exchange.status >= error_from
        return Shape(SpanShape(names.span_name(method, route), kind, pairs), series, error)


def finished(
    exchange: Exchange,
    shape: Shape,
    context: SpanContext,
    parent_id: bytes,
    pairs: Pairs,
    links: Sequence[Link],
    parent_remote: bool,
    shared: SharedAttributes | None,
) -> Span:
    """The span of an exchange that is over."""
    span = Span(
        shape.span,
        context,
        parent_id,
        exchange.start_ns,
        exchange.end_ns,
        pairs,
        parent_remote=parent_remote,
        links=links,
        shared=shared,
    )
    if shape.error:
        span.status = Status.ERROR
        if exchange.failure is not None:
            tell_failure(span, exchange.failure)
    return span
