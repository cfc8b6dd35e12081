"""Record batches (magic 2) and the records in them, read in place.

The format is Kafka's "Record Batch" (KIP-98): a head of 61 bytes, then the records, compressed as
one piece if the attributes name a codec. Nothing is copied but what is asked for: a `Record` says
where its parts lie in the payload. Peers are not trusted: whatever the bytes are, they are read or
`Malformed` is raised, and no count or length is believed before the bytes for it are there.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

from meshproxy.wire.kafka.compression import ZSTD, compress, decompress
from meshproxy.wire.kafka.primitives import MAX_VARINT, MAX_VARLONG, Malformed

HEAD: Final = Struct(">qiibIhiqqqhii")
"""base offset, length, leader epoch, magic, crc, attributes, last offset delta, base and greatest
timestamp, producer id, producer epoch, base sequence, count of records."""
INT32: Final = Struct(">i")
LENGTH_AT: Final = 8
COUNTED_FROM: Final = 12
"""What the length counts begins here."""
MAGIC_AT: Final = 16
CRC_AT: Final = 17
CHECKED_FROM: Final = 21
"""What the CRC-32C covers begins here."""
RECORDS_AT: Final = 61

MAGIC: Final = 2
CODEC_BITS: Final = 0x07
TRANSACTIONAL_BIT: Final = 0x10
CONTROL_BIT: Final = 0x20

LEAST_RECORD: Final = 7
"""Bytes of a record in which everything is null, empty or 0: length, attributes, two deltas, key,
value, count of headers."""


class BatchHead:
    """The fields of a batch that lies between ``at`` and ``end``; timestamps in milliseconds.

    ``length`` of the wire is not kept, it is ``end``. ``records_at`` is where the payload begins.
    Of the old formats (``magic`` 0 and 1) only ``at``, ``end`` and ``magic`` are known.
    """

    __slots__ = (
        "at",
        "attributes",
        "base_offset",
        "base_sequence",
        "base_timestamp",
        "codec",
        "control",
        "count",
        "crc",
        "end",
        "last_offset_delta",
        "magic",
        "max_timestamp",
        "producer_epoch",
        "producer_id",
        "records_at",
        "transactional",
    )

    def __init__(self, at: int, end: int, magic: int) -> None:
        self.at = at
        self.end = end
        self.magic = magic
        self.base_offset = -1
        self.crc = 0
        self.attributes = 0
        self.codec = 0
        self.transactional = False
        self.control = False
        self.last_offset_delta = 0
        self.base_timestamp = -1
        self.max_timestamp = -1
        self.producer_id = -1
        self.producer_epoch = -1
        self.base_sequence = -1
        self.count = 0
        self.records_at = end


class Record:
    """Where the parts of a record lie in the payload.

    From ``at`` to ``end``, its length first; ``body_at`` is behind the length. ``key_end`` and
    ``value_end`` are -1 for null. The count of headers is at ``count_at``, the headers go from
    ``headers_at`` to ``end``. ``timestamp_delta`` (ms) and ``offset_delta`` are to be added to the
    batch's base.
    """

    __slots__ = (
        "at",
        "body_at",
        "count_at",
        "end",
        "header_count",
        "headers_at",
        "key_at",
        "key_end",
        "offset_delta",
        "timestamp_delta",
        "value_at",
        "value_end",
    )

    def __init__(
        self,
        at: int,
        body_at: int,
        end: int,
        timestamp_delta: int,
        offset_delta: int,
        key_at: int,
        key_end: int,
        value_at: int,
        value_end: int,
        count_at: int,
        header_count: int,
        headers_at: int,
    ) -> None:
        self.at = at
        self.body_at = body_at
        self.end = end
        self.timestamp_delta = timestamp_delta
        self.offset_delta = offset_delta
        self.key_at = key_at
        self.key_end = key_end
        self.value_at = value_at
        self.value_end = value_end
        self.count_at = count_at
        self.header_count = header_count
        self.headers_at = headers_at


def read_head(data: bytes, at: int, end: int) -> BatchHead | None:
    """The head of the batch that begins at ``at``; None when it goes on beyond ``end``.

    A broker may cut off the last batch of a Fetch response, so that is nothing wrong there.
    Raises `Malformed` for a length, magic, codec or count that cannot be.
    """
    end = min(end, len(data))
    if at + COUNTED_FROM > end:
        return None
    length: int = INT32.unpack_from(data, at + LENGTH_AT)[0]
    batch_end = at + COUNTED_FROM + length
    if length <= MAGIC_AT - COUNTED_FROM:
        raise Malformed(f"a record batch of {length} bytes at byte {at}")
    if batch_end > end:
        return None
    magic = data[at + MAGIC_AT]
    if magic > MAGIC:
        raise Malformed(f"a record batch of magic {magic} at byte {at}")
    head = BatchHead(at, batch_end, magic)
    if magic == MAGIC:
        _read_fields(data, head)
    return head


def _read_fields(data: bytes, head: BatchHead) -> None:
    if head.at + RECORDS_AT > head.end:
        raise Malformed(f"a record batch of {head.end - head.at} bytes at byte {head.at}")
    fields = HEAD.unpack_from(data, head.at)
    head.base_offset = fields[0]
    head.crc = fields[4]
    attributes: int = fields[5]
    head.last_offset_delta = fields[6]
    head.base_timestamp = fields[7]
    head.max_timestamp = fields[8]
    head.producer_id = fields[9]
    head.producer_epoch = fields[10]
    head.base_sequence = fields[11]
    head.count = fields[12]
    head.attributes = attributes
    head.codec = attributes & CODEC_BITS
    head.transactional = attributes & TRANSACTIONAL_BIT != 0
    head.control = attributes & CONTROL_BIT != 0
    head.records_at = head.at + RECORDS_AT
    if head.codec > ZSTD:
        raise Malformed(f"a record batch of codec {head.codec} at byte {head.at}")
    if head.count < 0:
        raise Malformed(f"a record batch of {head.count} records at byte {head.at}")


def payload(data: bytes, head: BatchHead, limit: int, checked: bool = False) -> bytes:
    """The uncompressed records of the batch.

    Raises `Malformed` when they do not decompress, or to more than ``limit`` bytes; if ``checked``,
    also when the batch is not what its CRC-32C was made of.
    """
    records = data[head.records_at : head.end]
    if checked and _checksum(data[head.at + CHECKED_FROM : head.records_at], records) != head.crc:
        raise Malformed(f"the record batch at byte {head.at} does not match its CRC-32C")
    return decompress(head.codec, records, limit)


def _checksum(fields: bytes, records: bytes) -> int:
    """The CRC-32C of a batch: ``fields`` are those of its head that are covered."""
    from google_crc32c import extend, value

    checksum: int = extend(value(fields), records)
    return checksum


def rebuilt(data: bytes, head: BatchHead, payload: bytes, framing: int) -> tuple[bytes, bytes]:
    """The batch with another payload of the same number of records; all else is as it was.

    In two pieces, the head and the records. The payload is compressed by the batch's codec, for
    snappy in the ``framing`` given (see `compression.framing`); length and CRC-32C are made anew.
    """
    records = compress(head.codec, payload, framing)
    at = head.at
    fields = data[at + CHECKED_FROM : head.records_at]
    length = RECORDS_AT - COUNTED_FROM + len(records)
    checksum = _checksum(fields, records)
    renewed = b"".join(
        (
            data[at : at + LENGTH_AT],
            INT32.pack(length),
            data[at + COUNTED_FROM : at + CRC_AT],
            checksum.to_bytes(CHECKED_FROM - CRC_AT, "big"),
            fields,
        )
    )
    return renewed, records


def check_count(size: int, count: int) -> None:
    """Raise `Malformed` when ``size`` bytes cannot hold ``count`` records."""
    if count < 0 or count * LEAST_RECORD > size:
        raise Malformed(f"{count} records in {size} bytes")


def check_end(end: int, count: int, at: int) -> None:
    """Raise `Malformed` when the last of ``count`` records does not end where the payload does."""
    if at != end:
        raise Malformed(f"{end - at} bytes follow the last of {count} records")


def records(payload: bytes, count: int, at: int = 0, end: int = -1) -> list[Record]:
    """The ``count`` records of an uncompressed payload; `Malformed` if it is not just these.

    It may lie in something larger, from ``at`` to ``end`` (-1: all of it).
    """
    if end < 0:
        end = len(payload)
    check_count(end - at, count)
    found: list[Record] = []
    for _ in range(count):
        record = read_record(payload, at, end)
        found.append(record)
        at = record.end
    check_end(end, count, at)
    return found


def read_record(payload: bytes, at: int, last: int) -> Record:
    """The record that begins at ``at``, its headers walked through; raises `Malformed`.

    ``last`` is where the payload ends.
    """
    try:
        return _read_record(payload, at, last)
    except IndexError as error:
        raise Malformed(f"the record at byte {at} is cut off") from error


def _read_record(payload: bytes, at: int, last: int) -> Record:
    # Reading beyond the record's end, but within what is there, is found at the end; beyond that it
    # is an IndexError.
    length, body_at = varint(payload, at)
    end = body_at + length
    if length < LEAST_RECORD - 1 or end > last:
        raise Malformed(f"the record at byte {at} has {length} of {last - body_at} bytes")
    timestamp_delta, cursor = varlong(payload, body_at + 1)
    offset_delta, cursor = varint(payload, cursor)
    key_at, key_end, cursor = _nullable(payload, cursor)
    value_at, value_end, count_at = _nullable(payload, cursor)
    header_count, headers_at = varint(payload, count_at)
    cursor = headers_at
    if header_count:
        cursor = _skip_headers(payload, header_count, headers_at, end)
    if cursor != end:
        raise Malformed(f"the record at byte {at} ends at byte {cursor}, not {end}")
    return Record(
        at,
        body_at,
        end,
        timestamp_delta,
        offset_delta,
        key_at,
        key_end,
        value_at,
        value_end,
        count_at,
        header_count,
        headers_at,
    )


def _nullable(payload: bytes, at: int) -> tuple[int, int, int]:
    """Where bytes that may be null begin and end (-1: null), and where the next field begins."""
    length, start = varint(payload, at)
    if length >= 0:
        return start, start + length, start + length
    if length < -1:
        raise Malformed(f"a key or value of {length} bytes at byte {at}")
    return start, -1, start


def _skip_headers(payload: bytes, count: int, at: int, end: int) -> int:
    if count < 0:
        raise Malformed(f"{count} headers at byte {at}")
    for _ in range(count):
        if at >= end:
            raise Malformed(f"fewer than {count} headers before byte {end}")
        length, at = varint(payload, at)
        if length < 0:
            raise Malformed(f"a header's key of {length} bytes before byte {at}")
        length, at = varint(payload, at + length)
        if length > 0:
            at += length
        elif length < -1:
            raise Malformed(f"a header's value of {length} bytes before byte {at}")
    return at


def headers(payload: bytes, record: Record) -> list[tuple[bytes, bytes]]:
    """The record's headers in their order, as bytes; a value that is null is empty here."""
    found: list[tuple[bytes, bytes]] = []
    at = record.headers_at
    for _ in range(record.header_count):
        length, key_at = varint(payload, at)
        key_end = key_at + length
        length, value_at = varint(payload, key_end)
        at = value_at + length if length > 0 else value_at
        found.append((payload[key_at:key_end], payload[value_at:at]))
    return found


def varint(data: bytes, at: int) -> tuple[int, int]:
    """A signed varint of 32 bits in zigzag, and where it ends; IndexError at the end of data."""
    byte = data[at]
    if byte < 0x80:
        return (byte >> 1) ^ -(byte & 1), at + 1
    second = data[at + 1]
    if second < 0x80:
        value = byte & 0x7F | second << 7
        return (value >> 1) ^ -(value & 1), at + 2
    return _long(data, at, MAX_VARINT, 32)


def varlong(data: bytes, at: int) -> tuple[int, int]:
    """A signed varint of 64 bits in zigzag, and where it ends; IndexError at the end of data."""
    byte = data[at]
    if byte < 0x80:
        return (byte >> 1) ^ -(byte & 1), at + 1
    return _long(data, at, MAX_VARLONG, 64)


def _long(data: bytes, at: int, longest: int, bits: int) -> tuple[int, int]:
    value = 0
    shift = 0
    for cursor in range(at, at + longest):
        byte = data[cursor]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >> bits:
                break
            return (value >> 1) ^ -(value & 1), cursor + 1
        shift += 7
    raise Malformed(f"the varint at byte {at} does not end, or is too large")
