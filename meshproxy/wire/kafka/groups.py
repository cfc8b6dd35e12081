"""Requests of consumer groups: which group they are of, and which offsets they commit."""

from __future__ import annotations

from struct import Struct
from typing import Final

from meshproxy.wire.kafka.apis import (
    CONSUMER_GROUP_HEARTBEAT,
    HEARTBEAT,
    JOIN_GROUP,
    LEAVE_GROUP,
    OFFSET_COMMIT,
    OFFSET_FETCH,
    SYNC_GROUP,
    TXN_OFFSET_COMMIT,
    flexible,
)
from meshproxy.wire.kafka.primitives import Malformed, Reader
from meshproxy.wire.kafka.requests import RequestHead, request_body

GROUP_FIRST: Final = frozenset(
    {
        CONSUMER_GROUP_HEARTBEAT,
        HEARTBEAT,
        JOIN_GROUP,
        LEAVE_GROUP,
        OFFSET_COMMIT,
        OFFSET_FETCH,
        SYNC_GROUP,
    }
)
"""APIs whose requests begin with the group's name."""

COMMITTED: Final = Struct(">iq")
"""Partition and offset."""


class Committed:
    """An offset that is committed: that of the next message to read.

    For a topic that goes by its id ``topic`` is empty, otherwise ``topic_id`` is.
    """

    __slots__ = ("offset", "partition", "topic", "topic_id")

    def __init__(self, topic: str, topic_id: bytes, partition: int, offset: int) -> None:
        self.topic = topic
        self.topic_id = topic_id
        self.partition = partition
        self.offset = offset


def group_of(frame: bytes, head: RequestHead) -> str | None:
    """The consumer group that a request is of.

    None when it names none, or several (OffsetFetch), or is of another API. Raises `Malformed`.
    """
    if head.key not in GROUP_FIRST and head.key != TXN_OFFSET_COMMIT:
        return None
    reader = request_body(frame, head)
    compact = flexible(head.key, head.version)
    if head.key == TXN_OFFSET_COMMIT:
        reader.skip_string(compact)  # transactional id
    elif head.key == OFFSET_FETCH and head.version >= 8 and reader.length(True) != 1:
        return None
    return reader.string(compact) or None


def read_offset_commit(frame: bytes, head: RequestHead) -> list[Committed]:
    """What OffsetCommit, versions 0 to 10, or TxnOffsetCommit, 0 to 5, commits.

    Raises `Malformed`, for requests of other APIs too.
    """
    reader = request_body(frame, head)
    if head.key == OFFSET_COMMIT:
        after = _to_topics(reader, head.version)
    elif head.key == TXN_OFFSET_COMMIT:
        after = _to_topics_of_transaction(reader, head.version)
    else:
        raise Malformed(f"API {head.key} commits no offsets")
    compact = flexible(head.key, head.version)
    by_id = head.key == OFFSET_COMMIT and head.version >= 10
    commits: list[Committed] = []
    for _ in range(reader.length(compact)):
        topic = "" if by_id else reader.text(compact)
        topic_id = reader.uuid() if by_id else b""
        for _ in range(reader.length(compact)):
            commits.append(_committed(reader, compact, topic, topic_id, after))
        if compact:
            reader.skip_tags()
    return commits


def _committed(reader: Reader, compact: bool, topic: str, topic_id: bytes, after: int) -> Committed:
    at = reader.take(COMMITTED.size + after)
    partition, offset = COMMITTED.unpack_from(reader.data, at)
    reader.skip_string(compact)  # metadata
    if compact:
        reader.skip_tags()
    return Committed(topic, topic_id, partition, offset)


def _to_topics(reader: Reader, version: int) -> int:
    """Step to the topics of OffsetCommit.

    Returns how many bytes stand between the offset of a partition and its metadata.
    """
    compact = flexible(OFFSET_COMMIT, version)
    reader.skip_string(compact)  # group
    if version >= 1:
        reader.take(4)  # generation
        reader.skip_string(compact)  # member
    if version >= 7:
        reader.skip_string(compact)  # group instance
    if 2 <= version <= 4:
        reader.take(8)  # retention time
    if version == 1:
        return 8  # timestamp
    return 4 if version >= 6 else 0  # leader epoch


def _to_topics_of_transaction(reader: Reader, version: int) -> int:
    """Step to the topics of TxnOffsetCommit; returns the same as `_to_topics`."""
    compact = flexible(TXN_OFFSET_COMMIT, version)
    reader.skip_string(compact)  # transactional id
    reader.skip_string(compact)  # group
    reader.take(10)  # producer id and epoch
    if version >= 3:
        reader.take(4)  # generation
        reader.skip_string(compact)  # member
        reader.skip_string(compact)  # group instance
    return 4 if version >= 2 else 0  # leader epoch
