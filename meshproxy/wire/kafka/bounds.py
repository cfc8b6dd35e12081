"""How large the content of a compressed frame can be at most, read from the heads of its blocks.

LZ4 and zstd frames seldom say how large their content is. Their blocks have a greatest size, so
that walking the few bytes between them gives a bound: enough to make room for the content at once,
and never more than about one block too much.

Only what Kafka's own readers take is understood: one frame, without dictionary, nothing after it.
Both functions raise `Malformed` for anything else.
"""

from __future__ import annotations

from struct import Struct
from struct import error as StructError  # noqa: N812 (the standard library's name is too general)
from typing import Final

from meshproxy.wire.kafka.primitives import Malformed

UINT32: Final = Struct("<I")

LZ4_MAGIC: Final = 0x184D2204
LZ4_VERSION: Final = 1
LZ4_BLOCK_CHECKSUM: Final = 0x10
LZ4_CONTENT_SIZE: Final = 0x08
LZ4_CONTENT_CHECKSUM: Final = 0x04
LZ4_DICTIONARY: Final = 0x01
LZ4_STORED: Final = 0x80000000
LZ4_GREATEST_RATIO: Final = 255
"""A length grows by at most 255 with each byte (LZ4 block format, "literals length")."""

ZSTD_MAGIC: Final = 0xFD2FB528
ZSTD_SINGLE_SEGMENT: Final = 0x20
ZSTD_CHECKSUM: Final = 0x04
ZSTD_DICTIONARY: Final = 0x03
ZSTD_BLOCK: Final = 128 * 1024
"""Block_Maximum_Size, RFC 8878 section 3.1.1.2."""
ZSTD_RLE: Final = 1
ZSTD_COMPRESSED: Final = 2


def lz4_bound(data: bytes) -> int:
    """Bytes that the LZ4 frame ``data`` holds at most (LZ4 frame format 1.6)."""
    try:
        return _lz4_bound(data)
    except (IndexError, StructError) as error:
        raise Malformed("LZ4: the frame is cut off") from error


def zstd_bound(data: bytes) -> int:
    """Bytes that the zstd frame ``data`` holds at most (RFC 8878 section 3.1.1)."""
    try:
        return _zstd_bound(data)
    except (IndexError, StructError) as error:
        raise Malformed("zstd: the frame is cut off") from error


def _lz4_bound(data: bytes) -> int:
    if _uint32(data, 0) != LZ4_MAGIC:
        raise Malformed("LZ4: no frame begins here")
    flags = data[4]
    block = (data[5] >> 4) & 7
    if flags >> 6 != LZ4_VERSION or flags & LZ4_DICTIONARY or block < 4:
        raise Malformed(f"LZ4: a frame with the descriptor {data[4:6].hex()}")
    greatest = 1 << (8 + 2 * block)
    checksum = 4 if flags & LZ4_BLOCK_CHECKSUM else 0
    at = 15 if flags & LZ4_CONTENT_SIZE else 7
    bound = 0
    while True:
        size = _uint32(data, at)
        at += 4
        if size == 0:
            break
        if size & LZ4_STORED:
            size ^= LZ4_STORED
            bound += size
        else:
            bound += min(greatest, size * LZ4_GREATEST_RATIO)
        at += size + checksum
    return _whole("LZ4", data, at + (4 if flags & LZ4_CONTENT_CHECKSUM else 0), bound)


def _zstd_bound(data: bytes) -> int:
    if _uint32(data, 0) != ZSTD_MAGIC:
        raise Malformed("zstd: no frame begins here")
    flags = data[4]
    if flags & ZSTD_DICTIONARY:
        raise Malformed("zstd: a frame that needs a dictionary")
    at = 5 if flags & ZSTD_SINGLE_SEGMENT else 6
    field = flags >> 6
    size_bytes = 1 << field if field or flags & ZSTD_SINGLE_SEGMENT else 0
    content = int.from_bytes(data[at : at + size_bytes], "little") + (256 if field == 1 else 0)
    at += size_bytes
    bound = 0
    last = False
    while not last:
        head = data[at] | data[at + 1] << 8 | data[at + 2] << 16
        at += 3
        last = head & 1 == 1
        kind = (head >> 1) & 3
        size = head >> 3
        if kind > ZSTD_COMPRESSED:
            raise Malformed("zstd: a block of a reserved type")
        bound += ZSTD_BLOCK if kind == ZSTD_COMPRESSED else min(size, ZSTD_BLOCK)
        at += 1 if kind == ZSTD_RLE else size
    if size_bytes:
        bound = min(bound, content)
    return _whole("zstd", data, at + (4 if flags & ZSTD_CHECKSUM else 0), bound)


def _whole(name: str, data: bytes, end: int, bound: int) -> int:
    if end != len(data):
        raise Malformed(f"{name}: the frame ends at byte {end} of {len(data)}")
    return bound


def _uint32(data: bytes, at: int) -> int:
    value: int = UINT32.unpack_from(data, at)[0]
    return value
