"""A batch builder whose messages carry the context of the batch's span."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aiokafka.producer.message_accumulator import BatchBuilder

from filters.kafka.client.headers import Header
from filters.kafka.client.sending import Contents


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
        carried, link = self.contents.headers(headers or ())
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
