"""Record batches of other implementations: read, given headers, and read back by all of them."""

from __future__ import annotations

import datetime
import io
import struct
from collections.abc import Callable
from typing import NamedTuple

import aiokafka.codec
import aiokafka.record.default_records as aiokafka_records
import kafka.codec
import kafka.record.default_records as kafka_python
import kio.records.schema as kio
import pytest
from aiokafka.record.legacy_records import LegacyRecordBatchBuilder
from crc32c import crc32c
from hypothesis import given
from hypothesis import strategies as st
from kio.records.readers import read_batch
from kio.records.writers import write_new_batch

from meshproxy.wire.kafka.batches import (
    RECORDS_AT,
    BatchHead,
    headers,
    payload,
    read_head,
    rebuilt,
    records,
)
from meshproxy.wire.kafka.compression import RAW, XERIAL, framing
from meshproxy.wire.kafka.primitives import Malformed
from meshproxy.wire.kafka.splice import Addition, inject

LIMIT = 1 << 24
BASE = 1_700_000_000_000
NONE, GZIP, SNAPPY, LZ4, ZSTD = range(5)

TRACEPARENT = (b"traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
BAGGAGE = (b"baggage", b"user=7")
ADDITION = Addition([TRACEPARENT, BAGGAGE])
CARRIED = frozenset({b"traceparent", b"b3"})


class Row(NamedTuple):
    """A record as all implementations know it."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[bytes, bytes | None], ...]


class State(NamedTuple):
    """What a batch says of its producer."""

    transactional: bool = False
    producer_id: int = -1
    epoch: int = -1
    sequence: int = -1


ROWS = [
    Row(0, BASE, b"key", b"value" * 100, ()),
    Row(1, BASE + 1, None, b"a" * 5000, ((b"id", b"1"), (b"id", b"2"), (b"id", b"1"))),
    Row(2, BASE - 5, b"", None, ((b"nothing", None), (b"empty", b""))),
    Row(3, BASE + 100_000_000, b"k" * 300, b"", (("schlüssel", b"\xff" * 200),)),
    Row(4, BASE + 1, None, None, tuple((b"h%d" % n, b"v" * n) for n in range(70))),
    Row(5, BASE + 1, b"\x00\xff", b"{}" * 50, ((b"", b"name is empty"),)),
]
ROWS = [
    row._replace(
        headers=tuple((k.encode() if isinstance(k, str) else k, v) for k, v in row.headers)
    )
    for row in ROWS
]
ODD_NAMES = ((b"\xff\xfe", b"no UTF-8"), (b"\x80" * 70, None), (b"\xff\xfe", b"again"))

STATES = {
    "plain": State(),
    "idempotent": State(False, 4711, 3, 2_147_483_640),
    "transactional": State(True, 1 << 40, 0, 0),
}


def builder_bytes(builder: type, rows: list[Row], codec: int, state: State) -> bytes:
    """A batch made by aiokafka's or kafka-python's builder."""
    made = builder(2, codec, state.transactional, *state[1:], 1 << 30)
    for row in rows:
        made.append(row.offset, row.timestamp, row.key, row.value,
                    [(name.decode(), value) for name, value in row.headers])  # fmt: skip
    return bytes(made.build())


def kio_bytes(rows: list[Row], codec: int, state: State) -> bytes:
    """A batch made by kio, compressed here since kio leaves that to others."""
    buffer = io.BytesIO()
    batch = kio.NewRecordBatch(
        producer_id=state.producer_id,
        producer_epoch=state.epoch,
        base_sequence=state.sequence,
        attributes=0x10 * state.transactional,
        records=tuple(
            kio.Record(
                attributes=0,
                timestamp=datetime.datetime.fromtimestamp(row.timestamp / 1000, datetime.UTC),
                offset=row.offset,
                key=row.key,
                value=row.value,
                headers=tuple(
                    kio.RecordHeader(key=name, value=value) for name, value in row.headers
                ),
            )
            for row in rows
        ),
    )
    write_new_batch(buffer, batch)
    return recoded(buffer.getvalue(), codec, ENCODERS[codec])


def recoded(batch: bytes, codec: int, encode: Callable[[bytes], bytes]) -> bytes:
    """The batch with its records en- or decoded, and what depends on that made anew."""
    attributes = int.from_bytes(batch[21:23], "big") & ~7 | codec
    checked = attributes.to_bytes(2, "big") + batch[23:61] + bytes(encode(batch[61:]))
    head = batch[:8] + struct.pack(">i", len(checked) + 9) + batch[12:17]
    return head + struct.pack(">I", crc32c(checked)) + checked


ENCODERS: list[Callable[[bytes], bytes]] = [
    bytes,
    aiokafka.codec.gzip_encode,
    aiokafka.codec.snappy_encode,
    aiokafka.codec.lz4_encode,
    aiokafka.codec.zstd_encode,
]
DECODERS: list[Callable[[bytes], bytes]] = [
    bytes,
    aiokafka.codec.gzip_decode,
    aiokafka.codec.snappy_decode,
    aiokafka.codec.lz4_decode,
    aiokafka.codec.zstd_decode,
]


def batch_rows(reader: type, batch: bytes) -> list[Row]:
    """What aiokafka's or kafka-python's reader finds in a batch."""
    read = reader(batch)
    assert read.validate_crc()
    return [
        Row(each.offset, each.timestamp, each.key, each.value,
            tuple((name.encode(), value) for name, value in each.headers))
        for each in read
    ]  # fmt: skip


def kio_rows(batch: bytes) -> list[Row]:
    """What kio finds in a batch; its timestamps have no milliseconds, so they are 0 here."""
    plain = recoded(batch, NONE, DECODERS[batch[22] & 7])
    read, size = read_batch(plain, 0)
    assert size == len(plain)
    assert crc32c(batch[21:]) == int.from_bytes(batch[17:21], "big")
    return [
        Row(each.offset, 0, each.key, each.value,
            tuple((header.key, header.value) for header in each.headers))
        for each in read.records
    ]  # fmt: skip


WRITERS = {
    "aiokafka": lambda *args: builder_bytes(aiokafka_records.DefaultRecordBatchBuilder, *args),
    "aiokafka, pure": lambda *args: builder_bytes(
        aiokafka_records._DefaultRecordBatchBuilderPy, *args
    ),
    "kafka-python": lambda *args: builder_bytes(kafka_python.DefaultRecordBatchBuilder, *args),
    "kio": kio_bytes,
}
READERS = {
    "aiokafka": lambda batch: batch_rows(aiokafka_records.DefaultRecordBatch, batch),
    "aiokafka, pure": lambda batch: batch_rows(aiokafka_records._DefaultRecordBatchPy, batch),
    "kafka-python": lambda batch: batch_rows(kafka_python.DefaultRecordBatch, batch),
}


@pytest.fixture(autouse=True)
def codecs_of_kafka_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """kafka-python wants packages of its own for codecs; those of aiokafka do as well."""
    for name in ("snappy", "lz4", "zstd"):
        monkeypatch.setattr(kafka.codec, f"has_{name}", lambda: True)
        for what in (f"{name}_encode", f"{name}_decode"):
            monkeypatch.setattr(kafka_python, what, getattr(aiokafka.codec, what))


def head_of(batch: bytes) -> BatchHead:
    head = read_head(batch, 0, len(batch))
    assert head is not None
    return head


def with_headers(batch: bytes, addition: Addition = ADDITION) -> bytes:
    """What a filter does with a batch."""
    head = head_of(batch)
    injected = inject(payload(batch, head, LIMIT), head.count, [addition], CARRIED)
    kind = framing(head.codec, batch, head.records_at)
    return b"".join(rebuilt(batch, head, injected.payload, kind))


def given_headers(row: Row) -> Row:
    return row._replace(headers=(*row.headers, TRACEPARENT, BAGGAGE))


@pytest.mark.parametrize("state", STATES.values(), ids=STATES)
@pytest.mark.parametrize("codec", range(5), ids=["none", "gzip", "snappy", "lz4", "zstd"])
@pytest.mark.parametrize("writer", WRITERS)
def test_all_read_back_what_was_written_and_the_headers(
    writer: str, codec: int, state: State
) -> None:
    batch = WRITERS[writer](ROWS, codec, state)
    changed = with_headers(batch)
    wanted = [given_headers(row) for row in ROWS]
    for reader, rows_of in READERS.items():
        assert rows_of(changed) == wanted, reader
    assert kio_rows(changed) == [row._replace(timestamp=0) for row in wanted]
    # Base offset, leader epoch, magic; attributes to count. Length and checksum differ.
    assert changed[:8] == batch[:8]
    assert changed[12:17] == batch[12:17]
    assert changed[21:61] == batch[21:61]
    assert batch[22] & 7 == codec


@pytest.mark.parametrize("codec", range(5))
def test_names_that_are_no_utf8_and_names_that_come_twice(codec: int) -> None:
    rows = [row._replace(headers=row.headers + ODD_NAMES) for row in ROWS]
    changed = with_headers(kio_bytes(rows, codec, State()))
    assert kio_rows(changed) == [given_headers(row)._replace(timestamp=0) for row in rows]


@pytest.mark.parametrize("frame", [RAW, XERIAL])
def test_snappy_keeps_the_framing_of_the_producer(frame: int) -> None:
    rows = [row._replace(value=bytes(40_000)) for row in ROWS]

    def encode(data: bytes) -> bytes:
        packed: bytes = aiokafka.codec.snappy_encode(data, xerial_compatible=frame == XERIAL)
        return packed

    batch = recoded(kio_bytes(rows, NONE, State()), SNAPPY, encode)
    changed = with_headers(batch)
    assert framing(SNAPPY, changed, 61) == frame
    assert READERS["aiokafka"](changed) == [given_headers(row) for row in rows]


JAVA = {
    "none": (
        "000000000000000000000090ffffffff02741832d80010000000020000018bcfe568000000018bcfe56802"
        "0000000000001267000300000011000000033e000000046b302e76616c75652076616c75652076616c7565"
        "2076616c7565004e000202012e76616c75652076616c75652076616c75652076616c756504046964046e31"
        "046964012c000404046b320102167472616365706172656e740278"
    ),
    "gzip": (
        "00000000000000000000007dffffffff0258ffdf490011000000020000018bcfe568000000018bcfe56802"
        "0000000000001267000300000011000000031f8b08000000000000ffb363606060c936d02b4bcc294d55c0"
        "2019fc1898981871c9b2b064a6b0e4190249461d061616966c234626b192a2c4e4d482c4a2d4bc12a60a00"
        "6a9bd6a85f000000"
    ),
    "snappy": (
        "000000000000000000000085ffffffff024c1dccf90012000000020000018bcfe568000000018bcfe56802"
        "00000000000012670003000000110000000382534e41505059000000000100000001000000405f343e0000"
        "00046b302e76616c75652042060014004e000202015e1e008404046964046e31046964012c000404046b32"
        "0102167472616365706172656e740278"
    ),
    "lz4": (
        "00000000000000000000007fffffffff02cbe9f7860013000000020000018bcfe568000000018bcfe56802"
        "00000000000012670003000000110000000304224d186040823f000000ed3e000000046b302e76616c7565"
        "2006006f004e000202011e0005f01304046964046e31046964012c000404046b3201021674726163657061"
        "72656e74027800000000"
    ),
    "zstd": (
        "00000000000000000000007dffffffff028610f8210014000000020000018bcfe568000000018bcfe56802"
        "00000000000012670003000000110000000328b52ffd005804020064033e000000046b302e76616c756520"
        "004e0002020104046964046e31046964012c000404046b320102167472616365706172656e740278020041"
        "8145e6a204010000"
    ),
}
"""Made by `MemoryRecords` of Java's kafka-clients 4.0.0: a transactional batch of `JAVA_ROWS`."""

JAVA_ROWS = [
    Row(0, BASE, b"k0", b"value value value value", ()),
    Row(1, BASE + 1, None, b"value value value value", ((b"id", b"n1"), (b"id", None))),
    Row(2, BASE + 2, b"k2", None, ((b"traceparent", b"x"),)),
]


@pytest.mark.parametrize("codec", range(5), ids=list(JAVA))
def test_batches_of_the_java_client(codec: int) -> None:
    batch = bytes.fromhex(list(JAVA.values())[codec])
    head = head_of(batch)
    assert (head.codec, head.transactional, head.count) == (codec, True, 3)
    assert (head.producer_id, head.producer_epoch, head.base_sequence) == (4711, 3, 17)
    changed = with_headers(batch)
    assert READERS["aiokafka"](changed) == [*map(given_headers, JAVA_ROWS[:2]), JAVA_ROWS[2]]
    assert framing(codec, changed, 61) == framing(codec, batch, 61)


@pytest.mark.parametrize("writer", WRITERS)
def test_fields_of_the_head(writer: str) -> None:
    batch = WRITERS[writer](ROWS, LZ4, State(True, 4711, 3, 17))
    data = b"before" + batch + b"behind"
    head = read_head(data, 6, len(data))
    assert head is not None
    assert (head.at, head.end, head.records_at) == (6, 6 + len(batch), 67)
    assert (head.magic, head.codec, head.transactional, head.control) == (2, LZ4, True, False)
    assert (head.base_offset, head.last_offset_delta, head.count) == (0, 5, 6)
    assert (head.base_timestamp, head.max_timestamp) == (BASE, BASE + 100_000_000)
    assert (head.producer_id, head.producer_epoch, head.base_sequence) == (4711, 3, 17)
    assert head.crc == crc32c(batch[21:])
    assert head.attributes == LZ4 | 0x10
    assert len(records(payload(data, head, LIMIT), head.count)) == 6


def test_a_control_batch_says_so() -> None:
    batch = bytearray(WRITERS["aiokafka"](ROWS, NONE, State()))
    batch[22] |= 0x20
    assert head_of(bytes(batch)).control


@pytest.mark.parametrize("magic", [0, 1])
def test_old_formats_are_known_by_their_magic_alone(magic: int) -> None:
    batch = legacy_batch(magic)
    head = read_head(batch, 0, len(batch))
    assert head is not None
    assert (head.at, head.end, head.magic, head.count) == (0, len(batch), magic, 0)


def legacy_batch(magic: int) -> bytes:
    builder = LegacyRecordBatchBuilder(magic, 0, 1000)
    builder.append(0, BASE, b"", b"")
    return bytes(builder.build())


def test_a_batch_that_is_not_whole_is_none() -> None:
    batch = WRITERS["aiokafka"](ROWS, NONE, State())
    for end in range(len(batch)):
        assert read_head(batch, 0, end) is None
        assert read_head(batch[:end], 0, len(batch)) is None


@pytest.mark.parametrize(
    ("at", "field"),
    [
        (8, struct.pack(">i", -1)),
        (8, struct.pack(">i", 4)),
        (8, struct.pack(">i", 48)),
        (16, b"\x03"),
        (16, b"\xff"),
        (21, b"\x00\x05"),
        (57, struct.pack(">i", -1)),
    ],
)
def test_heads_that_cannot_be(at: int, field: bytes) -> None:
    batch = bytearray(WRITERS["aiokafka"](ROWS, NONE, State()))
    batch[at : at + len(field)] = field
    with pytest.raises(Malformed):
        read_head(bytes(batch), 0, len(batch))


@pytest.mark.parametrize("writer", WRITERS)
def test_records_say_where_their_parts_are(writer: str) -> None:
    batch = WRITERS[writer](ROWS, NONE, State())
    plain = payload(batch, head_of(batch), LIMIT)
    found = records(plain, len(ROWS))
    assert found[0].at == 0
    assert [each.end for each in found[:-1]] == [each.at for each in found[1:]]
    assert found[-1].end == len(plain)
    in_place = records(batch + batch, len(ROWS), RECORDS_AT, len(batch))
    assert [each.headers_at - RECORDS_AT for each in in_place] == [
        each.headers_at for each in found
    ]
    for each, row in zip(found, ROWS, strict=True):
        assert (each.offset_delta, each.timestamp_delta) == (row.offset, row.timestamp - BASE)
        key = None if each.key_end < 0 else plain[each.key_at : each.key_end]
        value = None if each.value_end < 0 else plain[each.value_at : each.value_end]
        assert (key, value) == (row.key, row.value)
        assert headers(plain, each) == [(name, value or b"") for name, value in row.headers]


def record(body: bytes, length: int | None = None) -> bytes:
    """A record of this body; ``length`` in one byte."""
    return bytes(((len(body) if length is None else length) * 2,)) + body


LEAST = bytes((0, 0, 0, 1, 1, 0))
"""Attributes, deltas, key and value null, no headers."""


def test_the_least_record() -> None:
    assert len(records(record(LEAST) * 3, 3)) == 3
    assert records(b"", 0) == []


@pytest.mark.parametrize(
    ("plain", "count"),
    {
        "more records than said": (record(LEAST) * 2, 1),
        "fewer records than said": (record(LEAST), 2),
        "far fewer": (record(LEAST), 2_000_000_000),
        "a negative count": (b"", -1),
        "none, but bytes": (b"\0", 0),
        "a length beyond the payload": (record(LEAST, 7), 1),
        "a length too short": (record(LEAST, 5), 1),
        "a negative length": (b"\x0b" + LEAST, 1),
        "a key beyond the record": (record(bytes((0, 0, 0, 20, 1, 0))), 1),
        "a key of a negative length": (record(bytes((0, 0, 0, 3, 1, 0))), 1),
        "a value beyond the record": (record(bytes((0, 0, 0, 1, 20, 0))), 1),
        "a value of a negative length": (record(bytes((0, 0, 0, 1, 3, 0))), 1),
        "a value that reaches into the next": (
            record(bytes((0, 0, 0, 1, 14, 0))) + record(LEAST),
            2,
        ),
        "more headers than there": (record(bytes((0, 0, 0, 1, 1, 2))), 1),
        "far more": (record(bytes((0, 0, 0, 1, 1, 254, 255, 255, 255, 15))), 1),
        "fewer headers than there": (record(bytes((0, 0, 0, 1, 1, 2, 0, 1, 0, 1))), 1),
        "headers of the next record": (record(bytes((0, 0, 0, 1, 1, 4, 0, 1))) + record(LEAST), 2),
        "a negative count of headers": (record(bytes((0, 0, 0, 1, 1, 1))), 1),
        "a header without a name": (record(bytes((0, 0, 0, 1, 1, 2, 1, 1))), 1),
        "a header value of a negative length": (record(bytes((0, 0, 0, 1, 1, 2, 0, 3))), 1),
        "a varint of six bytes": (b"\x8c\x80\x80\x80\x80\x00" + LEAST, 1),
        "a varint over 32 bits": (record(b"\0\0\xff\xff\xff\xff\x7f\1\1\0"), 1),
        "a varint of eleven bytes": (record(b"\0" + b"\x80" * 10 + b"\0\0\1\1\0"), 1),
        "a varint over 64 bits": (record(b"\0" + b"\xff" * 9 + b"\x02\0\1\1\0"), 1),
        "a varint that does not end": (record(b"\0\0\0\1\1\x80"), 1),
    }.values(),
)
def test_records_that_cannot_be(plain: bytes, count: int) -> None:
    for around in (b"", record(LEAST) * 3):
        with pytest.raises(Malformed):
            records(around + plain + around, count, len(around), len(around + plain))
    with pytest.raises(Malformed):
        inject(plain, count, [ADDITION], CARRIED)


def test_the_longest_varints() -> None:
    plain = record(b"\0" + b"\xff" * 9 + b"\x01" + b"\xff\xff\xff\xff\x0f" + b"\1\1\0")
    (found,) = records(plain, 1)
    assert (found.timestamp_delta, found.offset_delta) == (-(1 << 63), -(1 << 31))
    assert records(b"\x8c\x80\x80\x80\x00" + LEAST, 1)[0].end == 5 + len(LEAST)


names = st.one_of(st.binary(max_size=12), st.sampled_from([b"TraceParent", b"b3", b"Baggage"]))
rows = st.lists(
    st.builds(
        Row,
        offset=st.just(0),
        timestamp=st.integers(BASE - (1 << 36), BASE),
        key=st.one_of(st.none(), st.binary(max_size=200)),
        value=st.one_of(st.none(), st.binary(max_size=200)),
        headers=st.lists(st.tuples(names, st.none() | st.binary(max_size=100)), max_size=5).map(
            tuple
        ),
    ),
    min_size=2,
    max_size=20,
).map(lambda found: [row._replace(offset=index) for index, row in enumerate(found)])


@given(rows, st.sampled_from(range(5)))
def test_any_records(found: list[Row], codec: int) -> None:
    changed = with_headers(kio_bytes(found, codec, State()))
    assert kio_rows(changed) == [expected(row)._replace(timestamp=0) for row in found]


def expected(row: Row) -> Row:
    there = {name.lower() for name, _ in row.headers}
    if there & CARRIED:
        return row
    more = (TRACEPARENT,) if b"baggage" in there else (TRACEPARENT, BAGGAGE)
    return row._replace(headers=row.headers + more)


BATCHES = [WRITERS["aiokafka"](ROWS, codec, State()) for codec in range(5)]


@given(st.sampled_from(BATCHES), st.data())
def test_damaged_batches_work_or_are_malformed(whole: bytes, data: st.DataObject) -> None:
    damaged = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.one_of(st.integers(0, 80), st.integers(0, len(whole) - 1)))
        damaged[at] = data.draw(st.integers(0, 255))
    batch = bytes(damaged)
    try:
        head = read_head(batch, 0, len(batch))
        if head is None or head.magic < 2:
            return
        plain = payload(batch, head, LIMIT)
        before = records(plain, head.count)
        changed = inject(plain, head.count, [ADDITION], CARRIED)
    except Malformed:
        return
    after = records(changed.payload, head.count)
    assert changed.added + changed.kept == head.count
    for old, new in zip(before, after, strict=True):
        assert plain[old.body_at : old.count_at] == changed.payload[new.body_at : new.count_at]
        kept = headers(plain, old)
        assert headers(changed.payload, new)[: len(kept)] == kept
