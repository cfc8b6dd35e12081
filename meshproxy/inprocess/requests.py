"""The context of an inbound request, which the sidecar has put into its headers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from typing import Any, Final

from meshproxy.inprocess import otel
from meshproxy.inprocess.context import Current, Scope
from meshproxy.trace.context import SpanContext
from meshproxy.trace.propagator import TRACECONTEXT, Propagator

Text = str | bytes
Headers = Mapping[str, str] | Iterable[tuple[Text, Text]]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

_PROPAGATOR: Final = Propagator((TRACECONTEXT,))
_WANTED: Final = frozenset((b"traceparent", b"tracestate", b"baggage"))


@contextmanager
def request_context(headers: Headers) -> Iterator[None]:
    """Make the span current that a request's traceparent, tracestate and baggage name.

    ``headers`` are a mapping or pairs, as text or bytes, by names of any case. Without a valid
    traceparent nothing changes.
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
    found: dict[bytes, list[bytes]] = {}
    for name, value in headers.items() if isinstance(headers, Mapping) else headers:
        key = _bytes(name).lower()
        if key in _WANTED:
            found.setdefault(key, []).append(_bytes(value))
    extracted = _PROPAGATOR.extract(found)
    context = extracted.context
    if context is None:
        return None
    active = otel.active()
    if active is not None and active.trace_id == context.trace_id:
        # OpenTelemetry's own server span, made from the same headers, is nearer.
        context = SpanContext(active.trace_id, active.span_id, active.flags, active.tracestate)
        return Current(context, extracted.baggage, active.remote)
    return Current(context, extracted.baggage, remote=True)


def _bytes(text: Text) -> bytes:
    return text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape")
