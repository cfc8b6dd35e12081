"""What is current, from requests and with OpenTelemetry."""

from __future__ import annotations

import asyncio
import contextvars
import email.message
import gc
import logging
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from opentelemetry import baggage, context, trace
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


def message_with(**headers: str) -> email.message.Message:
    """What http.server gives: it has ``items``, but is no Mapping."""
    message = email.message.Message()
    for name, value in headers.items():
        message[name] = value
    return message


@pytest.mark.parametrize(
    "headers",
    [
        message_with(Traceparent=TRACEPARENT, Baggage="a=1"),
        [("traceparent", TRACEPARENT), (None, "x"), ("tracestate", None), ("baggage", "a=1")],
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


class Watched(Current):
    """A span of which it can be told whether something still holds it."""

    __slots__ = ("__weakref__",)


def watched(alive: weakref.WeakSet[Watched]) -> Scope:
    span = Watched(SpanContext(b"t" * 16, b"watched8", 1))
    alive.add(span)
    return Scope(span)


def test_messages_taken_in_turn_from_two_consumers_are_not_kept() -> None:
    alive: weakref.WeakSet[Watched] = weakref.WeakSet()

    def take_turns() -> None:
        before = [watched(alive), watched(alive)]
        for scope in before:
            scope.enter()
        for turn in range(20):
            before[turn % 2].give_way()
            before[turn % 2] = watched(alive)
            before[turn % 2].enter()
        gc.collect()
        assert len(alive) <= 4
        for scope in before:
            scope.give_way()
        assert ids() is None

    contextvars.copy_context().run(take_turns)


def in_its_successor(within: contextvars.Context, scope: Scope) -> contextvars.Context:
    within.run(scope.enter)
    return within.run(contextvars.copy_context)


def test_tasks_that_start_their_successors_do_not_keep_all_before_them() -> None:
    """While they still work: a block that has ended, or a message that was done with later."""
    alive: weakref.WeakSet[Watched] = weakref.WeakSet()
    within = contextvars.copy_context()
    for _ in range(20):
        blocks, messages = watched(alive), watched(alive)
        successor = in_its_successor(within, blocks)
        within.run(blocks.leave)
        within = in_its_successor(successor, messages)
        messages.give_way()
    del blocks, messages, successor
    gc.collect()
    assert len(alive) <= 4


MEMBERS = "k=v;prop=1,sp=a%20b"


def their_baggage() -> dict[str, object]:
    return dict(baggage.get_all())


def test_a_message_has_its_own_baggage_only() -> None:
    with request_context({"traceparent": TRACEPARENT, "baggage": "outer=req"}):
        for members, seen in ((b"", {}), (b"a=1", {"a": "1"}), (b"unreadable", {})):
            scope = Scope(Current(SpanContext(b"t" * 16, b"message8", 1), members))
            scope.enter()
            assert their_baggage() == seen
            with SDK.start_as_current_span("inner"):
                found = parent()
                assert found is not None
                assert found.baggage == members
            scope.leave()
        assert their_baggage() == {"outer": "req"}


def test_baggage_passes_byte_by_byte_unless_the_application_adds_to_it() -> None:
    with request_context({"traceparent": TRACEPARENT, "baggage": MEMBERS}):
        with SDK.start_as_current_span("inner"):
            found = parent()
            assert found is not None
            assert found.baggage == MEMBERS.encode()
        with SDK.start_as_current_span("inner"):
            token = context.attach(baggage.set_baggage("more", "2"))
            found = parent()
            context.detach(token)
            assert found is not None
            assert found.baggage.endswith(b"more=2")


def test_what_was_added_to_the_baggage_of_their_server_span_stays() -> None:
    remote = trace.SpanContext(int(TRACE, 16), int(PARENT, 16), True, trace.TraceFlags(1))
    above = trace.set_span_in_context(trace.NonRecordingSpan(remote))
    headers = {"traceparent": TRACEPARENT, "baggage": "a=1"}
    with SDK.start_as_current_span("server", above):
        with request_context(headers):  # their propagator does not read baggage here
            assert their_baggage() == {"a": "1"}
        token = context.attach(baggage.set_baggage("user", "u", baggage.set_baggage("a", "1")))
        with request_context(headers):
            assert their_baggage() == {"a": "1", "user": "u"}
        context.detach(token)


def test_a_span_counts_as_used_once_something_may_be_below_it() -> None:
    first, second, idle = (span_of_ours(bytes([n]) * 8) for n in (1, 2, 3))
    for span in (first, second, idle):
        scope = Scope(span)
        scope.enter()
        if span is first:
            parent()
        if span is second:
            SDK.start_span("theirs").end()
        scope.leave()
    assert [span.used for span in (first, second, idle)] == [True, True, False]
