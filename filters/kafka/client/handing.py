"""Messages handed out one by one: what is current until the next one is asked for, and its span.

A span that is over is held until its record is gone, since the application may still pass the
record to `process`, which then takes the span over: no message has two.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Iterable
from typing import Any, Final

from aiokafka.structs import ConsumerRecord

from filters.kafka.client.headers import extract
from filters.kafka.client.spans import Messaging, Operation, failure
from meshproxy.inprocess.context import Current, Scope
from meshproxy.inprocess.tracer import Started
from meshproxy.trace.span import Kind

MOST_HELD: Final = 1000
"""Spans that are held for one consumer while their records live on."""


class Handed:
    """A record handed out, the span of its processing, and the task that asked for it."""

    __slots__ = ("_attributes", "_held", "_shape", "end_ns", "messaging", "open", "scope",
                 "started", "task")  # fmt: skip

    def __init__(
        self, messaging: Messaging, record: ConsumerRecord, held: dict[Handed, None]
    ) -> None:
        extracted = extract(record.headers)
        self.messaging = messaging
        self.started: Started = messaging.tracer.continuing(extracted)
        self.scope = Scope(Current(self.started.context, extracted.baggage))
        self.task: asyncio.Task[Any] | None = asyncio.current_task()
        self._held = held
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
        if self.take_over():
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
        self._out: list[Handed] = []
        self._held: dict[Handed, None] = {}

    def give(self, record: ConsumerRecord) -> None:
        """A record is handed out to this task: its span is current from here on."""
        handed = Handed(self._messaging, record, self._held)
        remember(record, self._messaging, handed)
        handed.scope.enter()
        self._out.append(handed)

    def note(self, records: Iterable[ConsumerRecord]) -> None:
        """Records are handed out together, of which none is current."""
        for record in records:
            remember(record, self._messaging)

    def next(self) -> None:
        """This task asks for more: it is done with what it has.

        So is a task that has ended, such as one that `asyncio.wait_for` made only to ask.
        """
        task = asyncio.current_task()
        done = [h for h in self._out if h.task is task or h.task is None or h.task.done()]
        if done:
            self._out = [handed for handed in self._out if handed not in done]
        for handed in done:
            handed.over()
            if handed.open:
                self._hold(handed)

    def end(self, error: BaseException | None = None) -> None:
        """The consumer stops: all that is out or held is finished.

        ``error`` is what the task that ends it was left by.
        """
        task = asyncio.current_task()
        for handed in self._out:
            of_this_task = handed.task is task
            handed.over()
            handed.let_go(error if of_this_task else None)
        self._out = []
        for handed in list(self._held):
            handed.let_go()

    def _hold(self, handed: Handed) -> None:
        self._held[handed] = None
        if len(self._held) > MOST_HELD:
            next(iter(self._held)).let_go()
