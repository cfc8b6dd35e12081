"""Ids, sampling and what ends up in a span."""

from __future__ import annotations

import os

import pytest

from meshproxy.inprocess import Current, Tracer
from meshproxy.inprocess.tracer import Failure
from meshproxy.trace.context import RANDOM, SAMPLED, SpanContext
from meshproxy.trace.propagator import Extracted
from meshproxy.trace.sampling import Sampler
from meshproxy.trace.span import Kind, Span, SpanShape, Status

SHAPE = SpanShape("work", Kind.INTERNAL, ())
PARENT = SpanContext(b"t" * 16, b"p" * 8, SAMPLED, "v=1")


class Sink:
    def __init__(self) -> None:
        self.spans: list[Span] = []

    def start(self) -> None:
        pass

    def offer(self, span: Span) -> None:
        self.spans.append(span)


def made(ratio: float = 1.0) -> tuple[Tracer, Sink]:
    sink = Sink()
    ticks = iter(range(1000, 2000))
    return Tracer(sink, Sampler(ratio), wall_clock_ns=lambda: next(ticks)), sink


def test_a_child_is_sampled_as_its_parent_is() -> None:
    tracer, sink = made(0.0)
    started = tracer.below(Current(PARENT))
    assert (started.context.trace_id, started.parent_id) == (PARENT.trace_id, PARENT.span_id)
    assert (started.context.flags, started.context.tracestate) == (SAMPLED, "v=1")
    tracer.finish(started, SHAPE, [("a", 1)])
    (span,) = sink.spans
    assert (span.start_ns, span.end_ns, span.parent_remote) == (1000, 1001, False)
    unsampled = SpanContext(b"t" * 16, b"p" * 8, RANDOM)
    started = tracer.below(Current(unsampled, remote=True))
    assert started.context.flags == RANDOM
    tracer.finish(started, SHAPE)
    assert len(sink.spans) == 1


def test_a_root_is_sampled_by_ratio() -> None:
    tracer, sink = made(0.5)
    for _ in range(400):
        started = tracer.below(None)
        assert started.context.flags & RANDOM
        assert started.context.sampled == (started.context.trace_id[9:] >= b"\x80" + bytes(6))
        tracer.finish(started, SHAPE)
    assert 100 < len(sink.spans) < 300


def test_a_message_may_ask_for_its_trace() -> None:
    tracer, _ = made(0.0)
    asked = Extracted(PARENT)
    asked.debug = True
    assert tracer.continuing(asked).context.sampled
    named = Extracted()
    named.trace_id = b"n" * 16
    assert tracer.continuing(named).context.trace_id == b"n" * 16


def test_an_error_says_why() -> None:
    tracer, sink = made()
    tracer.finish(tracer.below(None), SHAPE, [("a", 1)], error=Failure("Kind", "reason"))
    (span,) = sink.spans
    assert (span.status, span.status_message) == (Status.ERROR, "reason")
    assert dict(span.all_attributes()) == {"a": 1, "error.type": "Kind"}


def test_a_forked_process_gives_out_other_ids() -> None:
    tracer, _ = made()
    tracer.below(None)
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.write(writing, tracer.below(None).context.trace_id)
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reading, 16) != tracer.below(None).context.trace_id
    os.close(reading)
    os.close(writing)


class Holder:
    """Says into a pipe, or raises, when it is asked for its spans."""

    def __init__(self, writing: int | None = None) -> None:
        self._writing = writing

    def finish_all(self) -> None:
        if self._writing is None:
            raise RuntimeError("a mistake")
        os.write(self._writing, b"%d " % os.getpid())


def test_spans_are_finished_at_the_end_by_the_process_that_began_them(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tracer, _ = made()
    reading, writing = os.pipe()
    broken, holder, gone = Holder(), Holder(writing), Holder(writing)
    for each in (broken, holder, gone):
        tracer.watch(each)
    del each, gone
    child = os.fork()
    if not child:
        tracer.end()
        os._exit(0)
    os.waitpid(child, 0)
    tracer.end()
    assert os.read(reading, 100) == b"%d " % os.getpid()
    assert [record.message for record in caplog.records] == [
        "spans were lost at the end of the process"
    ]
    os.close(reading)
    os.close(writing)
