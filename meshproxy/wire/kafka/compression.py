"""The four codecs of record batches, each in the form that Kafka's own readers take.

Levels are the fastest ones that still compress well, because every batch that gets a header is
compressed anew. Ratio and time for records of 230 bytes of JSON, 100 in a batch:

======= ============= ===== ============= ======================================================
codec   level         ratio µs a record   for comparison
======= ============= ===== ============= ======================================================
gzip    2 (of ISA-L)  5.2   0.3           zlib's 6, Java's default: 5.8, 5.0; ISA-L's 3: 5.3, 0.7
snappy  (has none)    3.4   0.25
lz4     fast          3.4   0.2           9: 3.9, 4.0
zstd    1             6.4   0.4           3, Java's default: 6.1, 0.6; 5: 6.0, 2.9
======= ============= ===== ============= ======================================================

All of them release the interpreter's lock, so that a large batch may be compressed in a thread.
The libraries are imported on first use: a process that meets no Kafka does not load them.

All functions raise `Malformed` for data that does not decompress.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

from meshproxy.wire.kafka.bounds import lz4_bound, zstd_bound
from meshproxy.wire.kafka.primitives import Malformed

NONE: Final = 0
GZIP: Final = 1
SNAPPY: Final = 2
LZ4: Final = 3
ZSTD: Final = 4

RAW: Final = 0
XERIAL: Final = 1

GZIP_LEVEL: Final = 2
GZIP_WINDOW: Final = 16 + 15
"""zlib's way to say: 32 KiB, with gzip's head and trailer (RFC 1952)."""
ZSTD_LEVEL: Final = 1

INT32: Final = Struct(">i")

XERIAL_MAGIC: Final = b"\x82SNAPPY\x00"
XERIAL_HEAD: Final = XERIAL_MAGIC + b"\x00\x00\x00\x01\x00\x00\x00\x01"
"""Version 1, readable by version 1 (snappy-java's SnappyCodec)."""
XERIAL_BLOCK: Final = 32 * 1024
"""snappy-java's default, which Kafka's Java client uses."""

LZ4_HEAD: Final = bytes.fromhex("04224d18604082")
"""Magic; version 1, independent blocks, no checksums (the batch has one); blocks of 64 KiB; the
checksum of that. The same as the Java client's, whose reader refuses blocks that depend on others.
"""
LZ4_BLOCK: Final = 64 * 1024
LZ4_STORED: Final = 0x80000000
LZ4_END: Final = bytes(4)
UINT32: Final = Struct("<I")


def framing(codec: int, data: bytes, at: int = 0) -> int:
    """How the snappy data that begins at ``at`` is framed: `XERIAL` (Java) or `RAW` (librdkafka).

    Always `RAW` for the other codecs, which have one framing only.
    """
    return XERIAL if codec == SNAPPY and data.startswith(XERIAL_MAGIC, at) else RAW


def compress(codec: int, data: bytes, framing: int) -> bytes:
    """``data`` compressed by ``codec``; ``framing`` says how, for snappy (see `framing`)."""
    if codec == NONE:
        return data
    if codec == GZIP:
        from isal import isal_zlib

        return isal_zlib.compress(data, GZIP_LEVEL, GZIP_WINDOW)
    if codec == SNAPPY:
        return _compress_xerial(data) if framing == XERIAL else _compress_snappy(data)
    if codec == LZ4:
        return _compress_lz4(data)
    if codec == ZSTD:
        from cramjam import zstd

        return bytes(zstd.compress(data, level=ZSTD_LEVEL))
    raise _unknown(codec)


def decompress(codec: int, data: bytes, limit: int) -> bytes:
    """What ``data`` holds, compressed by ``codec``; `Malformed` if that is over ``limit`` bytes.

    No more than ``limit`` bytes, and a block, are ever allocated. Data that is not compressed is
    as large as it looks, and returned whatever its size.
    """
    if codec == NONE:
        return data
    if codec == GZIP:
        return _decompress_gzip(data, limit)
    if codec == SNAPPY:
        return _decompress_snappy(data, limit)
    if codec == LZ4:
        return _decompress_lz4(data, limit)
    if codec == ZSTD:
        return _decompress_zstd(data, limit)
    raise _unknown(codec)


def _compress_snappy(data: bytes) -> bytes:
    from cramjam import snappy

    return bytes(snappy.compress_raw(data))


def _compress_xerial(data: bytes) -> bytes:
    from cramjam import snappy

    view = memoryview(data)
    parts: list[bytes] = [XERIAL_HEAD]
    for at in range(0, len(data), XERIAL_BLOCK):
        block = bytes(snappy.compress_raw(view[at : at + XERIAL_BLOCK]))
        parts.append(INT32.pack(len(block)))
        parts.append(block)
    return b"".join(parts)


def _compress_lz4(data: bytes) -> bytes:
    # By block, because the library links the blocks of frames that it makes with the lock released.
    from cramjam import lz4

    view = memoryview(data)
    parts: list[bytes] = [LZ4_HEAD]
    for at in range(0, len(data), LZ4_BLOCK):
        plain = view[at : at + LZ4_BLOCK]
        block = bytes(lz4.compress_block(plain, store_size=False))
        if len(block) < len(plain):
            parts.append(UINT32.pack(len(block)))
            parts.append(block)
        else:
            parts.append(UINT32.pack(len(plain) | LZ4_STORED))
            parts.append(bytes(plain))
    parts.append(LZ4_END)
    return b"".join(parts)


def _decompress_gzip(data: bytes, limit: int) -> bytes:
    from isal import isal_zlib

    stream = isal_zlib.decompressobj(GZIP_WINDOW)
    try:
        plain: bytes = stream.decompress(data, limit + 1)
    except isal_zlib.IsalError as error:  # type: ignore[misc]  # its stub has an instance there
        raise Malformed(f"gzip: {error}") from error
    if len(plain) > limit:
        raise _too_large("gzip", limit)
    if not stream.eof:
        raise Malformed("gzip: the stream is cut off")
    if stream.unused_data:
        raise Malformed("gzip: something follows the stream")
    return plain


def _decompress_snappy(data: bytes, limit: int) -> bytes:
    if framing(SNAPPY, data) == RAW:
        return _snappy_block(memoryview(data), limit)
    view = memoryview(data)
    parts: list[bytes] = []
    at = len(XERIAL_HEAD)
    if at > len(data):
        raise Malformed("snappy: the head of xerial's framing is cut off")
    while at < len(data):
        if at + INT32.size > len(data):
            raise Malformed("snappy: the length of a block is cut off")
        size: int = INT32.unpack_from(data, at)[0]
        at += INT32.size
        if size <= 0 or at + size > len(data):
            raise Malformed(f"snappy: a block of {size} bytes, {len(data) - at} are left")
        part = _snappy_block(view[at : at + size], limit)
        limit -= len(part)
        parts.append(part)
        at += size
    return b"".join(parts)


def _snappy_block(block: memoryview, limit: int) -> bytes:
    from cramjam import DecompressionError, snappy

    try:
        # The library allocates what the block says it holds: believed only up to the limit.
        if snappy.decompress_raw_len(block) > limit:
            raise _too_large("snappy", limit)
        return bytes(snappy.decompress_raw(block))
    except DecompressionError as error:
        raise Malformed(str(error)) from error


def _decompress_lz4(data: bytes, limit: int) -> bytes:
    from cramjam import DecompressionError, lz4

    room = bytearray(min(lz4_bound(data), limit))
    try:
        size = lz4.decompress_into(data, room)
    except DecompressionError as error:
        raise Malformed(f"LZ4: {error} (room for {len(room)} bytes)") from error
    return bytes(memoryview(room)[:size])


def _decompress_zstd(data: bytes, limit: int) -> bytes:
    from cramjam import DecompressionError, zstd

    room = bytearray(min(zstd_bound(data), limit))
    try:
        size = zstd.decompress_into(data, room)
    except DecompressionError as error:
        raise Malformed(f"zstd: {error} (room for {len(room)} bytes)") from error
    return bytes(memoryview(room)[:size])


def _too_large(name: str, limit: int) -> Malformed:
    return Malformed(f"{name}: more than {limit} bytes")


def _unknown(codec: int) -> Malformed:
    return Malformed(f"there is no codec {codec}")
