"""Record batches for the tests: made and read by aiokafka, and by kio where names are odd."""

from __future__ import annotations

import io
import random
import struct
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import kio.records.schema as kio
from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from aiokafka.record.legacy_records import LegacyRecordBatchBuilder
from crc32c import crc32c
from kio.records.readers import read_batch
from kio.records.writers import write_new_batch

LONG_AGO = 1_600_000_000_000
"""Unix milliseconds; so far from the tests' now that it tells nothing of when a record was made."""

NONE, GZIP, SNAPPY, LZ4, ZSTD = CODECS = range(5)

Headers = tuple[tuple[bytes, bytes | None], ...]


class Row(NamedTuple):
    """A record; ``timestamp`` is in Unix milliseconds."""

    value: bytes | None = b"value"
    key: bytes | None = None
    headers: Headers = ()
    timestamp: int = LONG_AGO


class Producer(NamedTuple):
    """What an idempotent producer says of itself and of a batch."""

    id: int
    epoch: int = 0
    sequence: int = 0


NOBODY = Producer(-1, -1, -1)


def batch(
    rows: Sequence[Row] | int = 1,
    codec: int = NONE,
    *,
    producer: Producer = NOBODY,
    transactional: bool = False,
    base_offset: int = 0,
    control: bool = False,
) -> bytes:
    """A batch; of so many records that tell themselves apart if ``rows`` is a number."""
    if isinstance(rows, int):
        rows = [Row(b"value %d" % number) for number in range(rows)]
    builder = DefaultRecordBatchBuilder(2, codec, transactional, *producer, 1 << 30)
    for offset, row in enumerate(rows):
        named = [(name.decode(), value) for name, value in row.headers]
        assert builder.append(offset, row.timestamp, row.key, row.value, named)
    made = base_offset.to_bytes(8, "big") + bytes(builder.build())[8:]
    return checked(made[:22] + bytes([made[22] | 0x20]) + made[23:]) if control else made


def checked(made: bytes) -> bytes:
    """A batch that was changed, its length and its checksum right."""
    size = struct.pack(">i", len(made) - 12)
    return made[:8] + size + made[12:17] + struct.pack(">I", crc32c(made[21:])) + made[21:]


def odd_batch(rows: Sequence[Row]) -> bytes:
    """A batch that may have header names that are not UTF-8, which only kio writes."""
    buffer = io.BytesIO()
    records = tuple(
        kio.Record(
            attributes=0,
            timestamp=datetime.fromtimestamp(row.timestamp // 1000, UTC),
            offset=offset,
            key=row.key,
            value=row.value,
            headers=tuple(kio.RecordHeader(key=name, value=value) for name, value in row.headers),
        )
        for offset, row in enumerate(rows)
    )
    new = kio.NewRecordBatch(
        producer_id=-1, producer_epoch=-1, base_sequence=-1, attributes=0, records=records
    )
    write_new_batch(buffer, new)
    return buffer.getvalue()


def old_messages(magic: int, values: Sequence[bytes], codec: int = NONE) -> bytes:
    """A message set of magic 0 or 1."""
    builder = LegacyRecordBatchBuilder(magic, codec, 1 << 20)
    for offset, value in enumerate(values):
        assert builder.append(offset, timestamp=LONG_AGO, key=None, value=value) is not None
    return bytes(builder.build())


def rows(made: bytes) -> list[Row]:
    """The records of one batch, whose checksum is right."""
    read = DefaultRecordBatch(made)
    assert read.validate_crc()
    return [
        Row(each.value, each.key,
            tuple((name.encode(), value) for name, value in each.headers), each.timestamp)
        for each in read
    ]  # fmt: skip


def odd_rows(made: bytes) -> list[Row]:
    """The same for batches with header names of any bytes; without timestamps."""
    assert crc32c(made[21:]) == int.from_bytes(made[17:21], "big")
    read, size = read_batch(made, 0)
    assert size == len(made)
    return [
        Row(each.value, each.key, tuple((header.key, header.value) for header in each.headers))
        for each in read.records
    ]


def values(row: Row, name: str) -> list[str]:
    """The values of a record's headers of that name."""
    return [(value or b"").decode() for key, value in row.headers if key == name.encode()]


def value(row: Row, name: str) -> str:
    """The value of a header that stands there once."""
    (found,) = values(row, name)
    return found


def same_head(before: bytes, after: bytes) -> bool:
    """Whether all fields before the records are the same, but for length and checksum."""
    fields = [slice(0, 8), slice(12, 17), slice(21, 61)]
    return all(before[each] == after[each] for each in fields)


NOISE = random.Random(3).randbytes(120_000)
HEAVY = batch([Row(NOISE[:40_000])], GZIP)
"""More than 32 KiB when it is compressed."""
