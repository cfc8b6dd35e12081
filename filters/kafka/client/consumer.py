"""A drop-in for aiokafka's consumer that knows which message is being worked on."""

from __future__ import annotations

import os
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Final

import aiokafka
from aiokafka.structs import ConsumerRecord, TopicPartition

from filters.kafka.client.handing import Hands
from filters.kafka.client.interceptors import ConsumerInterceptor, tell
from filters.kafka.client.spans import (
    Harmless,
    Messaging,
    Operation,
    links_to_producers,
    of_many,
)
from meshproxy.inprocess import tracer as process_wide
from meshproxy.inprocess.context import parent
from meshproxy.inprocess.settings import behind_sidecar
from meshproxy.inprocess.tracer import Tracer
from meshproxy.trace.span import Kind

_GIVING: Final = Harmless("messages are handed out without a span")
_TAKING_BACK: Final = Harmless("the span of a message that is done with may be lost")

Records = dict[TopicPartition, list[ConsumerRecord]]


class AIOKafkaConsumer(aiokafka.AIOKafkaConsumer):  # type: ignore[misc]
    """aiokafka's consumer; what is done with a message becomes a part of the message's trace.

    ``getone`` and ``async for`` begin a span for the message, which is current until the same task
    asks for the next one. ``getmany`` makes one span for what it gives. Takes what
    `aiokafka.AIOKafkaConsumer` takes, and ``interceptors``. ``tracer`` is the process's own unless
    given.
    """

    def __init__(
        self,
        *topics: str,
        interceptors: Iterable[ConsumerInterceptor] = (),
        tracer: Tracer | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(*topics, **settings)
        listening = tuple(interceptors)
        self._consumed = [each.on_consume for each in listening]
        self._committed = [each.on_commit for each in listening]
        group = settings.get("group_id")
        self._messaging = Messaging(tracer or process_wide(), self._client, group)
        self._hands = Hands(self._messaging)
        # The sidecar makes a receive span for what it sees fetched.
        self._tells_polls = not behind_sidecar(os.environ)

    async def getone(self, *partitions: TopicPartition) -> ConsumerRecord:
        """Get one message (`aiokafka.AIOKafkaConsumer.getone`), whose span is current then."""
        with _TAKING_BACK:
            self._hands.next()
        record: ConsumerRecord = await super().getone(*partitions)
        if self._consumed:
            tell(self._consumed, {TopicPartition(record.topic, record.partition): [record]})
        with _GIVING:
            self._hands.give(record)
        return record

    async def getmany(
        self, *partitions: TopicPartition, timeout_ms: int = 0, max_records: int | None = None
    ) -> Records:
        """Get messages (`aiokafka.AIOKafkaConsumer.getmany`). None of them is current then."""
        with _TAKING_BACK:
            self._hands.next()
        start_ns = self._messaging.tracer.now_ns()
        records: Records = await super().getmany(
            *partitions, timeout_ms=timeout_ms, max_records=max_records
        )
        if records:
            tell(self._consumed, records)
            with _GIVING:
                self._received([one for many in records.values() for one in many], start_ns)
        return records

    async def commit(self, offsets: dict[TopicPartition, Any] | None = None) -> None:
        """Commit offsets (`aiokafka.AIOKafkaConsumer.commit`)."""
        await super().commit(offsets)
        tell(self._committed, offsets)

    async def stop(self) -> None:
        """Close the consumer (`aiokafka.AIOKafkaConsumer.stop`); the last message is done with."""
        with _TAKING_BACK:
            self._hands.end()
        await super().stop()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with _TAKING_BACK:
            self._hands.end(error)
        await super().__aexit__(kind, error, traceback)

    def _received(self, records: list[ConsumerRecord], start_ns: int) -> None:
        self._hands.note(records)
        if not self._tells_polls:
            return
        messaging = self._messaging
        topic, pairs = of_many(messaging, records)
        messaging.tracer.finish(
            messaging.tracer.below(parent(), start_ns),
            messaging.shape(Operation.POLL, topic, Kind.CLIENT),
            pairs,
            links=links_to_producers(records),
        )
