"""ApiVersions: what a broker can do, limited to what is understood here (KIP-35, KIP-511)."""

from __future__ import annotations

from struct import Struct
from typing import Final

from meshproxy.wire.kafka.apis import API_VERSIONS, APIS, CONCEALED, flexible
from meshproxy.wire.kafka.primitives import Patch, Reader, length
from meshproxy.wire.kafka.requests import response_body

UNSUPPORTED_VERSION: Final = 35
RANGE: Final = Struct(">hhh")
"""API key, oldest and newest version."""
UNSUPPORTED: Final = Struct(">iihihhh")
"""Size, correlation id, error, and an array with one range."""


def clamp(response: bytes, version: int) -> bytes:
    """A response to ApiVersions, versions 0 to 4, that promises only what can be kept.

    APIs that are not known or must be kept from clients are left out; the newest version of those
    that are read here is limited to what is understood. All other bytes stay; the very same object
    if nothing changed, as in a response that is an error. Raises `Malformed`.
    """
    reader = response_body(response, API_VERSIONS, version)
    if reader.int16():  # written in version 0, whatever was asked for
        return response
    compact = flexible(API_VERSIONS, version)
    patch = Patch(response)
    at = reader.at
    count = reader.length(compact)
    begin = reader.at
    kept = 0
    for _ in range(count):
        if _clamp_range(reader, compact, patch):
            kept += 1
    if kept != max(count, 0):
        patch.replace(at, begin, length(kept, compact))
    return patch.frame()


def _clamp_range(reader: Reader, compact: bool, patch: Patch) -> bool:
    """Limit one API's range, or leave it out; returns whether it was kept."""
    at = reader.take(RANGE.size)
    key, oldest, newest = RANGE.unpack_from(reader.data, at)
    if compact:
        reader.skip_tags()
    api = APIS.get(key)
    limit = newest if api is None or api.newest is None else api.newest
    if api is None or key in CONCEALED or oldest > limit:
        patch.replace(at, reader.at, b"")
        return False
    if newest > limit:
        patch.replace(at, at + RANGE.size, RANGE.pack(key, oldest, limit))
    return True


def unsupported(correlation_id: int) -> bytes:
    """The answer to a request for ApiVersions that is newer than what is understood here.

    It is written in version 0 and tells which versions of ApiVersions can be asked for (KIP-511).
    """
    newest = APIS[API_VERSIONS].newest
    return UNSUPPORTED.pack(
        UNSUPPORTED.size - 4, correlation_id, UNSUPPORTED_VERSION, 1, API_VERSIONS, 0, newest
    )
