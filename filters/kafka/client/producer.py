"""A drop-in for aiokafka's producer that traces what it sends."""

from __future__ import annotations

from asyncio import CancelledError, Future
from collections.abc import Iterable, Sequence
from typing import Any

import aiokafka
from aiokafka.structs import RecordMetadata

from filters.kafka.client.batch import TracedBatch, send_again_smaller
from filters.kafka.client.headers import Header
from filters.kafka.client.interceptors import OnSend, ProducerInterceptor, ProducerRecord, tell
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
        interceptors: Iterable[ProducerInterceptor] = (),
        tracer: Tracer | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        hooks = tuple(interceptors)
        self._on_send = OnSend(hooks)
        self._acknowledged = [each.on_acknowledgement for each in hooks]
        self._outbox = Outbox(Messaging(tracer or process_wide(), self.client))
        self._unserialised: dict[int, Delivery] = {}
        send_again_smaller(self._message_accumulator, self._outbox.under_way)

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
        record = self._on_send(given)
        delivery, outgoing = self._outbox.message(record)
        try:
            future = await self._pass_on(record, outgoing, delivery)
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

    async def _pass_on(
        self, record: ProducerRecord, headers: list[Header], delivery: Delivery | None
    ) -> Future[RecordMetadata]:
        if delivery is not None:
            # By identity: the very list comes back in `_serialize`, and it must be a mere list.
            self._unserialised[id(headers)] = delivery
        try:
            future: Future[RecordMetadata] = await super().send(
                record.topic, record.value, record.key, record.partition, record.timestamp_ms,
                headers,
            )  # fmt: skip
            return future
        finally:
            self._unserialised.pop(id(headers), None)

    def _serialize(self, key: Any, value: Any, headers: list[Header]) -> tuple[Any, Any]:
        """Called by aiokafka's ``send``: here the message's size is known, and may be changed."""
        delivery = self._unserialised.pop(id(headers), None)
        if delivery is None:
            found: tuple[Any, Any] = super()._serialize(key, value, headers)
        else:
            # Whether it is too large depends on the message, not on what is added to it.
            found = super()._serialize(key, value, headers[: len(headers) - delivery.added])
            delivery.serialised(*found, headers, self._max_request_size)
        return found

    def _watch(self, future: Future[RecordMetadata], delivery: Delivery | None) -> None:
        if delivery is None and not self._acknowledged:
            return
        if delivery is not None:
            self._outbox.under_way[delivery.span_id] = delivery

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
            self._outbox.under_way.pop(delivery.span_id, None)
            delivery.ended(metadata, error)
        tell(self._acknowledged, metadata, error)
