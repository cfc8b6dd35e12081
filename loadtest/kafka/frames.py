"""Requests as bytes, and of responses what the replaying client has to know.

Produce v10 and Fetch v12: flexible, and topics are still named, not numbered. The formats are those
of Apache Kafka's message definitions; only one topic and partition is ever asked about at a time.
"""

from __future__ import annotations

import struct
from random import Random
from typing import Final

from aiokafka.record.default_records import DefaultRecordBatchBuilder

from loadtest.kafka.loads import CODECS, Load, traceparent, values

PRODUCE: Final = 0
PRODUCE_VERSION: Final = 10
FETCH: Final = 1
FETCH_VERSION: Final = 12
FETCH_BYTES: Final = 1 << 20
"""What clients ask for by default, a partition."""
FETCH_WAIT_MS: Final = 100
CLIENT_ID: Final = b"replay"
TIMESTAMP_MS: Final = 1_790_000_000_000

HEAD = struct.Struct(">ihhih")
BATCH_HEAD = struct.Struct(">qi")
BATCH_COUNT_AT: Final = 57
BATCH_LENGTH_FROM: Final = 12
"""What a batch's length field does not count."""


class RefusedError(Exception):
    """The broker, or the proxy for it, answered with an error code."""


def batch(load: Load, seed: int, traced: bool) -> bytes:
    """One record batch; with ``traced`` all of its records carry the same traceparent."""
    random = Random(seed)
    headers = [("traceparent", traceparent(random).encode())] if traced else []
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=CODECS.index(load.codec),
        is_transactional=False,
        producer_id=-1,
        producer_epoch=-1,
        base_sequence=-1,
        batch_size=1 << 30,
    )
    for offset, value in enumerate(values(load, load.records, seed)):
        builder.append(offset, TIMESTAMP_MS + offset, None, value, headers)
    return bytes(builder.build())


def produce_body(topic: str, partition: int, records: bytes) -> bytes:
    """A Produce request behind its header; acks of the leader alone."""
    name = topic.encode()
    return b"".join(
        (
            b"\0",  # no transaction
            struct.pack(">hi", 1, 30_000),
            b"\2",  # one topic
            uvarint(len(name) + 1), name,
            b"\2",  # one partition
            struct.pack(">i", partition),
            uvarint(len(records) + 1), records,
            b"\0\0\0",  # no tagged fields: of partition, topic, request
        )
    )  # fmt: skip


def fetch_body(topic: str, partition: int, offset: int) -> bytes:
    """A Fetch request behind its header: a consumer's, without a session."""
    name = topic.encode()
    return b"".join(
        (
            struct.pack(">iiii", -1, FETCH_WAIT_MS, 1, 50 << 20),
            struct.pack(">bii", 0, 0, -1),
            b"\2", uvarint(len(name) + 1), name,
            b"\2", struct.pack(">iiqiqi", partition, -1, offset, -1, -1, FETCH_BYTES),
            b"\0\0",  # no tagged fields: of partition, topic
            b"\1",  # no forgotten topics
            b"\1",  # no rack
            b"\0",
        )
    )  # fmt: skip


def head(api: int, version: int, correlation_id: int, body_length: int) -> bytes:
    """The size and the header (version 2) of a request."""
    size = HEAD.size - 4 + len(CLIENT_ID) + 1 + body_length
    fields = HEAD.pack(size, api, version, correlation_id, len(CLIENT_ID))
    return fields + CLIENT_ID + b"\0"


def check_produced(frame: bytes, topic: str) -> None:
    """Raise `RefusedError` unless the partition's error code is 0."""
    # size, correlation id, tags, one topic, its name, one partition, its index
    at = 4 + 4 + 1 + 1 + _name_length(topic) + 1 + 4
    _check(frame, at)


def fetched(frame: bytes, topic: str) -> tuple[int, int, int, int]:
    """Of a Fetch response: whole batches, their records, the next offset, the high watermark.

    The next offset is 0 when no batch came whole. Raises `RefusedError` on an error code.
    """
    _check(frame, 4 + 4 + 1 + 4)
    at = 4 + 4 + 1 + 4 + 2 + 4 + 1 + _name_length(topic) + 1 + 4
    _check(frame, at)
    (high_watermark,) = struct.unpack_from(">q", frame, at + 2)
    at += 2 + 3 * 8
    aborted = frame[at]
    if aborted > 1:
        raise RefusedError("transactions in a topic without any")
    at += 1 + 4
    length, at = _read_uvarint(frame, at)
    end = at + length - 1
    batches = records = following = 0
    while at + BATCH_COUNT_AT + 4 <= end:
        base, size = BATCH_HEAD.unpack_from(frame, at)
        if at + BATCH_LENGTH_FROM + size > end:
            break
        (count,) = struct.unpack_from(">i", frame, at + BATCH_COUNT_AT)
        batches, records, following = batches + 1, records + count, base + count
        at += BATCH_LENGTH_FROM + size
    return batches, records, following, high_watermark


def uvarint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _read_uvarint(data: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
        shift += 7


def _name_length(topic: str) -> int:
    length = len(topic.encode())
    return length + len(uvarint(length + 1))


def _check(frame: bytes, at: int) -> None:
    (error,) = struct.unpack_from(">h", frame, at)
    if error:
        raise RefusedError(f"error code {error}")
