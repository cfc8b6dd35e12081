"""Every span offered is sent, queued or dropped with a reason, whatever the exporter does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from structlog.testing import capture_logs

from meshproxy.config.model import Queue
from meshproxy.export.exporter import PermanentError, RetryableError, SendResult
from meshproxy.export.retry import Retry
from meshproxy.export.worker import Worker
from meshproxy.trace.span import Span

MakeSpan = Callable[..., Span]
Outcome = SendResult | Exception


class Scripted:
    """An exporter with given outcomes; then it accepts everything."""

    def __init__(self, *outcomes: Outcome, hang: bool = False) -> None:
        self.outcomes = list(outcomes)
        self.hang = hang
        self.calls: list[list[Span]] = []
        self.called = asyncio.Event()
        self.closed = False

    async def start(self) -> None:
        pass

    def prepare(self, span: Span) -> Span:
        return span

    async def send(self, spans: Sequence[Span]) -> SendResult:
        self.calls.append(list(spans))
        self.called.set()
        if self.hang:
            await asyncio.Event().wait()
        outcome = self.outcomes.pop(0) if self.outcomes else SendResult(len(spans))
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def close(self) -> None:
        self.closed = True


def worker_of(exporter: Scripted, time: Any, *, size: int = 100, batch: int = 10) -> Worker:
    queue = Queue(size=size, batch=batch, interval=0.01)
    retry = Retry(60, clock=time, sleep=time.sleep, uniform=lambda: 1.0)
    return Worker("test", exporter, queue, retry)


async def test_what_was_offered_before_the_start_is_sent(
    make_span: MakeSpan, fake_time: Any
) -> None:
    exporter = Scripted()
    worker = worker_of(exporter, fake_time)
    spans = [make_span(number) for number in range(1, 26)]
    for span in spans:
        worker.offer(span)
    await worker.start()
    assert await worker.flush(5)
    assert [span for call in exporter.calls for span in call] == spans
    assert max(len(call) for call in exporter.calls) == 10
    stats = worker.stats()
    assert (stats.sent, stats.queued, stats.dropped, stats.batches) == (25, 0, {}, 3)
    await worker.close(1)
    assert exporter.closed


async def test_age_alone_sends_a_small_batch(make_span: MakeSpan, fake_time: Any) -> None:
    exporter = Scripted()
    worker = worker_of(exporter, fake_time)
    await worker.start()
    worker.offer(make_span(1))
    await asyncio.wait_for(exporter.called.wait(), 5)
    await worker.close(1)
    assert worker.stats().sent == 1


async def test_rest_of_a_split_batch_is_sent_next_and_never_twice(
    make_span: MakeSpan, fake_time: Any
) -> None:
    exporter = Scripted(SendResult(2), RetryableError("down", taken=1), SendResult(1))
    worker = worker_of(exporter, fake_time)
    spans = [make_span(number) for number in range(1, 5)]
    for span in spans:
        worker.offer(span)
    await worker.start()
    assert await worker.flush(5)
    assert exporter.calls == [spans, spans[2:], spans[2:], spans[3:]]
    assert worker.stats().sent == 4
    await worker.close(1)


@pytest.mark.parametrize(
    ("outcome", "dropped", "sent"),
    [
        (PermanentError("HTTP 400", reason="rejected"), {"rejected": 3}, 0),
        (PermanentError("HTTP 413", reason="rejected", taken=1), {"rejected": 1}, 2),
        (SendResult(3, {"partial_success": 2}, "bad"), {"partial_success": 2}, 1),
        (ZeroDivisionError("a bug"), {"internal_error": 3}, 0),
    ],
)
async def test_drops_are_counted_by_reason_and_the_worker_goes_on(
    outcome: Outcome, dropped: dict[str, int], sent: int, make_span: MakeSpan, fake_time: Any
) -> None:
    worker = worker_of(Scripted(outcome), fake_time)
    await worker.start()
    for number in range(1, 4):
        worker.offer(make_span(number))
    assert await worker.flush(5)
    assert worker.stats().dropped == dropped
    assert worker.stats().sent == sent
    assert worker.stats().last_error
    worker.offer(make_span(4))
    assert await worker.flush(5)
    assert worker.stats().sent == sent + 1
    await worker.close(1)


async def test_spans_are_dropped_when_the_retry_time_is_over(
    make_span: MakeSpan, fake_time: Any
) -> None:
    worker = worker_of(Scripted(*[RetryableError("down") for _ in range(10)]), fake_time)
    await worker.start()
    worker.offer(make_span(1))
    assert await worker.flush(5)
    assert worker.stats().dropped == {"retry_timeout": 1}
    assert worker.stats().failures == 10
    await worker.close(1)


async def test_queue_fills_while_the_backend_is_down_and_newest_are_dropped(
    make_span: MakeSpan, fake_time: Any, number_of: Callable[[Sequence[Span]], list[int]]
) -> None:
    exporter = Scripted(RetryableError("down"))
    worker = worker_of(exporter, fake_time, size=2, batch=2)

    def more_traffic() -> None:
        for number in range(3, 8):
            worker.offer(make_span(number))

    fake_time.on_sleep = more_traffic
    await worker.start()
    worker.offer(make_span(1))
    worker.offer(make_span(2))
    await asyncio.wait_for(exporter.called.wait(), 5)
    assert await worker.flush(5)
    assert number_of([span for call in exporter.calls[1:] for span in call]) == [1, 2, 3, 4]
    assert worker.stats().dropped == {"queue_full": 3}
    await worker.close(1)


async def test_close_with_a_dead_backend_is_bounded_and_counted(
    make_span: MakeSpan, fake_time: Any
) -> None:
    exporter = Scripted(hang=True)
    worker = worker_of(exporter, fake_time, batch=2)
    await worker.start()
    for number in range(1, 6):
        worker.offer(make_span(number))
    await asyncio.wait_for(worker.close(0.05), 5)
    assert worker.stats().dropped == {"shutdown": 5}
    assert worker.stats().queued == 0
    assert exporter.closed
    worker.offer(make_span(6))
    assert worker.stats().dropped == {"shutdown": 6}


async def test_flush_says_that_it_did_not_finish(make_span: MakeSpan, fake_time: Any) -> None:
    worker = worker_of(Scripted(hang=True), fake_time)
    await worker.start()
    worker.offer(make_span(1))
    assert not await worker.flush(0.02)
    assert worker.stats().queued == 1
    await worker.close(0)


async def test_outage_makes_one_line_at_its_beginning_and_one_at_its_end(
    make_span: MakeSpan, fake_time: Any
) -> None:
    errors = [RetryableError("refused") for _ in range(12)]
    worker = worker_of(Scripted(*errors), fake_time, batch=1)
    with capture_logs() as lines:
        await worker.start()
        for number in range(1, 6):
            worker.offer(make_span(number))
        assert await worker.flush(5)
    assert [line["event"] for line in lines] == ["exporter_failing", "exporter_recovered"]
    assert lines[0]["error"] == "refused"
    assert lines[1]["dropped"] == {"retry_timeout": 1}
    await worker.close(1)


async def test_message_of_partial_success_is_logged_once(
    make_span: MakeSpan, fake_time: Any
) -> None:
    results = [SendResult(1, {"partial_success": 1}, "no room") for _ in range(3)]
    worker = worker_of(Scripted(*results), fake_time, batch=1)
    with capture_logs() as lines:
        await worker.start()
        for number in range(1, 4):
            worker.offer(make_span(number))
        assert await worker.flush(5)
    assert [line["message"] for line in lines] == ["no room"]
    assert worker.stats().dropped == {"partial_success": 3}
    await worker.close(1)
