"""Starting and finishing spans within an application: clock, randomness, sampling, export."""

from __future__ import annotations

import logging
import os
import time
import weakref
from collections.abc import Callable, Sequence
from functools import cache
from typing import Protocol

from meshproxy.inprocess import settings
from meshproxy.inprocess.background import Background
from meshproxy.inprocess.context import Current
from meshproxy.trace.context import RANDOM, SpanContext
from meshproxy.trace.ids import span_id_from, trace_id_from
from meshproxy.trace.propagator import Extracted
from meshproxy.trace.sampling import Action, Sampler
from meshproxy.trace.span import Attributes, Event, Link, Span, SpanShape, Status

log = logging.getLogger(__name__)


class Sink(Protocol):
    """Where finished spans go."""

    def start(self) -> None:
        """Get ready; called often, and has to be quick when that was done."""

    def offer(self, span: Span) -> None:
        """Take a span, from any thread; never waits and never raises."""


class Holder(Protocol):
    """What has spans that only end when something else happens."""

    def finish_all(self) -> None:
        """The process ends: finish them now."""


class Failure:
    """Why a span is an error: ``kind`` is its low-cardinality ``error.type``."""

    __slots__ = ("kind", "message")

    def __init__(self, kind: str, message: str) -> None:
        self.kind = kind
        self.message = message

    def tell(self, span: Span) -> None:
        """Mark a span as an error, and say why."""
        span.status = Status.ERROR
        span.status_message = self.message
        span.attributes = (*span.attributes, ("error.type", self.kind))
        facts = (("exception.type", self.kind), ("exception.message", self.message))
        span.events = (Event("exception", span.end_ns, facts),)


class Started:
    """A span that is under way. ``start_ns`` is Unix time in nanoseconds."""

    __slots__ = ("context", "parent_id", "parent_remote", "sampled", "start_ns")

    def __init__(
        self,
        context: SpanContext,
        parent_id: bytes,
        parent_remote: bool,
        sampled: bool,
        start_ns: int,
    ) -> None:
        self.context = context
        self.parent_id = parent_id
        self.parent_remote = parent_remote
        self.sampled = sampled
        self.start_ns = start_ns


class Tracer:
    """Makes spans. May be used from all threads.

    Randomness is read for each id, not from a pool: a pool would be copied by a fork, and then two
    processes would give out the same ids.
    """

    def __init__(
        self,
        sink: Sink,
        sampler: Sampler,
        *,
        random: Callable[[int], bytes] = os.urandom,
        wall_clock_ns: Callable[[], int] = time.time_ns,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sink = sink
        self._sampler = sampler
        self._random = random
        self._clock = clock
        self._holders: weakref.WeakKeyDictionary[Holder, int] = weakref.WeakKeyDictionary()
        self.now_ns = wall_clock_ns
        """Unix time in nanoseconds."""

    def below(self, parent: Current | None, start_ns: int = 0) -> Started:
        """Start a span below the current one, or a trace. ``start_ns`` is now when not given."""
        if parent is None:
            return self._begin(None, True, start_ns)
        context = parent.context
        return self._begin(Extracted(context, context.sampled), parent.remote, start_ns)

    def continuing(self, extracted: Extracted, start_ns: int = 0) -> Started:
        """Start a span below the one that a message names, or a trace when it names none."""
        return self._begin(extracted, True, start_ns)

    def finish(
        self,
        started: Started,
        shape: SpanShape,
        attributes: Attributes = (),
        *,
        end_ns: int = 0,
        links: Sequence[Link] = (),
        error: Failure | None = None,
    ) -> None:
        """End a span; it goes out if its trace is sampled. ``end_ns`` is now when not given."""
        if not started.sampled:
            return
        span = Span(
            shape,
            started.context,
            started.parent_id,
            started.start_ns,
            end_ns or self.now_ns(),
            attributes,
            parent_remote=started.parent_remote,
            links=links,
        )
        if error is not None:
            error.tell(span)
        self._sink.offer(span)

    def watch(self, holder: Holder) -> None:
        """Ask for its spans at the end of this process. It may be gone before that."""
        self._holders[holder] = os.getpid()

    def end(self) -> None:
        """The process ends: have all spans finished that began in it. Never raises.

        What was begun before a fork is for the parent process to finish.
        """
        for holder, process in list(self._holders.items()):
            if process == os.getpid():
                try:
                    holder.finish_all()
                except Exception:
                    log.exception("spans were lost at the end of the process")

    def _begin(self, extracted: Extracted | None, remote: bool, start_ns: int) -> Started:
        self._sink.start()
        parent = extracted.context if extracted is not None else None
        if parent is not None:
            trace_id, random = parent.trace_id, parent.flags & RANDOM
        elif extracted is not None and extracted.trace_id:
            trace_id, random = extracted.trace_id, 0
        else:
            trace_id, random = trace_id_from(self._random(16)), RANDOM
        decision = self._sampler.sample(None, extracted, trace_id, self._clock())
        sampled = decision.action is Action.SAMPLE
        context = SpanContext(
            trace_id, span_id_from(self._random(8)), random | sampled, decision.tracestate
        )
        parent_id = parent.span_id if parent is not None else b""
        return Started(context, parent_id, remote, sampled, start_ns or self.now_ns())


@cache
def tracer() -> Tracer:
    """Give the process's tracer, set up by environment variables with the first call."""
    found = settings.read(os.environ)
    background = Background(found)
    made = Tracer(background, Sampler(found.ratio))
    background.survive(made.end)
    return made
