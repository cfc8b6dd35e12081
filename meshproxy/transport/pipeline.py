"""What every exchange of a listener goes through; replaced as a whole at a reload."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from meshproxy import logs
from meshproxy.config.model import Limits
from meshproxy.filter import Exchange, Failure, Filter, Passage
from meshproxy.logs import Limiter
from meshproxy.stats import Stats
from meshproxy.wire.fields import FieldTable

log = logs.get(__name__)

FAILED = object()
"""In place of the state of a filter that raised: it is not called again for this message."""

now_ns = time.time_ns


def trace_facts(exchange: Exchange) -> dict[str, str]:
    """Trace id and span id of an exchange, for log lines."""
    trace = exchange.trace
    if trace is None:
        return {}
    return {"trace_id": trace.trace_id.hex(), "span_id": trace.span_id.hex()}


class Pipeline:
    """Filters, header table and limits. A filter that raises is counted, and passed over."""

    def __init__(
        self,
        filters: Sequence[Filter],
        limits: Limits,
        stats: Stats,
        access: Callable[[Exchange], None] | None = None,
    ) -> None:
        self.filters = tuple(filters)
        self.limits = limits
        self.header_bytes = limits.header_bytes
        self.headers = limits.headers
        self.pool_size = limits.pool_size
        self.stats = stats
        self.table = FieldTable(
            frozenset().union(*(each.marked for each in filters)),
            tuple(prefix for each in filters for prefix in each.prefixes),
            frozenset().union(*(each.fleeting for each in filters)),
        )
        self.sees_responses = any(
            type(each).on_response is not Filter.on_response for each in filters
        )
        self._access = access
        self._limiter = Limiter(30.0, time.monotonic)

    def begin(self, exchange: Exchange) -> None:
        """Show the request to the filters, which may change its head."""
        request = exchange.request
        states = exchange.states
        for each in self.filters:
            added, dropped = len(request.added), len(request.dropped)
            try:
                states.append(each.on_request(exchange))
            except Exception as error:
                del request.added[added:], request.dropped[dropped:]
                states.append(FAILED)
                self._broken(each, error)

    def respond(self, exchange: Exchange) -> None:
        """Show the head of the final response to the filters."""
        for position, each in enumerate(self.filters):
            state = exchange.states[position]
            if state is not FAILED:
                try:
                    each.on_response(exchange, state)
                except Exception as error:
                    exchange.states[position] = FAILED
                    self._broken(each, error)

    def request_body(self, exchange: Exchange, data: bytes) -> None:
        """Show the beginning of a request body that came after its head."""
        exchange.body = data[: exchange.peek]
        for each, state in zip(self.filters, exchange.states, strict=True):
            if state is not FAILED:
                try:
                    each.on_request_body(exchange, state, exchange.body)
                except Exception as error:
                    self._broken(each, error)

    def response_body(self, exchange: Exchange, data: bytes) -> None:
        """Show the beginning of the response's body, once."""
        data = data[: exchange.peek]
        exchange.peek = 0
        for each, state in zip(self.filters, exchange.states, strict=True):
            if state is not FAILED:
                try:
                    each.on_response_body(exchange, state, data)
                except Exception as error:
                    self._broken(each, error)

    def end(self, exchange: Exchange) -> None:
        """The exchange is over."""
        if not exchange.end_ns:
            exchange.end_ns = now_ns()
        for each, state in zip(self.filters, exchange.states, strict=True):
            if state is not FAILED:
                try:
                    each.on_end(exchange, state)
                except Exception as error:
                    self._broken(each, error)
        if exchange.failure is not None:
            self._failed(exchange, exchange.failure)
        if self._access is not None:
            self._access(exchange)

    def open(self, passage: Passage) -> None:
        """A connection begins to pass unread."""
        for each in self.filters:
            try:
                passage.states.append(each.on_open(passage))
            except Exception as error:
                passage.states.append(FAILED)
                self._broken(each, error)

    def close(self, passage: Passage) -> None:
        """The passing connection has ended."""
        passage.end_ns = now_ns()
        for each, state in zip(self.filters, passage.states, strict=True):
            if state is not FAILED:
                try:
                    each.on_close(passage, state)
                except Exception as error:
                    self._broken(each, error)

    def speaker(self, protocol: str) -> Filter | None:
        """The filter that speaks a protocol of its own, other than HTTP; None if there is none."""
        return next((each for each in self.filters if protocol and each.protocol == protocol), None)

    def tick(self) -> None:
        """Tell the filters that time has passed."""
        now = now_ns()
        for each in self.filters:
            try:
                each.on_tick(now)
            except Exception as error:
                self.broken(each, error, "filter raised in its own time")

    def _failed(self, exchange: Exchange, failure: Failure) -> None:
        """Log what the proxy could not do; that clients leave is nobody's failure."""
        if failure.kind == "client_gone":
            return
        suppressed = self._limiter.allow((failure.kind, exchange.destination))
        if suppressed is not None:
            log.warning(
                "request failed",
                direction="inbound" if exchange.scope.inbound else "outbound",
                status=exchange.status,
                kind=failure.kind,
                detail=failure.message,
                suppressed=suppressed,
                **trace_facts(exchange),
            )

    def _broken(self, each: Filter, error: Exception) -> None:
        self.broken(each, error, "filter raised; the message passes without it")

    def broken(self, each: Filter, error: Exception, event: str) -> None:
        """Count and log what a filter raised; ``event`` says what it means for the traffic."""
        self.stats.filter_errors[each.name] += 1
        suppressed = self._limiter.allow(each.name)
        if suppressed is not None:
            log.error(
                event, filter=each.name, error=repr(error), suppressed=suppressed, exc_info=error
            )
