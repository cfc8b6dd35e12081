"""What is current, from requests and with OpenTelemetry."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from opentelemetry import baggage, trace
from opentelemetry.sdk.trace import TracerProvider

from meshproxy.inprocess import (
    Current,
    Scope,
    TraceContextMiddleware,
    current,
    otel,
    parent,
    request_context,
)
from meshproxy.inprocess.aiohttp_server import trace_context
from meshproxy.trace.context import SpanContext

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"
SDK = TracerProvider().get_tracer("tests")


def ids() -> tuple[str, str] | None:
    found = parent()
    return (found.context.trace_id.hex(), found.context.span_id.hex()) if found else None


def theirs() -> tuple[str, str]:
    context = trace.get_current_span().get_span_context()
    return f"{context.trace_id:032x}", f"{context.span_id:016x}"


@pytest.mark.parametrize(
    "headers",
    [
        {"TraceParent": TRACEPARENT, "baggage": "a=1"},
        [(b"traceparent", TRACEPARENT.encode()), (b"baggage", b"a=1")],
        iter([("traceparent", TRACEPARENT), ("Baggage", "a=1")]),
    ],
)
def test_a_request_is_current_in_its_block(headers: Any) -> None:
    with request_context(headers):
        found = parent()
        assert ids() == theirs() == (TRACE, PARENT)
        assert found is not None
        assert (found.remote, found.baggage) == (True, b"a=1")
        assert baggage.get_baggage("a") == "1"
    assert (ids(), theirs()[0]) == (None, "0" * 32)
    assert baggage.get_baggage("a") is None


@pytest.mark.parametrize(
    "headers",
    [{}, {"traceparent": "?"}, [("traceparent", TRACEPARENT)] * 2, {"tracestate": "a=b"}],
)
def test_a_request_without_context_changes_nothing(headers: Any) -> None:
    with request_context(headers):
        assert ids() is None


async def test_asgi() -> None:
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(0)
        seen.append(ids())

    async def nothing(*_: Any) -> Any:
        raise AssertionError

    middleware = TraceContextMiddleware(app)
    headers = [(b"traceparent", TRACEPARENT.encode())]
    await middleware({"type": "http", "headers": headers}, nothing, nothing)
    await middleware({"type": "lifespan"}, nothing, nothing)
    assert seen == [(TRACE, PARENT), None]


async def test_aiohttp() -> None:
    async def handle(_: web.Request) -> web.Response:
        return web.json_response(ids())

    application = web.Application(middlewares=[trace_context])
    application.router.add_get("/", handle)
    async with TestClient(TestServer(application)) as client:
        answer = await client.get("/", headers={"traceparent": TRACEPARENT})
        assert await answer.json() == [TRACE, PARENT]
        assert await (await client.get("/")).json() is None


def span_of_ours(span_id: bytes = b"ours8888") -> Current:
    return Current(SpanContext(bytes.fromhex(TRACE), span_id, 1), b"a=1")


def test_opentelemetrys_span_is_current_where_there_is_none_of_ours() -> None:
    with SDK.start_as_current_span("theirs"):
        assert ids() == theirs()
        found = parent()
        assert found is not None
        assert not found.remote


def test_opentelemetry_carries_on_and_is_carried_on() -> None:
    scope = Scope(span_of_ours())
    with SDK.start_as_current_span("outer"):
        outer = theirs()
        scope.enter()
        assert ids() == theirs() == (TRACE, b"ours8888".hex())
        with SDK.start_as_current_span("inner") as inner:
            assert inner.get_span_context().trace_id == int(TRACE, 16)
            assert ids() == theirs()  # it was started within ours
            found = parent()
            assert found is not None
            assert found.baggage == b"a=1"
        assert ids() == (TRACE, b"ours8888".hex())
        scope.leave()
        assert ids() == theirs() == outer


def test_their_server_span_is_nearer_than_the_header_it_was_made_of() -> None:
    remote = trace.SpanContext(int(TRACE, 16), int(PARENT, 16), True, trace.TraceFlags(1))
    above = trace.set_span_in_context(trace.NonRecordingSpan(remote))
    with SDK.start_as_current_span("server", above), request_context({"traceparent": TRACEPARENT}):
        assert ids() == theirs() != (TRACE, PARENT)


def test_giving_way_leaves_alone_what_became_current_since() -> None:
    first, second = Scope(span_of_ours()), Scope(span_of_ours(b"second88"))
    first.enter()
    second.enter()
    first.give_way()
    assert current.get() is second.span
    assert theirs()[1] == second.span.context.span_id.hex()
    second.give_way()  # and what gave way before does not come back
    assert (current.get(), theirs()[0]) == (None, "0" * 32)


def test_ending_in_another_context_changes_nothing_there(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As when the event loop closes a generator that nobody went on with."""

    def generator() -> Iterator[None]:
        with request_context({"traceparent": TRACEPARENT}):
            yield

    left = generator()
    contextvars.copy_context().run(next, left)
    with SDK.start_as_current_span("elsewhere"):
        before = theirs()
        left.close()
        assert ids() == theirs() == before
    scope = Scope(span_of_ours())
    contextvars.copy_context().run(scope.enter)
    scope.give_way()
    assert ids() is None
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_opentelemetry_is_not_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otel, "_installed", lambda: False)
    with SDK.start_as_current_span("not looked at"):
        before = theirs()
        assert ids() is None
        with request_context({"traceparent": TRACEPARENT}):
            assert ids() == (TRACE, PARENT)
            assert theirs() == before
        assert otel.baggage() == b""
