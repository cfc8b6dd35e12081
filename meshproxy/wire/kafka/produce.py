"""Produce: where the record batches lie in a request, and what the broker says of each."""

from __future__ import annotations

from struct import Struct
from typing import Final

from meshproxy.wire.kafka.addresses import Place, node_endpoints
from meshproxy.wire.kafka.apis import PRODUCE, flexible
from meshproxy.wire.kafka.primitives import Malformed, Patch, Reader, length
from meshproxy.wire.kafka.requests import RequestHead, request_body, response_body

ACKNOWLEDGED: Final = Struct(">ihq")
"""Partition, error and base offset."""


class Batch:
    """What a request has for one partition: ``frame[start:end]``, empty if there is nothing.

    From version 13 on a topic goes by its id and ``topic`` is empty; before that ``topic_id`` is.
    ``length_at`` is where the length stands that precedes the records.
    """

    __slots__ = ("end", "length_at", "partition", "start", "topic", "topic_id")

    def __init__(
        self, topic: str, topic_id: bytes, partition: int, start: int, end: int, length_at: int
    ) -> None:
        self.topic = topic
        self.topic_id = topic_id
        self.partition = partition
        self.start = start
        self.end = end
        self.length_at = length_at


class ProduceRequest:
    """A Produce request. ``acks`` is 0 when no response will come, 1, or -1 for all replicas."""

    __slots__ = ("acks", "batches", "flexible", "transactional_id")

    def __init__(
        self, transactional_id: str | None, acks: int, batches: list[Batch], flexible: bool
    ) -> None:
        self.transactional_id = transactional_id
        self.acks = acks
        self.batches = batches
        self.flexible = flexible


class Acknowledged:
    """What the broker says of one partition. ``error`` is 0 when all is well.

    The topic's name or its id is empty, as in `Batch`. ``base_offset`` is that of the first record.
    """

    __slots__ = ("base_offset", "error", "message", "partition", "topic", "topic_id")

    def __init__(
        self,
        topic: str,
        topic_id: bytes,
        partition: int,
        error: int,
        base_offset: int,
        message: str | None,
    ) -> None:
        self.topic = topic
        self.topic_id = topic_id
        self.partition = partition
        self.error = error
        self.base_offset = base_offset
        self.message = message


class ProduceResponse:
    """The response as the client shall have it, and what it says."""

    __slots__ = ("frame", "partitions")

    def __init__(self, frame: bytes, partitions: list[Acknowledged]) -> None:
        self.frame = frame
        self.partitions = partitions


def read_acks(frame_beginning: bytes, head: RequestHead) -> int | None:
    """The ``acks`` of a Produce request that is there in part; None if they are not, or unclear."""
    try:
        reader = request_body(frame_beginning, head)
        return _acks(reader, head)[1]
    except Malformed:
        return None


def _acks(reader: Reader, head: RequestHead) -> tuple[str | None, int]:
    """Transactional id and acks."""
    transactional_id: str | None = None
    if head.version >= 3:
        transactional_id = reader.string(flexible(PRODUCE, head.version))
    return transactional_id, reader.int16()


def read_request(frame: bytes, head: RequestHead) -> ProduceRequest:
    """A Produce request, versions 0 to 13. Raises `Malformed`."""
    reader = request_body(frame, head)
    compact = flexible(PRODUCE, head.version)
    transactional_id, acks = _acks(reader, head)
    reader.take(4)  # timeout
    batches: list[Batch] = []
    for _ in range(reader.length(compact)):
        topic = reader.text(compact) if head.version < 13 else ""
        topic_id = reader.uuid() if head.version >= 13 else b""
        for _ in range(reader.length(compact)):
            batches.append(_batch(reader, compact, topic, topic_id))
        if compact:
            reader.skip_tags()
    if compact:
        reader.skip_tags()
    return ProduceRequest(transactional_id, acks, batches, compact)


def _batch(reader: Reader, compact: bool, topic: str, topic_id: bytes) -> Batch:
    partition = reader.int32()
    length_at = reader.at
    size = reader.length(compact)
    start = reader.at
    end = start + size if size > 0 else start
    reader.at = end
    if compact:
        reader.skip_tags()
    return Batch(topic, topic_id, partition, start, end, length_at)


def replaced(
    frame: bytes, request: ProduceRequest, replacements: dict[int, tuple[bytes, ...]]
) -> list[bytes]:
    """The request with other record batches in the place of those at these indexes.

    The batches are given in pieces, and so is the request.
    """
    patch = Patch(frame)
    for index, pieces in replacements.items():
        batch = request.batches[index]
        size = sum(map(len, pieces))
        patch.replace(batch.length_at, batch.start, length(size, request.flexible))
        patch.replace(batch.start, batch.end, *pieces)
    return patch.pieces()


def read_response(frame: bytes, version: int, place: Place) -> ProduceResponse:
    """A response to Produce, versions 0 to 13.

    Addresses of new leaders are replaced (version 10 and newer, KIP-951). Raises `Malformed`, and
    whatever ``place`` raises.
    """
    reader = response_body(frame, PRODUCE, version)
    compact = flexible(PRODUCE, version)
    partitions: list[Acknowledged] = []
    for _ in range(reader.length(compact)):
        topic = reader.text(compact) if version < 13 else ""
        topic_id = reader.uuid() if version >= 13 else b""
        for _ in range(reader.length(compact)):
            partitions.append(_acknowledged(reader, version, topic, topic_id))
        if compact:
            reader.skip_tags()
    if version >= 1:
        reader.take(4)  # throttle time
    if version >= 10:
        frame = node_endpoints(frame, reader, place)
    return ProduceResponse(frame, partitions)


def _acknowledged(reader: Reader, version: int, topic: str, topic_id: bytes) -> Acknowledged:
    fixed: tuple[int, int, int] = ACKNOWLEDGED.unpack_from(
        reader.data, reader.take(ACKNOWLEDGED.size)
    )
    if version >= 2:
        reader.take(8)  # append time
    if version >= 5:
        reader.take(8)  # log start
    message: str | None = None
    if version >= 8:
        compact = version >= 9
        for _ in range(reader.length(compact)):
            reader.take(4)  # index in the batch
            reader.skip_string(compact)
            if compact:
                reader.skip_tags()
        message = reader.string(compact)
        if compact:
            reader.skip_tags()
    return Acknowledged(topic, topic_id, fixed[0], fixed[1], fixed[2], message)
