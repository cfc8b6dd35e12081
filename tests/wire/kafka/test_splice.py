"""Headers go behind those that a record has, and everything else of it stays as it is."""

from __future__ import annotations

import pytest
from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder

from meshproxy.wire.kafka.batches import headers, payload, read_head, records
from meshproxy.wire.kafka.splice import Addition, inject

TRACEPARENT = (b"traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
STATE = (b"tracestate", b"a=b")
BAGGAGE = (b"baggage", b"user=7")
ALL = Addition([TRACEPARENT, STATE, BAGGAGE])
CARRIED = frozenset({b"traceparent", b"b3", b"x-b3-traceid"})

Pairs = list[tuple[bytes, bytes]]


def plain(*of_records: Pairs, value: bytes = b"value") -> bytes:
    """The payload of a batch with one record for each list of headers."""
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 1 << 24)
    for index, pairs in enumerate(of_records):
        named = [(name.decode(), content) for name, content in pairs]
        assert builder.append(index, 1000 + index, b"key", value, named)
    batch = bytes(builder.build())
    head = read_head(batch, 0, len(batch))
    assert head is not None
    return payload(batch, head, 1 << 24)


def headers_of(data: bytes, count: int) -> list[Pairs]:
    return [headers(data, record) for record in records(data, count)]


def test_headers_are_added_behind_those_there() -> None:
    there = [(b"id", b"1"), (b"zz", b"2")]
    result = inject(plain([], there), 2, [ALL], CARRIED)
    assert headers_of(result.payload, 2) == [
        [TRACEPARENT, STATE, BAGGAGE],
        [*there, TRACEPARENT, STATE, BAGGAGE],
    ]
    assert (result.added, result.kept) == (2, 0)


@pytest.mark.parametrize("name", [b"traceparent", b"TraceParent", b"b3", b"X-B3-TraceId"])
def test_a_record_that_carries_a_context_keeps_it(name: bytes) -> None:
    carrying: Pairs = [(b"id", b"1"), (name, b"")]
    data = plain(carrying, [])
    result = inject(data, 2, [ALL], CARRIED)
    assert headers_of(result.payload, 2) == [carrying, [TRACEPARENT, STATE, BAGGAGE]]
    assert (result.added, result.kept) == (1, 1)
    end = records(data, 2)[0].end
    assert result.payload[:end] == data[:end]


def test_a_header_that_is_there_is_not_given_again() -> None:
    there = [(b"Baggage", b"theirs")]
    result = inject(plain(there), 1, [ALL], CARRIED)
    assert headers_of(result.payload, 1) == [[*there, TRACEPARENT, STATE]]


@pytest.mark.parametrize(
    ("there", "addition"),
    [
        ([(b"baggage", b"theirs")], Addition([BAGGAGE])),
        ([], Addition([])),
        ([(b"id", b"1")], Addition([])),
        ([(b"b3", b"0")], ALL),
    ],
)
def test_when_nothing_is_added_the_payload_is_the_same(there: Pairs, addition: Addition) -> None:
    data = plain(there, there)
    result = inject(data, 2, [addition], CARRIED)
    assert result.payload is data
    assert (result.added, result.kept) == (0, 2)


def test_one_addition_for_each_record() -> None:
    additions = [Addition([(b"n", b"%d" % index)]) for index in range(3)] + [Addition([])]
    result = inject(plain([], [(b"a", b"")], [], []), 4, additions, CARRIED)
    assert headers_of(result.payload, 4) == [
        [(b"n", b"0")],
        [(b"a", b""), (b"n", b"1")],
        [(b"n", b"2")],
        [],
    ]
    assert (result.added, result.kept) == (3, 1)


@pytest.mark.parametrize("number", [0, 2, 4])
def test_neither_one_addition_nor_one_each(number: int) -> None:
    with pytest.raises(ValueError, match="3 records"):
        inject(plain([], [], []), 3, [ALL] * number, CARRIED)


def test_no_records() -> None:
    assert inject(b"", 0, [ALL], CARRIED).payload == b""
    assert inject(b"", 0, [], CARRIED).payload == b""


@pytest.mark.parametrize("there", [0, 1, 59, 60, 61, 62, 63, 64, 8190, 8191])
def test_the_count_of_headers_may_need_another_byte(there: int) -> None:
    pairs = [(b"h", b"")] * there
    result = inject(plain(pairs), 1, [ALL], CARRIED)
    assert headers_of(result.payload, 1) == [[*pairs, TRACEPARENT, STATE, BAGGAGE]]


@pytest.mark.parametrize("around", [64, 8192, 1 << 20])
@pytest.mark.parametrize("pairs", [[], [(b"h", b"")]])
def test_the_length_of_the_record_may_need_another_byte(around: int, pairs: Pairs) -> None:
    addition = Addition([(b"n", b"v")])
    for size in range(around - 24, around + 2):
        value = bytes(size)
        result = inject(plain(pairs, value=value), 1, [addition], CARRIED)
        (record,) = records(result.payload, 1)
        assert headers(result.payload, record) == [*pairs, (b"n", b"v")]
        assert result.payload[record.value_at : record.value_end] == value


def test_names_too_long_to_be_told_apart_by_their_length() -> None:
    long, longer = b"n" * 60, b"N" * 200
    addition = Addition([(long, b"1"), (longer, b"2")])
    others: Pairs = [(b"x" * 70, b""), (longer.lower(), b"theirs")]
    result = inject(plain(others), 1, [addition], CARRIED)
    assert headers_of(result.payload, 1) == [[*others, (long, b"1")]]
    assert inject(plain(others), 1, [addition], frozenset({b"x" * 70})).kept == 1


def test_values_of_any_size() -> None:
    pairs: Pairs = [(b"", b""), (b"a" * 63, b"b" * 64), (b"c" * 8192, b"d" * 100_000)]
    assert headers_of(inject(plain([]), 1, [Addition(pairs)], CARRIED).payload, 1) == [pairs]


def test_injecting_twice_changes_nothing_the_second_time() -> None:
    once = inject(plain([], [(b"id", b"1")]), 2, [ALL], CARRIED).payload
    assert inject(once, 2, [ALL], CARRIED).payload is once


def test_a_whole_payload_read_by_another_implementation() -> None:
    data = inject(plain(*[[(b"id", b"%d" % n)] for n in range(1000)]), 1000, [ALL], CARRIED).payload
    head = bytearray(61)
    head[8:12] = (len(data) + 49).to_bytes(4, "big")
    head[16] = 2
    head[57:61] = (1000).to_bytes(4, "big")
    found = list(DefaultRecordBatch(bytes(head) + data))
    assert [each.headers[0] for each in found] == [("id", b"%d" % n) for n in range(1000)]
    assert all([name for name, _ in each.headers[1:]] ==
               ["traceparent", "tracestate", "baggage"] for each in found)  # fmt: skip
