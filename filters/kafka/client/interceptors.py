"""Hooks by the names that Kafka's Java client has for them.

They run in the order in which they were given. What they raise is logged, and the message passes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiokafka.structs import ConsumerRecord, RecordMetadata, TopicPartition

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ProducerRecord:
    """The arguments of ``send``, before serialisers have seen them. ``headers`` is a copy."""

    topic: str
    value: Any = None
    key: Any = None
    partition: int | None = None
    timestamp_ms: int | None = None
    headers: Sequence[tuple[str, bytes | None]] = ()


class ProducerInterceptor:
    """Sees what a producer sends; override what is of use."""

    def on_send(self, record: ProducerRecord) -> ProducerRecord:
        """A record is about to be sent: give it back, or another to be sent in its place.

        Runs before the trace context goes in; a context that is put in here is kept.
        """
        return record

    def on_acknowledgement(
        self, metadata: RecordMetadata | None, error: BaseException | None
    ) -> None:
        """A record, or a batch of the batch interface, was taken by the broker or has failed.

        ``metadata`` is None when it failed, and with ``acks=0``.
        """


class ConsumerInterceptor:
    """Sees what a consumer hands out; override what is of use."""

    def on_consume(self, records: Mapping[TopicPartition, Sequence[ConsumerRecord]]) -> None:
        """Records are about to be handed out. They may be changed, but not replaced."""

    def on_commit(self, offsets: Mapping[TopicPartition, Any] | None) -> None:
        """The application has committed these offsets; None stands for all it has consumed.

        Not called for what aiokafka commits by itself.
        """


class OnSend:
    """Lets interceptors see, and change, the records of one producer."""

    def __init__(self, interceptors: Sequence[ProducerInterceptor]) -> None:
        self._interceptors = interceptors
        self._complained = False

    def __call__(self, record: ProducerRecord) -> ProducerRecord:
        """The record to send. One that an interceptor has no answer to stays as it is."""
        for each in self._interceptors:
            try:
                result: object = each.on_send(record)
            except Exception:
                log.exception("on_send of an interceptor failed")
                continue
            if isinstance(result, ProducerRecord):
                record = result
            elif not self._complained:
                self._complained = True
                log.error("on_send of %r gives no ProducerRecord but %r", each, type(result))
        return record


def tell(hooks: Sequence[Callable[..., None]], *arguments: object) -> None:
    """Call hooks that have nothing to answer."""
    for hook in hooks:
        try:
            hook(*arguments)
        except Exception:
            log.exception("%s of an interceptor failed", getattr(hook, "__name__", hook))
