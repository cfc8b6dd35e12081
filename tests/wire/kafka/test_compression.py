"""What is compressed here others read, and the other way round; nothing swells past a limit."""

from __future__ import annotations

import gzip
import random
import subprocess
import sys
import zlib

import pytest
from aiokafka import codec as aiokafka
from cramjam import lz4, snappy, zstd
from hypothesis import given
from hypothesis import strategies as st

from meshproxy.wire.kafka.compression import (
    GZIP,
    LZ4,
    NONE,
    RAW,
    SNAPPY,
    XERIAL,
    ZSTD,
    compress,
    decompress,
    framing,
)
from meshproxy.wire.kafka.primitives import Malformed

FORMS = [(NONE, RAW), (GZIP, RAW), (SNAPPY, RAW), (SNAPPY, XERIAL), (LZ4, RAW), (ZSTD, RAW)]
COMPRESSED = FORMS[1:]

ENCODERS = {
    (GZIP, RAW): aiokafka.gzip_encode,
    (SNAPPY, RAW): lambda data: aiokafka.snappy_encode(data, xerial_compatible=False),
    (SNAPPY, XERIAL): aiokafka.snappy_encode,
    (LZ4, RAW): aiokafka.lz4_encode,
    (ZSTD, RAW): aiokafka.zstd_encode,
}
DECODERS = {
    GZIP: aiokafka.gzip_decode,
    SNAPPY: aiokafka.snappy_decode,
    LZ4: aiokafka.lz4_decode,
    ZSTD: aiokafka.zstd_decode,
}

NOISE = random.Random(7).randbytes(70_000)
TEXT = b"".join(b'{"order": %d, "state": "shipped"}' % number for number in range(8_000))
CONTENTS = {
    "empty": b"",
    "one byte": b"a",
    "text": TEXT[:5000],
    "several blocks": TEXT,
    "does not compress": NOISE,
    "mixed": TEXT[:100_000] + NOISE + bytes(100_000),
}

ENOUGH = 1 << 24


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
@pytest.mark.parametrize("form", FORMS, ids=str)
def test_what_was_compressed_comes_back(form: tuple[int, int], content: bytes) -> None:
    codec, frame = form
    packed = compress(codec, content, frame)
    assert decompress(codec, packed, ENOUGH) == content
    assert framing(codec, packed) == frame


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
@pytest.mark.parametrize("form", COMPRESSED, ids=str)
def test_others_read_what_is_compressed_here(form: tuple[int, int], content: bytes) -> None:
    codec, frame = form
    # A batch without records has nothing to compress; aiokafka's xerial reader needs a block.
    content = content or b"."
    assert bytes(DECODERS[codec](compress(codec, content, frame))) == content


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
@pytest.mark.parametrize("form", COMPRESSED, ids=str)
def test_what_others_compress_is_read_here(form: tuple[int, int], content: bytes) -> None:
    packed = bytes(ENCODERS[form](content))
    assert decompress(form[0], packed, ENOUGH) == content
    assert framing(form[0], packed) == form[1]


def test_framing_is_looked_for_where_the_data_begins() -> None:
    batch = bytes(61) + compress(SNAPPY, TEXT, XERIAL)
    assert framing(SNAPPY, batch, 61) == XERIAL
    assert framing(SNAPPY, batch) == RAW
    assert framing(LZ4, batch, 61) == RAW


def test_xerial_has_blocks_of_32_kib_as_the_java_client_writes_them() -> None:
    packed = compress(SNAPPY, TEXT, XERIAL)
    assert packed[:16] == b"\x82SNAPPY\0\0\0\0\1\0\0\0\1"
    sizes = []
    at = 16
    while at < len(packed):
        end = at + 4 + int.from_bytes(packed[at : at + 4], "big")
        sizes.append(snappy.decompress_raw_len(packed[at + 4 : end]))
        at = end
    assert sizes == [32768] * (len(TEXT) // 32768) + [len(TEXT) % 32768]


def test_lz4_blocks_are_independent_as_the_java_client_asks() -> None:
    content = CONTENTS["mixed"]
    packed = compress(LZ4, content, RAW)
    assert packed[:7].hex() == "04224d18604082"
    found = b""
    room = bytearray(65536)
    at = 7
    while size := int.from_bytes(packed[at : at + 4], "little"):
        stored, size = size >> 31, size & 0x7FFFFFFF
        block = packed[at + 4 : at + 4 + size]
        # Each block by itself: one that refers to another would not decompress.
        found += block if stored else room[: lz4.decompress_block_into(block, room)]
        at += 4 + size
    assert packed[at:] == bytes(4)
    assert found == content


@pytest.mark.parametrize(
    ("checksum", "linked"), [(False, False), (True, False), (False, True), (True, True)]
)
def test_lz4_frames_of_other_shapes(checksum: bool, linked: bool) -> None:
    stream = lz4.Compressor(level=1, content_checksum=checksum, block_linked=linked)
    stream.compress(TEXT)
    assert decompress(LZ4, bytes(stream.finish()), ENOUGH) == TEXT


GOLDEN = {
    "lz4 --content-size -BI -BX": (
        LZ4,
        "04224d187c4064000000000000005e0b0000001f7801004b507878787878e8bb17a4000000003a0dd34b",
    ),
    "zstd, from a pipe": (ZSTD, "28b52ffd045845000010787801003f012c94c0a388"),
    "zstd, from a file": (ZSTD, "28b52ffd246445000010787801003f012c94c0a388"),
}
"""What the reference implementations' own commands make of a hundred times the letter x."""


@pytest.mark.parametrize(("codec", "packed"), GOLDEN.values(), ids=GOLDEN)
def test_frames_of_the_reference_implementations(codec: int, packed: str) -> None:
    assert decompress(codec, bytes.fromhex(packed), 100) == b"x" * 100


def test_zstd_frame_that_does_not_say_how_large_its_content_is() -> None:
    # A raw and an RLE block by hand (RFC 8878): window descriptor, no content size, no checksum.
    frame = bytes.fromhex("28b52ffd 00 58") + bytes((3 << 3, 0, 0)) + b"abc"
    frame += (70_000 << 3 | 1 << 1 | 1).to_bytes(3, "little") + b"x"
    assert decompress(ZSTD, frame, ENOUGH) == b"abc" + b"x" * 70_000


@pytest.mark.parametrize("form", COMPRESSED, ids=str)
def test_limit(form: tuple[int, int]) -> None:
    packed = bytes(ENCODERS[form](TEXT))
    assert decompress(form[0], packed, len(TEXT)) == TEXT
    with pytest.raises(Malformed):
        decompress(form[0], packed, len(TEXT) - 1)
    with pytest.raises(Malformed):
        decompress(form[0], packed, 0)


@pytest.mark.parametrize("form", COMPRESSED, ids=str)
def test_a_bomb_is_refused(form: tuple[int, int]) -> None:
    bomb = bytes(ENCODERS[form](bytes(30_000_000)))
    assert len(bomb) < 2_000_000
    with pytest.raises(Malformed):
        decompress(form[0], bomb, 1_000_000)


@pytest.mark.parametrize(
    ("codec", "packed"),
    [
        (SNAPPY, bytes.fromhex("ffffffff0f") + b"\x00a"),
        (SNAPPY, bytes.fromhex("82534e4150505900000000010000000100000006ffffffff0f00")),
        (ZSTD, bytes.fromhex("28b52ffd e0 ffffffffffffff7f 010000")),
        (ZSTD, bytes.fromhex("28b52ffd 00 58 fbffff 78")),
        (LZ4, bytes.fromhex("04224d18 6870 ffffffffffffff7f 00 ffffff7f")),
    ],
)
def test_a_size_that_lies_is_not_believed(codec: int, packed: bytes) -> None:
    """Nor is room made for it: 4 GiB would show in the test's time, and 8 EiB as a MemoryError."""
    with pytest.raises(Malformed):
        decompress(codec, packed, 100_000)
    with pytest.raises(Malformed):
        decompress(codec, packed, 1 << 62)


@pytest.mark.parametrize("form", COMPRESSED, ids=str)
def test_cut_off_or_followed_by_something(form: tuple[int, int]) -> None:
    packed = bytes(ENCODERS[form](TEXT[:2000]))
    for cut in (*range(16), len(packed) // 2, len(packed) - 5, len(packed) - 1):
        with pytest.raises(Malformed):
            decompress(form[0], packed[:cut], ENOUGH)
    with pytest.raises(Malformed):
        decompress(form[0], packed + b"more than that", ENOUGH)


@pytest.mark.parametrize("codec", [5, 6, 7, -1])
def test_a_codec_that_does_not_exist(codec: int) -> None:
    with pytest.raises(Malformed):
        decompress(codec, b"", ENOUGH)
    with pytest.raises(Malformed):
        compress(codec, b"", RAW)


def test_other_levels_are_read() -> None:
    for level in (1, 6, 9):
        assert decompress(GZIP, gzip.compress(TEXT, level), ENOUGH) == TEXT
        assert decompress(ZSTD, bytes(zstd.compress(TEXT, level=level)), ENOUGH) == TEXT
        assert decompress(LZ4, bytes(aiokafka.lz4_encode(TEXT, level=level)), ENOUGH) == TEXT
    assert gzip.decompress(compress(GZIP, TEXT, RAW)) == TEXT
    assert zlib.decompress(compress(GZIP, TEXT, RAW), 31) == TEXT


@given(st.sampled_from(FORMS), st.binary(max_size=2000), st.integers(1, 200))
def test_round_trip(form: tuple[int, int], content: bytes, times: int) -> None:
    content *= times
    packed = compress(form[0], content, form[1])
    assert decompress(form[0], packed, len(content)) == content


PACKED = [(form[0], bytes(ENCODERS[form](TEXT[:3000]))) for form in COMPRESSED] + [
    (form[0], compress(form[0], CONTENTS["mixed"], form[1])) for form in COMPRESSED
]


@given(st.sampled_from(PACKED), st.data())
def test_damaged_data_is_malformed_and_nothing_else(
    packed: tuple[int, bytes], data: st.DataObject
) -> None:
    codec, whole = packed
    damaged = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.one_of(st.integers(0, 40), st.integers(0, len(whole) - 1)))
        damaged[min(at, len(damaged) - 1)] = data.draw(st.integers(0, 255))
    cut = data.draw(st.one_of(st.just(len(damaged)), st.integers(0, len(damaged))))
    try:
        plain = decompress(codec, bytes(damaged[:cut]), 1_000_000)
    except Malformed:
        return
    assert len(plain) <= 1_000_000


@given(st.sampled_from([GZIP, SNAPPY, LZ4, ZSTD]), st.binary(max_size=100))
def test_noise_is_malformed_and_nothing_else(codec: int, noise: bytes) -> None:
    for beginning in (b"", b"\x28\xb5\x2f\xfd", b"\x04\x22\x4d\x18\x60\x40\x82", b"\x1f\x8b\x08"):
        try:
            decompress(codec, beginning + noise, 10_000)
        except Malformed:
            continue


def test_nothing_is_loaded_before_it_is_needed() -> None:
    program = (
        "import sys, meshproxy.wire.kafka.batches, meshproxy.wire.kafka.splice\n"
        "print(sorted({'isal', 'cramjam', 'google_crc32c'} & set(sys.modules)))"
    )
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=True, text=True
    )
    assert found.stdout.strip() == "[]"
