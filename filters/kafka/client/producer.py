"""A drop-in for aiokafka's producer that traces what it sends."""

from __future__ import annotations

from asyncio import CancelledError, Future
from collections.abc import Sequence
from typing import Any

import aiokafka
from aiokafka.errors import MessageSizeTooLargeError
from aiokafka.structs import RecordMetadata

from filters.kafka.client.batch import TracedBatch
from filters.kafka.client.headers import Header
from filters.kafka.client.interceptors import ProducerInterceptor, ProducerRecord, on_send, tell
from filters.kafka.client.sending import Delivery, Outbox
from filters.kafka.client.spans import Messaging
from meshproxy.inprocess import tracer as process_wide
from meshproxy.inprocess.tracer import Tracer


class AIOKafkaProducer(aiokafka.AIOKafkaProducer):  # type: ignore[misc]
    """aiokafka's producer; each message carries its trace context and has a span.

    Takes what `aiokafka.AIOKafkaProducer` takes, and ``interceptors``. ``tracer`` is the process's
    own unless given.
    """

    def __init__(
        self,
        *,
        interceptors: Sequence[ProducerInterceptor] = (),
        tracer: Tracer | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self._interceptors = tuple(interceptors)
        self._acknowledged = [each.on_acknowledgement for each in interceptors]
        self._outbox = Outbox(Messaging(tracer or process_wide(), self.client))

    async def send(
        self,
        topic: str,
        value: Any = None,
        key: Any = None,
        partition: int | None = None,
        timestamp_ms: int | None = None,
        headers: Sequence[Header] | None = None,
    ) -> Future[RecordMetadata]:
        """Publish a message (`aiokafka.AIOKafkaProducer.send`); ``headers`` stay as they are."""
        given = ProducerRecord(topic, value, key, partition, timestamp_ms, list(headers or ()))
        record = on_send(self._interceptors, given)
        delivery, outgoing = self._outbox.message(record)
        try:
            future = await self._send(record, outgoing)
        except BaseException as error:
            self._ended(delivery, None, error)
            raise
        self._watch(future, delivery)
        return future

    def create_batch(self) -> TracedBatch:
        """An empty batch whose messages will carry a context (`TracedBatch`)."""
        return TracedBatch(super().create_batch(), self._outbox.batch())

    async def send_batch(self, batch: Any, topic: str, *, partition: int) -> Future[RecordMetadata]:
        """Submit a batch (`aiokafka.AIOKafkaProducer.send_batch`): one span for all of it."""
        traced = batch if isinstance(batch, TracedBatch) else None
        delivery = self._outbox.batch_sent(traced.contents if traced else None, batch, topic)
        inner = traced.inner if traced else batch
        try:
            future: Future[RecordMetadata] = await super().send_batch(
                inner, topic, partition=partition
            )
        except BaseException as error:
            self._ended(delivery, None, error)
            raise
        self._watch(future, delivery)
        return future

    async def _send(self, record: ProducerRecord, headers: list[Header]) -> Future[RecordMetadata]:
        try:
            return await self._pass_on(record, headers)
        except MessageSizeTooLargeError:
            if len(headers) == len(record.headers):
                raise
            # It may fit without the context. Serialisers run again then, and only then.
            return await self._pass_on(record, list(record.headers))

    async def _pass_on(
        self, record: ProducerRecord, headers: list[Header]
    ) -> Future[RecordMetadata]:
        future: Future[RecordMetadata] = await super().send(
            record.topic, record.value, record.key, record.partition, record.timestamp_ms, headers
        )
        return future

    def _watch(self, future: Future[RecordMetadata], delivery: Delivery | None) -> None:
        if delivery is None and not self._interceptors:
            return

        def done(future: Future[RecordMetadata]) -> None:
            if future.cancelled():
                self._ended(delivery, None, CancelledError())
                return
            # Not by exception(): that would count as having taken note of it, and asyncio would
            # no longer tell of errors that the application ignores.
            error: BaseException | None = getattr(future, "_exception", None)
            self._ended(delivery, None if error else future.result(), error)

        future.add_done_callback(done)

    def _ended(
        self,
        delivery: Delivery | None,
        metadata: RecordMetadata | None,
        error: BaseException | None,
    ) -> None:
        if delivery is not None:
            delivery.ended(metadata, error)
        tell(self._acknowledged, metadata, error)
