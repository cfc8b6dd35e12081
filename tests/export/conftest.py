"""Spans to export, and an OTLP backend on the loopback that does what it is told."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import structlog
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
)

from meshproxy.trace.context import SpanContext
from meshproxy.trace.span import Kind, Span, SpanShape

SHAPE = SpanShape("GET /users/{id}", Kind.SERVER, [("http.request.method", "GET")])


def _make_span(number: int = 1, **changes: Any) -> Span:
    start = 1_700_000_000_000_000_000 + number
    fields: dict[str, Any] = {
        "shape": SHAPE,
        "context": SpanContext(bytes(15) + b"\x01", number.to_bytes(8, "big"), 1),
        "parent_id": b"",
        "start_ns": start,
        "end_ns": start + 1_500_000,
        "attributes": (("url.path", f"/users/{number}"),),
    }
    return Span(**(fields | changes))


@pytest.fixture
def make_span() -> Callable[..., Span]:
    """A span whose id is the number given (from 1), with any field changed."""
    return _make_span


@dataclass
class Reply:
    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    hang: bool = False


@dataclass
class Backend:
    """Answers with ``replies`` in turn, the last one for ever; keeps all requests."""

    replies: list[Reply]
    url: str = ""
    requests: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    asked: asyncio.Event = field(default_factory=asyncio.Event)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.requests.append((request.path, headers, await request.content.read()))
        self.asked.set()
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        if reply.hang:
            await asyncio.Event().wait()
        headers = {"Content-Type": "application/x-protobuf"} | reply.headers
        return web.Response(status=reply.status, body=reply.body, headers=headers)

    def decoded(self) -> list[ExportTraceServiceRequest]:
        """The requests as the official classes read them."""
        return [
            ExportTraceServiceRequest.FromString(
                gzip.decompress(body) if headers.get("content-encoding") == "gzip" else body
            )
            for _, headers, body in self.requests
        ]

    def span_numbers(self) -> list[int]:
        """Numbers of all spans that arrived, in order."""
        return [
            int.from_bytes(span.span_id, "big")
            for request in self.decoded()
            for resource_spans in request.resource_spans
            for scope_spans in resource_spans.scope_spans
            for span in scope_spans.spans
        ]


Serve = Callable[..., Any]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Start a backend: ``await serve(Reply(...), ..., port=0)``."""
    runners: list[web.AppRunner] = []

    async def start(*replies: Reply, port: int = 0) -> Backend:
        backend = Backend(list(replies) or [Reply()])
        app = web.Application(client_max_size=16 * 1024 * 1024)
        app.router.add_route("*", "/{tail:.*}", backend.handle)
        # Bodies arrive as they were sent.
        runner = web.AppRunner(app, auto_decompress=False, shutdown_timeout=0.1)
        runners.append(runner)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", port)
        await site.start()
        backend.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        return backend

    yield start
    for runner in runners:
        await runner.cleanup()


@pytest.fixture
def reply() -> type[Reply]:
    return Reply


class Time:
    """A clock that moves only when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []
        self.on_sleep: Callable[[], Any] | None = None

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        if self.on_sleep is not None and (waiting := self.on_sleep()) is not None:
            await waiting
        await asyncio.sleep(0)


@pytest.fixture
def fake_time() -> Time:
    return Time()


@pytest.fixture
def number_of() -> Callable[[Sequence[Span]], list[int]]:
    return lambda spans: [int.from_bytes(span.span_id, "big") for span in spans]


@pytest.fixture(autouse=True)
def default_logging() -> None:
    """Whatever an earlier test set up writes to a stream that is closed by now."""
    structlog.reset_defaults()
