"""The types that messages are made of."""

from __future__ import annotations

import io
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kio.serial import writers

from meshproxy.wire.kafka.primitives import LARGE, Malformed, Patch, Reader, length, string, uvarint

BOTH = pytest.mark.parametrize("flexible", [False, True])


def written(writer: object, value: object) -> bytes:
    with io.BytesIO() as data:
        writer(data, value)  # type: ignore[operator]
        return data.getvalue()


@given(st.integers(0, 2**32 - 1))
def test_unsigned_varints(value: int) -> None:
    data = written(writers.write_unsigned_varint, value)
    assert uvarint(value) == data
    reader = Reader(data + b"\xff")
    assert (reader.uvarint(), reader.at) == (value, len(data))


@pytest.mark.parametrize(
    "data", [b"", b"\x80", b"\xff\xff\xff\xff\x10", b"\x80\x80\x80\x80\x80\x00", b"\xff" * 20]
)
def test_what_is_no_varint(data: bytes) -> None:
    reader = Reader(data)
    with pytest.raises(Malformed):
        reader.uvarint()
    assert reader.at == 0


@given(st.text(max_size=200))
def test_strings(text: str) -> None:
    old = written(writers.write_nullable_legacy_string, text)
    compact = written(writers.write_nullable_compact_string, text)
    assert (string(text, False), string(text, True)) == (old, compact)
    assert (Reader(old).string(False), Reader(compact).string(True)) == (text, text)
    for flexible, data in ((False, old), (True, compact)):
        reader = Reader(data + b"rest")
        reader.skip_string(flexible)
        assert reader.at == len(data)


def test_null_strings() -> None:
    assert Reader(b"\xff\xff").string(False) is None
    assert Reader(b"\x00").string(True) is None
    with pytest.raises(Malformed):
        Reader(b"\x00").text(True)


@BOTH
def test_a_string_that_is_not_utf_8(flexible: bool) -> None:
    data = (b"\x03" if flexible else b"\x00\x02") + b"a\xff"
    assert Reader(data).text(flexible) == "a\ufffd"


@pytest.mark.parametrize("count", [-1, 0, 1, 126, 127, 128, 20_000])
def test_lengths(count: int) -> None:
    old = struct.pack(">i", count)
    compact = written(writers.write_compact_array_length, None if count < 0 else count)
    assert (length(count, False), length(count, True)) == (old, compact)
    room = bytes(max(count, 0))
    assert Reader(old + room).length(False) == count
    assert Reader(compact + room).length(True) == count


@BOTH
@pytest.mark.parametrize("count", [6, 2**31 - 1])
def test_a_length_is_believed_as_far_as_there_are_bytes(flexible: bool, count: int) -> None:
    with pytest.raises(Malformed):
        Reader(length(count, flexible) + bytes(5)).length(flexible)


def test_lengths_below_null() -> None:
    with pytest.raises(Malformed):
        Reader(struct.pack(">i", -2)).length(False)
    with pytest.raises(Malformed):
        Reader(struct.pack(">h", -2)).string(False)


@BOTH
def test_arrays_of_fixed_elements(flexible: bool) -> None:
    data = length(3, flexible) + bytes(12)
    reader = Reader(data)
    reader.skip_array(flexible, 4)
    assert reader.at == len(data)
    null = Reader(length(-1, flexible))
    null.skip_array(flexible, 4)
    assert null.at == null.end
    with pytest.raises(Malformed):
        Reader(data[:-1]).skip_array(flexible, 4)


def test_nothing_is_read_beyond_the_end() -> None:
    reader = Reader(bytes(100), 10, 12)
    assert reader.int16() == 0
    for read in (reader.int16, reader.int32, reader.uvarint, reader.uuid, reader.skip_tags):
        with pytest.raises(Malformed):
            read()
    assert reader.at == 12
    assert Reader(b"ab", 0, 10).end == 2


def test_tagged_fields() -> None:
    data = b"\x03\x00\x01a\x05\x00\xac\x02\x02bc"
    everything = Reader(data)
    everything.skip_tags()
    assert everything.at == len(data)
    for tag, at in ((0, 2), (5, 5), (300, 8), (1, -1)):
        reader = Reader(data)
        assert reader.find_tag(tag) == at
        assert reader.at == len(data)


def test_a_tag_that_is_there_twice() -> None:
    with pytest.raises(Malformed):
        Reader(b"\x02\x00\x01a\x00\x01b").find_tag(0)


def test_replaced_in_any_order() -> None:
    frame = b"\x00\x00\x00\x06abcdef"
    patch = Patch(frame)
    assert patch.frame() is frame
    patch.replace(8, 10, b"")
    patch.replace(4, 5, b"AAA")
    assert patch.growth == 0
    assert patch.frame() == b"\x00\x00\x00\x06AAAbcd"
    patch.replace(6, 7, b"CC")
    assert patch.growth == 1
    assert patch.frame() == b"\x00\x00\x00\x07AAAbCCd"


def test_large_pieces_are_not_copied() -> None:
    patch = Patch(b"\x00\x00\x00\x06abcdef")
    large = bytes(LARGE)
    patch.replace(5, 6, b"B", large)
    patch.replace(9, 10, b"F", large)
    pieces = patch.pieces()
    assert b"".join(pieces) == patch.frame()
    assert sum(piece is large for piece in pieces) == 2
    assert all(pieces)
