"""The context of an inbound request, which the sidecar has put into its headers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from typing import Any, Final, Protocol

from meshproxy.inprocess import otel
from meshproxy.inprocess.context import Current, Scope
from meshproxy.trace.context import SpanContext
from meshproxy.trace.propagator import TRACECONTEXT, Propagator


class WithItems(Protocol):
    """Headers by name that are no `Mapping`, as those of http.server."""

    def items(self) -> Iterable[tuple[Any, Any]]:
        """All pairs of name and value."""


Headers = Mapping[str, str] | WithItems | Iterable[tuple[Any, Any]]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

_PROPAGATOR: Final = Propagator((TRACECONTEXT,))
_WANTED: Final = frozenset((b"traceparent", b"tracestate", b"baggage"))


@contextmanager
def request_context(headers: Headers) -> Iterator[None]:
    """Make the span current that a request's traceparent, tracestate and baggage name.

    ``headers`` are pairs, or have ``items``, as text or bytes, by names of any case; a value that
    is neither is passed over. Without a valid traceparent nothing changes.
    """
    span = _span_of(headers)
    if span is None:
        yield
        return
    scope = Scope(span)
    scope.enter()
    try:
        yield
    finally:
        scope.leave()


class TraceContextMiddleware:
    """ASGI middleware: requests and WebSockets run within their `request_context`."""

    def __init__(self, app: Application) -> None:
        self._app = app

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        with request_context(scope.get("headers", ())):
            await self._app(scope, receive, send)


def _span_of(headers: Headers) -> Current | None:
    extracted = _PROPAGATOR.extract(_wanted(headers))
    context = extracted.context
    if context is None:
        return None
    active = otel.active()
    if active is not None and active.trace_id == context.trace_id:
        # OpenTelemetry's own server span, made from the same headers, is nearer.
        context = SpanContext(active.trace_id, active.span_id, active.flags, active.tracestate)
        baggage = otel.baggage(extracted.baggage) or extracted.baggage
        return Current(context, baggage, active.remote)
    return Current(context, extracted.baggage, remote=True)


def _wanted(headers: Headers) -> dict[bytes, list[bytes]]:
    found: dict[bytes, list[bytes]] = {}
    items = getattr(headers, "items", None)
    pairs: Any = items() if items is not None else headers
    for name, value in pairs:
        key = _bytes(name).lower()
        if key in _WANTED and isinstance(value, str | bytes):
            found.setdefault(key, []).append(_bytes(value))
    return found


def _bytes(text: object) -> bytes:
    if isinstance(text, str):
        return text.encode("utf-8", "surrogateescape")
    return text if isinstance(text, bytes) else b""
