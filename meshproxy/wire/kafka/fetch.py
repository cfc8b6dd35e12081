"""Fetch: where the record batches lie in a response. They are never changed."""

from __future__ import annotations

from struct import Struct
from typing import Final

from meshproxy.wire.kafka.addresses import Place, node_endpoints
from meshproxy.wire.kafka.apis import FETCH, flexible
from meshproxy.wire.kafka.primitives import Reader
from meshproxy.wire.kafka.requests import response_body

FETCHED: Final = Struct(">ihq")
"""Partition, error and high watermark."""


class Fetched:
    """What came of one partition: ``frame[start:end]`` are record batches, the last may be cut off.

    From version 13 on a topic goes by its id and ``topic`` is empty; before that ``topic_id`` is.
    """

    __slots__ = ("end", "error", "high_watermark", "partition", "start", "topic", "topic_id")

    def __init__(
        self,
        topic: str,
        topic_id: bytes,
        partition: int,
        error: int,
        high_watermark: int,
        start: int,
        end: int,
    ) -> None:
        self.topic = topic
        self.topic_id = topic_id
        self.partition = partition
        self.error = error
        self.high_watermark = high_watermark
        self.start = start
        self.end = end


def rewrite(frame: bytes, version: int, place: Place) -> bytes:
    """A response with the addresses of new leaders replaced (version 16 and newer, KIP-951).

    The very same object if nothing changed. Raises `Malformed`, and whatever ``place`` raises.
    """
    if version < 16:
        return frame
    reader = response_body(frame, FETCH, version)
    _read_partitions(reader, version)
    return node_endpoints(frame, reader, place)


def read_response(frame: bytes, version: int) -> list[Fetched]:
    """What a response to Fetch has of each partition, versions 0 to 18. Raises `Malformed`."""
    return _read_partitions(response_body(frame, FETCH, version), version)


def _read_partitions(reader: Reader, version: int) -> list[Fetched]:
    compact = flexible(FETCH, version)
    if version >= 1:
        reader.take(4)  # throttle time
    if version >= 7:
        reader.take(6)  # error, session
    partitions: list[Fetched] = []
    for _ in range(reader.length(compact)):
        topic = reader.text(compact) if version < 13 else ""
        topic_id = reader.uuid() if version >= 13 else b""
        for _ in range(reader.length(compact)):
            partitions.append(_read_partition(reader, version, compact, topic, topic_id))
        if compact:
            reader.skip_tags()
    return partitions


def _read_partition(
    reader: Reader, version: int, compact: bool, topic: str, topic_id: bytes
) -> Fetched:
    fixed: tuple[int, int, int] = FETCHED.unpack_from(reader.data, reader.take(FETCHED.size))
    if version >= 4:
        reader.take(8)  # last stable offset
        if version >= 5:
            reader.take(8)  # log start
        _skip_aborted(reader, compact)
    if version >= 11:
        reader.take(4)  # preferred replica
    size = reader.length(compact)
    start = reader.at
    end = start + size if size > 0 else start
    reader.at = end
    if compact:
        reader.skip_tags()
    return Fetched(topic, topic_id, fixed[0], fixed[1], fixed[2], start, end)


def _skip_aborted(reader: Reader, compact: bool) -> None:
    """Step over the transactions that were aborted: producer ids and first offsets."""
    if not compact:
        reader.skip_array(False, 16)
        return
    for _ in range(reader.length(True)):
        reader.take(16)
        reader.skip_tags()
