"""Messages handed out one by one: what is current until the next one is asked for, and its span.

A span that is over is held until its record is gone, or for some seconds, since the application
may still pass the record to `process`, which then takes the span over: no message has two.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Iterable
from typing import Any, Final

from aiokafka.structs import ConsumerRecord

from filters.kafka.client.headers import extract
from filters.kafka.client.spans import Messaging, Operation, failure
from meshproxy.inprocess.context import Current, Scope, settle
from meshproxy.inprocess.tracer import Started
from meshproxy.trace.context import SpanContext
from meshproxy.trace.span import Kind

MOST_HELD: Final = 1000
"""Spans that are held for one consumer while their records live on."""

HOLD_FOR: Final = 5.0
"""Seconds for which one is. A loop keeps its last record for as long as it waits for the next."""


class Handed:
    """A record handed out, the span of its processing, and the task that asked for it."""

    __slots__ = ("_attributes", "_given_up", "_held", "_shape", "end_ns", "held_until",
                 "messaging", "open", "scope", "started", "task")  # fmt: skip

    def __init__(
        self, messaging: Messaging, record: ConsumerRecord, held: dict[Handed, None]
    ) -> None:
        extracted = extract(record.headers)
        self.messaging = messaging
        self.started: Started = messaging.tracer.continuing(extracted)
        self.scope = Scope(Current(self.started.context, extracted.baggage))
        self.task: asyncio.Task[Any] | None = asyncio.current_task()
        self._held = held
        self._given_up = False
        self.held_until = 0.0
        """By the clock of its event loop."""
        self.end_ns = 0
        self.open = True
        """Whether its span was neither finished nor taken over."""
        self._shape = messaging.shape(Operation.PROCESS, record.topic, Kind.CONSUMER)
        self._attributes = messaging.record(record)

    def over(self) -> None:
        """The next one is asked for. Not yet finished: it may be taken over."""
        self.scope.give_way()
        self.task = None  # its result may be the record, which would then stay
        if not self.end_ns:
            self.end_ns = self.messaging.tracer.now_ns()

    def give_up(self) -> SpanContext | None:
        """The span of several messages takes its place; gives its context if it has to stay.

        It has to, if other spans or messages name it. This may yet come, where it is still current
        in another task.
        """
        if not self.open:
            return None
        self.over()
        if not self.scope.span.used:
            self._given_up = True
            return None
        self.let_go()
        return self.started.context

    def take_over(self) -> bool:
        """Whether the caller is to finish it from now on, with no end set."""
        taken, self.open = self.open, False
        self._held.pop(self, None)
        return taken

    def finish(self, error: BaseException | None = None, end_ns: int = 0) -> None:
        """End the span."""
        self.messaging.tracer.finish(
            self.started,
            self._shape,
            self._attributes,
            end_ns=end_ns,
            error=failure(error) if error is not None else None,
        )

    def let_go(self, error: BaseException | None = None) -> None:
        """Nobody can take it over any more."""
        wanted = not self._given_up or self.scope.span.used
        if self.take_over() and wanted:
            self.finish(error, self.end_ns)


class Known(weakref.ref[Any]):
    """A record of a consumer, found by identity as long as it lives."""

    __slots__ = ("handed", "key", "messaging")

    key: int
    messaging: Messaging
    handed: Handed | None


_known: dict[int, Known] = {}
"""By the identity of records. They have no hash, and must not get an attribute: it would be
pickled with them."""


def remember(record: ConsumerRecord, messaging: Messaging, handed: Handed | None = None) -> None:
    """Note where a record came from, until it is gone."""
    noted = Known(record, _gone)
    noted.key = id(record)
    noted.messaging = messaging
    noted.handed = handed
    _known[noted.key] = noted


def _gone(noted: Any) -> None:
    key: int = noted.key
    if _known.get(key) is noted:  # the identity may belong to another record by now
        del _known[key]
    if noted.handed is not None:
        noted.handed.let_go()


def known(record: ConsumerRecord) -> Known | None:
    """What is known of a record; None if it came from another consumer than ours."""
    return _known.get(id(record))


class Hands:
    """What one consumer has handed out, and not got back."""

    def __init__(self, messaging: Messaging) -> None:
        self._messaging = messaging
        self._out: dict[asyncio.Task[Any] | None, Handed] = {}
        self._asked = 0
        self._held: dict[Handed, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        messaging.tracer.watch(self)

    def give(self, record: ConsumerRecord) -> None:
        """A record is handed out to this task: its span is current from here on."""
        handed = Handed(self._messaging, record, self._held)
        remember(record, self._messaging, handed)
        handed.scope.enter()
        self._out[handed.task] = handed

    def note(self, records: Iterable[ConsumerRecord]) -> None:
        """Records are handed out together, of which none is current."""
        for record in records:
            remember(record, self._messaging)

    def next(self) -> None:
        """This task asks for more: it is done with what it has.

        So is a task that has ended, such as one that `asyncio.wait_for` made only to ask.
        """
        done = self._out.pop(asyncio.current_task(), None)
        if done is not None:
            self._done(done)
        self._asked += 1
        if self._asked >= len(self._out):  # not each time: there may be a thousand tasks
            self._asked = 0
            for task in [task for task in self._out if task is None or task.done()]:
                self._done(self._out.pop(task))
        settle()

    def end(self, error: BaseException | None = None) -> None:
        """The consumer stops: all that is out or held is finished.

        ``error`` is what the task that ends it was left by.
        """
        of_this_task = self._out.get(asyncio.current_task())
        for handed in self._out.values():
            handed.over()
            handed.let_go(error if handed is of_this_task else None)
        self._finish_held()

    def finish_all(self) -> None:
        """The process ends: nobody asks for more, nor stops the consumer."""
        for handed in list(self._out.values()):
            handed.let_go()
        self._finish_held()

    def _finish_held(self) -> None:
        self._out = {}
        for handed in list(self._held):
            handed.let_go()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _done(self, handed: Handed) -> None:
        handed.over()
        if not handed.open:
            return
        loop = asyncio.get_running_loop()
        handed.held_until = loop.time() + HOLD_FOR
        self._held[handed] = None
        if len(self._held) > MOST_HELD:
            next(iter(self._held)).let_go()
        if self._timer is None:
            self._timer = loop.call_later(HOLD_FOR, self._expire)

    def _expire(self) -> None:
        """Let go what was held for long enough. One timer is set for all, not one for each."""
        self._timer = None
        loop = asyncio.get_running_loop()
        for handed in list(self._held):
            if handed.held_until > loop.time():
                self._timer = loop.call_at(handed.held_until, self._expire)
                return
            handed.let_go()
