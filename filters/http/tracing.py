"""The filter itself: which direction a message goes decides what is done with it."""

from __future__ import annotations

from typing import ClassVar, cast

from filters.http.context import CORRELATION_IDS, Tracing
from filters.http.inbound import Inbound, Received
from filters.http.outbound import Outbound, Sent
from filters.http.passages import Passages, State
from filters.http.reader import Reader
from filters.http.routes import Routes
from filters.http.spans import Shapes
from meshproxy.filter import Environment, Exchange, Filter, Passage
from meshproxy.trace.propagator import Propagator


class HttpTracing(Filter):
    """SERVER spans for what comes in, CLIENT spans for what goes out."""

    name: ClassVar[str] = "http"
    marked: ClassVar[frozenset[bytes]] = Propagator.fields | set(CORRELATION_IDS)
    prefixes: ClassVar[tuple[bytes, ...]] = Propagator.prefixes
    fleeting: ClassVar[frozenset[bytes]] = Propagator.fields | set(CORRELATION_IDS)

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        routes = environment.config.routes
        tracing = Tracing(environment)
        shapes = Shapes(environment.stats, tracing.old_names)
        reader = Reader(environment.linker, environment.inflight)
        self._inbound = Inbound(tracing, Routes(routes.templates, routes.limit), shapes, reader)
        self._outbound = Outbound(tracing, Routes(routes.templates, routes.limit), shapes, reader)
        self._passages = Passages(tracing)

    def on_request(self, exchange: Exchange) -> object:
        """Put our context in the place of the one that came."""
        if exchange.scope.inbound:
            return self._inbound.on_request(exchange)
        return self._outbound.on_request(exchange)

    def on_request_body(self, exchange: Exchange, state: object, data: bytes) -> None:
        """Read on in a request."""
        if exchange.scope.inbound:
            self._inbound.on_request_body(exchange, cast(Received, state), data)

    def on_response_body(self, exchange: Exchange, state: object, data: bytes) -> None:
        """Read what a call is answered."""
        if not exchange.scope.inbound:
            self._outbound.on_response_body(exchange, cast(Sent, state), data)

    def on_end(self, exchange: Exchange, state: object) -> None:
        """Finish the span."""
        if exchange.scope.inbound:
            self._inbound.on_end(exchange, cast(Received, state))
        else:
            self._outbound.on_end(exchange, cast(Sent, state))

    def on_open(self, passage: Passage) -> object:
        """Begin the span of a connection."""
        return self._passages.on_open(passage)

    def on_close(self, passage: Passage, state: object) -> None:
        """Finish the span of a connection."""
        self._passages.on_close(passage, cast("State | None", state))
