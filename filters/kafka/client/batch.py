"""A batch builder whose messages carry the context of the batch's span, and batches too large."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final

from aiokafka.errors import MessageSizeTooLargeError
from aiokafka.producer.message_accumulator import BatchBuilder, MessageBatch
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords

from filters.kafka.client.headers import FIRST, Header, extract
from filters.kafka.client.sending import Contents, Delivery

log = logging.getLogger(__name__)


class TracedBatch(BatchBuilder):  # type: ignore[misc]
    """What ``create_batch`` gives: aiokafka's own builder, ``inner``, behind the same interface.

    The span of the batch is a part of what is current when the first message is appended, and is
    linked to what is current for others. It begins with ``send_batch``.
    """

    def __init__(self, inner: BatchBuilder, contents: Contents) -> None:
        # Not super().__init__: the state is that of `inner`.
        self.inner = inner
        self.contents = contents

    def append(
        self, *, timestamp: int | None, key: Any, value: Any, headers: Sequence[Header] | None = ()
    ) -> Any:
        """Add a message (`BatchBuilder.append`); None when the batch is full or closed."""
        carried, link = self.contents.headers(list(headers or ()))
        metadata = self.inner.append(timestamp=timestamp, key=key, value=value, headers=carried)
        if metadata is not None:
            self.contents.added(link)
        return metadata

    def close(self) -> None:
        """Take no more messages."""
        self.inner.close()

    def closed(self) -> bool:
        """Whether it takes no more messages."""
        return bool(self.inner.closed())

    def size(self) -> int:
        """Size in bytes."""
        return int(self.inner.size())

    def record_count(self) -> int:
        """How many messages there are."""
        return int(self.inner.record_count())

    def _set_producer_state(self, *state: int) -> None:
        self.inner._set_producer_state(*state)

    def _build(self) -> Any:
        return self.inner._build()


def send_again_smaller(accumulator: Any, under_way: Mapping[bytes, Delivery]) -> None:
    """Let batches that brokers find too large be sent once more without what was added to them.

    ``under_way`` is what is being sent, by the span ids that messages name. A batch keeps its place
    in the order, its futures and its sequence numbers: a gap in them would stop an idempotent
    producer. aiokafka has no hook for this, so that its ``accumulator`` gets one; where that looks
    different in another version, batches fail as ever.
    """
    append_batch = getattr(accumulator, "_append_batch", None)
    if append_batch is None:
        return

    def appended(*arguments: Any) -> Any:
        batch = append_batch(*arguments)
        if type(batch) is MessageBatch:
            batch.__class__ = _Batch
            batch.accumulator, batch.under_way = accumulator, under_way
        return batch

    accumulator._append_batch = appended


class _Batch(MessageBatch):  # type: ignore[misc]
    """What `send_again_smaller` makes of the batches of an accumulator."""

    accumulator: Any
    under_way: Mapping[bytes, Delivery]

    def failure(self, exception: BaseException) -> None:
        """Called by aiokafka when it gives a batch up."""
        if isinstance(exception, MessageSizeTooLargeError):
            try:
                if self._made_smaller():
                    self.accumulator.reenqueue(self)
                    return
            except Exception:
                log.exception("a batch that is too large cannot be made smaller")
        super().failure(exception)

    def _made_smaller(self) -> bool:
        """Take out what was added; False when there is nothing (any more)."""
        shed: list[Delivery] = []
        smaller = _without_added(bytes(self._builder._buffer), self.under_way, shed)
        if not shed:
            return False
        self._builder._buffer = smaller
        for delivery in shed:
            delivery.shed(alone=self.record_count == 1)
        return True


_NO_LIMIT: Final = 2**31 - 1


def _without_added(
    data: bytes, under_way: Mapping[bytes, Delivery], shed: list[Delivery]
) -> bytearray:
    """Write a batch anew; adds to ``shed`` those whose messages became smaller."""
    batch = MemoryRecords(data).next_batch()
    builder = DefaultRecordBatchBuilder(
        2,
        batch.compression_type,
        batch.is_transactional,
        batch.producer_id,
        batch.producer_epoch,
        batch.base_sequence,
        _NO_LIMIT,
    )
    for record in batch:
        headers = list(record.headers)
        context = extract(headers).context
        delivery = under_way.get(context.span_id) if context is not None else None
        if delivery is not None and FIRST in (keys := [key for key, _ in headers]):
            headers = headers[: keys.index(FIRST)]
            shed.append(delivery)
        builder.append(record.offset, record.timestamp, record.key, record.value, headers)
    written: bytearray = builder.build()
    return written
