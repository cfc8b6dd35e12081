"""The queue is bounded, keeps order, and gives batches by size, by age and on demand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshproxy.config.model import Queue
from meshproxy.export.queue import SpanQueue
from meshproxy.trace.context import SpanContext
from meshproxy.trace.span import Kind, Span, SpanShape

MakeSpan = Callable[..., Span]
NEVER = 3600.0


async def test_full_batch_is_given_without_waiting(make_span: MakeSpan) -> None:
    queue = SpanQueue(Queue(size=10, batch=3, interval=NEVER))
    spans = [make_span(number) for number in range(1, 5)]
    for span in spans:
        queue.offer(span)
    assert await queue.take() == spans[:3]
    assert len(queue) == 1


async def test_batch_that_becomes_full_wakes_the_taker(make_span: MakeSpan) -> None:
    queue = SpanQueue(Queue(size=10, batch=2, interval=NEVER))
    taker = asyncio.create_task(queue.take())
    queue.offer(make_span(1))
    for _ in range(5):
        await asyncio.sleep(0)
    assert not taker.done()
    queue.offer(make_span(2))
    assert len(await taker) == 2


async def test_interval_ends_the_wait_for_more(make_span: MakeSpan) -> None:
    queue = SpanQueue(Queue(size=10, batch=5, interval=0.01))
    queue.offer(make_span(1))
    assert len(await queue.take()) == 1


async def test_spans_older_than_the_interval_do_not_wait(
    make_span: MakeSpan, fake_time: Any
) -> None:
    queue = SpanQueue(Queue(size=10, batch=5, interval=NEVER), fake_time)
    queue.offer(make_span(1))
    fake_time.now += NEVER
    assert len(await queue.take()) == 1


async def test_hurry_gives_all_that_is_there_and_then_waits_again(make_span: MakeSpan) -> None:
    queue = SpanQueue(Queue(size=10, batch=2, interval=NEVER))
    for number in range(1, 4):
        queue.offer(make_span(number))
    queue.hurry()
    assert [len(await queue.take()) for _ in range(2)] == [2, 1]
    queue.offer(make_span(4))
    taker = asyncio.create_task(queue.take())
    for _ in range(5):
        await asyncio.sleep(0)
    assert not taker.done()
    taker.cancel()


async def test_newest_are_dropped_when_full(
    make_span: MakeSpan, number_of: Callable[[list[Span]], list[int]]
) -> None:
    queue = SpanQueue(Queue(size=3, batch=3, interval=NEVER))
    for number in range(1, 6):
        queue.offer(make_span(number))
    assert queue.dropped == {"queue_full": 2}
    assert number_of(await queue.take()) == [1, 2, 3]
    queue.offer(make_span(6))
    assert len(queue) == 1


def test_closed_queue_counts_what_it_held_and_what_comes(make_span: MakeSpan) -> None:
    queue = SpanQueue(Queue(size=3, batch=2))
    queue.offer(make_span(1))
    assert queue.close() == 1
    queue.offer(make_span(2))
    assert (len(queue), queue.dropped["shutdown"]) == (0, 2)


SPAN = Span(SpanShape("GET /", Kind.SERVER, ()), SpanContext(b"t" * 16, b"s" * 8), b"", 0, 1)


@given(
    size=st.integers(1, 6),
    batch=st.integers(1, 8),
    steps=st.lists(st.sampled_from(["offer", "take", "hurry"]), max_size=60),
)
def test_no_span_is_lost_without_being_counted(size: int, batch: int, steps: list[str]) -> None:
    async def run() -> None:
        queue = SpanQueue(Queue(size=size, batch=batch, interval=NEVER))
        offered = taken = 0
        for step in steps:
            if step == "offer":
                queue.offer(SPAN)
                offered += 1
            elif step == "hurry":
                queue.hurry()
            elif len(queue):
                queue.hurry()
                got = await queue.take()
                assert 1 <= len(got) <= batch
                taken += len(got)
            assert len(queue) <= size
            assert offered == taken + len(queue) + queue.dropped["queue_full"]

    asyncio.run(run())


@pytest.mark.parametrize("batch", [1, 2, 3])
async def test_every_batch_after_the_first_is_given_too(batch: int, make_span: MakeSpan) -> None:
    queue = SpanQueue(Queue(size=8, batch=batch, interval=NEVER))
    for _ in range(3):
        for number in range(1, batch + 1):
            queue.offer(make_span(number))
        assert len(await queue.take()) == batch
