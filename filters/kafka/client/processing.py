"""Spans around what an application does with the messages that it has received."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from types import TracebackType
from typing import Any, Final

from aiokafka.structs import ConsumerRecord

from filters.kafka.client.handing import Known, known
from filters.kafka.client.headers import extract
from filters.kafka.client.spans import (
    MOST_LINKS,
    Harmless,
    Messaging,
    Operation,
    Pairs,
    failure,
    links_to_producers,
    of_many,
)
from meshproxy.inprocess.context import Current, Scope, parent
from meshproxy.inprocess.tracer import Started, tracer
from meshproxy.trace.span import Kind, Link, SpanShape

_PROCESSING: Final = Harmless("messages are processed without a span")

Batch = Iterable[ConsumerRecord] | Mapping[Any, Iterable[ConsumerRecord]]


class Processing:
    """A ``with`` block with a CONSUMER span that is current inside. Entered once.

    An exception that leaves the block makes the span an error, and goes on. Tracing itself raises
    none.
    """

    def __init__(
        self,
        messaging: Messaging,
        started: Started,
        shape: SpanShape,
        attributes: Pairs,
        links: Sequence[Link] = (),
        baggage: bytes = b"",
    ) -> None:
        self._messaging = messaging
        self._started = started
        self._shape = shape
        self._attributes = attributes
        self._links = links
        self._scope = Scope(Current(started.context, baggage))

    def __enter__(self) -> None:
        with _PROCESSING:
            self._scope.enter()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with _PROCESSING:
            self._scope.leave()
            self._messaging.tracer.finish(
                self._started,
                self._shape,
                self._attributes,
                links=self._links,
                error=failure(error) if error is not None else None,
            )


def process(message: ConsumerRecord) -> AbstractContextManager[None]:
    """Make a span for the processing of one message, as a child of the span that sent it.

    What ``getone`` or ``async for`` has begun for the same message is carried on, not doubled: it
    is the same span then, and ends with the block. A message that is processed again has a new one.
    """
    with _PROCESSING:
        return _process(message)
    return nullcontext()


def process_batch(messages: Batch) -> AbstractContextManager[None]:
    """Make one span for messages that are processed together, with links to what sent them.

    Takes records, or what ``getmany`` gave. The span is a part of what is current, if anything is.
    Spans that were begun for single ones of them end here: those that others name already are
    linked, the others given up.
    """
    records = _flat(messages)
    with _PROCESSING:
        return _process_batch(records)
    return nullcontext()


def _process(message: ConsumerRecord) -> Processing:
    origin = known(message)
    messaging = _messaging_of(origin)
    extracted = extract(message.headers)
    handed = origin.handed if origin is not None else None
    if handed is not None and handed.take_over():
        started = handed.started
        if handed.end_ns:  # its time was over: it begins anew
            started.start_ns = messaging.tracer.now_ns()
    else:
        started = messaging.tracer.continuing(extracted)
    return Processing(
        messaging,
        started,
        messaging.shape(Operation.PROCESS, message.topic, Kind.CONSUMER),
        messaging.record(message),
        baggage=extracted.baggage,
    )


def _process_batch(records: list[ConsumerRecord]) -> Processing:
    found = [origin for origin in map(known, records) if origin is not None]
    named = [origin.handed.give_up() for origin in found if origin.handed is not None]
    links = [Link(context) for context in named if context is not None]
    messaging = _messaging_of(found[0] if found else None)
    topic, pairs = of_many(messaging, records)
    return Processing(
        messaging,
        messaging.tracer.below(parent()),
        messaging.shape(Operation.PROCESS, topic, Kind.CONSUMER),
        pairs,
        [*links, *links_to_producers(records)][:MOST_LINKS],
    )


def _flat(messages: Batch) -> list[ConsumerRecord]:
    if isinstance(messages, Mapping):
        return [record for records in messages.values() for record in records]
    return list(messages)


def _messaging_of(origin: Known | None) -> Messaging:
    return origin.messaging if origin is not None else _of_nowhere()


@cache
def _of_nowhere() -> Messaging:
    """For records of a consumer that is not ours."""
    return Messaging(tracer())
