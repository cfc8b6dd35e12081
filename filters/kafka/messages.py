"""The messages that a fetch brought for one partition, and the contexts that they carry."""

from __future__ import annotations

from typing import Final

from filters.kafka.messaging import CARRIED, Messaging
from meshproxy.trace.context import SpanContext
from meshproxy.trace.propagator import Extracted, Propagator
from meshproxy.wire.kafka.batches import (
    MAGIC,
    BatchHead,
    Record,
    headers,
    payload,
    read_head,
    records,
)
from meshproxy.wire.kafka.primitives import Malformed

FEW: Final = 8
"""Messages up to this number are each followed on their own; more of them only together."""

MOST_LINKS: Final = 128
"""Different contexts that are told apart; OpenTelemetry's default limit for links of a span."""

LARGEST: Final = 2**22
"""Bytes that a batch may decompress to for its headers to be read: reading must not take long."""


class Message:
    """A single message. ``headers`` are those of its record in ``payload``."""

    __slots__ = ("extracted", "headers", "offset", "payload", "record")

    def __init__(
        self,
        payload: bytes,
        record: Record,
        offset: int,
        headers: list[tuple[bytes, bytes]],
        extracted: Extracted,
    ) -> None:
        self.payload = payload
        self.record = record
        self.offset = offset
        self.headers = headers
        self.extracted = extracted


class Messages:
    """What is known of the messages of one partition in one response.

    ``size`` is what was read so far, uncompressed, in bytes. ``count`` are all messages,
    ``without`` those that carry no context. ``contexts`` are the different ones that the others
    carry, `MOST_LINKS` at most. ``single`` are the messages themselves, if they are no more than
    `FEW` or if ``each`` is wanted. ``unread`` counts batches that could not be read or were too
    large, ``old`` those of a format that has no headers.
    """

    def __init__(self, messaging: Messaging, each: bool) -> None:
        self.size = 0
        self.count = 0
        self.without = 0
        self.contexts: list[Extracted] = []
        self.single: list[Message] = []
        self.first_offset = -1
        self.last_offset = -1
        self.unread = 0
        self.old = 0
        self._messaging = messaging
        self._each = each
        self._known: dict[tuple[tuple[bytes, bytes], ...], Extracted] = {}

    def read(self, data: bytes, at: int, end: int) -> int:
        """Read the batch at ``at``; returns where the next one begins, ``end`` if there is none.

        The last batch may be cut off.
        """
        try:
            head = read_head(data, at, end)
        except Malformed:
            self.unread += 1
            return end
        if head is None:
            return end
        try:
            self._batch(data, head)
        except Malformed:
            self.unread += 1
        return head.end

    def _batch(self, data: bytes, head: BatchHead) -> None:
        if head.magic != MAGIC:
            self.old += 1
            return
        if head.control or not head.count:
            return
        if head.codec:
            content = payload(data, head, LARGEST)
            self.size += len(content)
            found = records(content, head.count)
        else:
            content = data  # read where it lies
            self.size += head.end - head.at
            found = records(data, head.count, head.records_at, head.end)
        if self.first_offset < 0:
            self.first_offset = head.base_offset + found[0].offset_delta
        self.last_offset = head.base_offset + head.last_offset_delta
        follow = self._each or self.count + len(found) <= FEW
        self.count += len(found)
        if not follow:
            self.single.clear()
        before = b""
        extracted = _NOTHING
        for record in found:
            # Records of one batch mostly carry the same headers: those were read already.
            now = content[record.headers_at : record.end] if record.header_count else b""
            if now != before:
                before = now
                extracted = self._extracted(headers(content, record)) if now else _NOTHING
            if extracted.context is None:
                self.without += 1
            if follow:
                offset = head.base_offset + record.offset_delta
                pairs = headers(content, record)
                self.single.append(Message(content, record, offset, pairs, extracted))

    def _extracted(self, pairs: list[tuple[bytes, bytes]]) -> Extracted:
        """What headers say of their record's trace; the same object for the same trace."""
        ours = [pair for pair in pairs if _is_ours(pair[0].lower())]
        if not ours:
            return _NOTHING
        key = tuple(ours)
        known = self._known.get(key)
        if known is not None:
            return known
        if len(self._known) >= MOST_LINKS and not self._each:
            return _SOMETHING if any(name.lower() in CARRIED for name, _ in ours) else _NOTHING
        extracted = self._known[key] = self._messaging.extract(ours)
        context = extracted.context
        if (
            context is not None
            and len(self.contexts) < MOST_LINKS
            and all(context != each.context for each in self.contexts)
        ):
            self.contexts.append(extracted)
        return extracted


def _is_ours(name: bytes) -> bool:
    """Whether a header, its name in lower case, belongs to a trace-context format."""
    return name in Propagator.fields or name.startswith(Propagator.prefixes)


_NOTHING: Final = Extracted()
_SOMETHING: Final = Extracted(SpanContext(b"\1" * 16, b"\1" * 8))
"""What stands for contexts beyond those that are told apart."""
