"""Spans leave by a thread of their own, whatever the application does."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence

import pytest

from meshproxy.config.model import Queue
from meshproxy.export.exporter import Exporter, Item, PermanentError, SendResult
from meshproxy.inprocess.background import Background
from meshproxy.inprocess.settings import Settings
from meshproxy.trace.context import SpanContext
from meshproxy.trace.span import Kind, Span, SpanShape
from tests.support.otlp import Collector
from tests.support.raw import PATIENCE

SHAPE = SpanShape("work", Kind.INTERNAL, ())


def span(number: int = 0) -> Span:
    context = SpanContext(b"t" * 16, (number + 1).to_bytes(8, "big"), 1)
    return Span(SHAPE, context, b"", 1, 2)


class Held:
    """An exporter that holds what it is given until it may go on."""

    def __init__(self) -> None:
        self.sent: list[int] = []
        self.asked = threading.Event()
        self.may_go_on = threading.Event()
        self.error: Exception | None = None
        self.closed = False

    def prepare(self, span: Span) -> Item:
        return span

    async def start(self) -> None:
        pass

    async def send(self, items: Sequence[Item]) -> SendResult:
        self.asked.set()
        while not self.may_go_on.is_set():
            await asyncio.sleep(0.001)
        if self.error is not None:
            raise self.error
        self.sent.append(len(items))
        return SendResult(len(items))

    async def close(self) -> None:
        self.closed = True


@pytest.fixture
def held() -> Held:
    return Held()


@pytest.fixture
def background(held: Held) -> Iterator[Background]:
    def make(_: Settings) -> Exporter:
        return held

    background = Background(Settings(), Queue(size=10, batch=4, interval=0.001), make)
    yield background
    background.close(0)


def test_offering_never_waits_and_what_has_no_room_is_counted(
    background: Background, held: Held
) -> None:
    for number in range(15):
        background.offer(span(number))  # not even started
    assert background.dropped == {"queue_full": 5}
    background.start()
    background.start()
    assert background.flush(0) is False
    assert held.asked.wait(PATIENCE)
    held.may_go_on.set()
    assert background.flush(PATIENCE)
    assert (background.sent, sum(held.sent)) == (10, 10)
    assert max(held.sent) == 4


def test_without_a_thread_spans_are_held(
    background: Background, held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        gc.collect()
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            background.start()
            gc.collect()
        assert [each.message for each in warned] == []  # such as of a loop that is not closed
    background.offer(span())
    held.may_go_on.set()
    background.start()
    assert background.flush(PATIENCE)
    assert background.sent == 1


def test_from_many_threads(background: Background, held: Held) -> None:
    held.may_go_on.set()
    background.start()
    threads = [threading.Thread(target=background.offer, args=[span(n)]) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert background.flush(PATIENCE)
    assert background.sent == 8


def test_a_full_batch_does_not_wait_for_the_interval(held: Held) -> None:
    background = Background(Settings(), Queue(batch=4, interval=1000.0), lambda _: held)
    background.start()
    held.may_go_on.set()
    for number in range(5):
        background.offer(span(number))
    assert held.asked.wait(PATIENCE)
    background.close(PATIENCE)
    assert background.sent == 5
    assert held.closed


def test_what_cannot_be_sent_until_the_end_is_counted(background: Background, held: Held) -> None:
    background.start()
    for number in range(6):
        background.offer(span(number))
    assert held.asked.wait(PATIENCE)
    background.close(0.01)
    background.offer(span())
    assert (background.sent, background.dropped["shutdown"]) == (0, 7)
    assert held.closed


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (PermanentError("no", reason="rejected"), "rejected"),
        (PermanentError("no", reason="rejected", taken=4), "rejected"),
        (RuntimeError("a mistake"), "internal_error"),
    ],
)
def test_what_a_backend_refuses_is_counted(
    error: Exception, reason: str, background: Background, held: Held
) -> None:
    held.error = error
    held.may_go_on.set()
    background.start()
    for number in range(4):
        background.offer(span(number))
    assert background.flush(PATIENCE)
    assert background.dropped == {reason: 4}
    held.error = None
    background.offer(span())
    assert background.flush(PATIENCE)
    assert background.sent == 1


async def test_otlp(collector: Collector) -> None:
    settings = Settings(endpoint=f"{collector.endpoint}/v1/traces", service="orders")
    background = Background(settings)
    background.start()
    background.offer(span())
    assert await asyncio.to_thread(background.flush, PATIENCE)
    (received,) = collector.spans
    assert received.name == "work"
    (resource,) = collector.requests[0].resource_spans
    names = {each.key: each.value.string_value for each in resource.resource.attributes}
    assert names["service.name"] == "orders"
    await asyncio.to_thread(background.close)


PROGRAM = """
import os, sys
from meshproxy.inprocess import tracer
from meshproxy.trace.span import Kind, SpanShape

def work(name):
    tracer().finish(tracer().below(None), SpanShape(name, Kind.INTERNAL, ()))

work("parent")
if sys.argv[1] == "fork":
    child = os.fork()
    work("child" if not child else "parent again")
    if not child:
        sys.exit()
    os.waitpid(child, 0)
    work("after the child")
if sys.argv[1] == "multiprocessing":
    import multiprocessing
    child = multiprocessing.get_context("fork").Process(target=work, args=["child"])
    child.start()
    child.join()
if sys.argv[1] == "under way":
    class Holder:
        def finish_all(self):
            work("held until the end")
    holder = Holder()
    tracer().watch(holder)
    raise SystemExit
"""


async def ran(collector_at: str, *arguments: str) -> str:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-W", "default", "-c", PROGRAM, *arguments,
        env={"OTEL_EXPORTER_OTLP_ENDPOINT": collector_at},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    async with asyncio.timeout(PATIENCE):
        output, _ = await process.communicate()
    assert process.returncode == 0
    return output.decode()


async def test_the_end_of_the_process_sends_what_is_left(collector: Collector) -> None:
    assert await ran(collector.endpoint, "no fork") == ""
    assert [each.name for each in collector.spans] == ["parent"]


async def test_a_name_can_be_looked_up_at_the_end(collector: Collector) -> None:
    assert await ran(f"http://localhost:{collector.port}", "no fork") == ""
    assert [each.name for each in collector.spans] == ["parent"]


async def test_a_forked_process_sends_its_own(collector: Collector) -> None:
    output = await ran(collector.endpoint, "fork")
    names = sorted(each.name for each in collector.spans)
    assert names == ["after the child", "child", "parent", "parent again"], output
    pids = {
        value.value.int_value
        for request in collector.requests
        for value in request.resource_spans[0].resource.attributes
        if value.key == "process.pid"
    }
    assert len(pids) == 2


async def test_a_process_of_multiprocessings_sends_its_own(collector: Collector) -> None:
    """It ends by os._exit."""
    output = await ran(collector.endpoint, "multiprocessing")
    assert sorted(each.name for each in collector.spans) == ["child", "parent"], output


async def test_what_is_under_way_at_the_end_is_sent(collector: Collector) -> None:
    await ran(collector.endpoint, "under way")
    assert [each.name for each in collector.spans] == ["parent", "held until the end"]


async def test_a_backend_that_is_not_there_delays_the_end_but_shortly(
    collector: Collector,
) -> None:
    await collector.stop()
    output = await ran(collector.endpoint, "no fork")
    assert output.count("spans cannot be sent at present") == 1
