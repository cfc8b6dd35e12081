"""What is before every request and response: the headers (KIP-482, KIP-511)."""

from __future__ import annotations

from struct import Struct
from typing import Final

from meshproxy.wire.kafka.apis import API_VERSIONS, CONTROLLED_SHUTDOWN, flexible, understood
from meshproxy.wire.kafka.primitives import INT32, Malformed, Reader

FIXED: Final = Struct(">ihhi")
"""Size, API key, version and correlation id: how every request begins."""
RESPONSE_START: Final = 8
"""Size and correlation id: how every response begins."""


class RequestHead:
    """The header of a request.

    ``client_id`` is empty when the request has none. ``body_at`` is where the body begins in the
    frame; for an API that is not known, where the client id ends.
    """

    __slots__ = ("body_at", "client_id", "correlation_id", "key", "version")

    def __init__(
        self, key: int, version: int, correlation_id: int, client_id: str, body_at: int
    ) -> None:
        self.key = key
        self.version = version
        self.correlation_id = correlation_id
        self.client_id = client_id
        self.body_at = body_at


def read_request_head(data: bytes) -> RequestHead:
    """The header of the request that ``data`` begins with, its four size bytes first.

    Raises `Malformed`.
    """
    if len(data) < FIXED.size:
        raise Malformed(f"a request of {len(data)} bytes")
    fixed: tuple[int, int, int, int] = FIXED.unpack_from(data, 0)
    _, key, version, correlation = fixed
    if key == CONTROLLED_SHUTDOWN and version == 0:  # the one with request header 0
        return RequestHead(key, version, correlation, "", FIXED.size)
    reader = Reader(data, FIXED.size)
    # Not compact in any version, so that a broker can read ApiVersions of the future.
    client_id = reader.string(False) or ""
    if flexible(key, version):
        reader.skip_tags()
    return RequestHead(key, version, correlation, client_id, reader.at)


def correlation_id(response: bytes) -> int:
    """Which request a response belongs to; its four size bytes come first. Raises `Malformed`."""
    if len(response) < RESPONSE_START:
        raise Malformed(f"a response of {len(response)} bytes")
    value: int = INT32.unpack_from(response, 4)[0]
    return value


def request_body(frame: bytes, head: RequestHead) -> Reader:
    """A reader at the body of a request. Raises `Malformed` if its version is not understood."""
    if not understood(head.key, head.version):
        raise Malformed(f"version {head.version} of API {head.key} is not known")
    return Reader(frame, head.body_at)


def response_body(frame: bytes, key: int, version: int) -> Reader:
    """A reader at the body of a response. Raises `Malformed` if its version is not understood."""
    if not understood(key, version):
        raise Malformed(f"version {version} of API {key} is not known")
    reader = Reader(frame)
    reader.take(RESPONSE_START)
    if key != API_VERSIONS and flexible(key, version):  # header 0 for ApiVersions (KIP-511)
        reader.skip_tags()
    return reader
