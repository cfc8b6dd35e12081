"""What we accept, h11 and llhttp accept too, and read in the same way: method, target, version,
fields, and where the message ends. We may be stricter, never laxer, but for the differences below.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import h11
import httptools
import pytest
from hypothesis import given, settings

from meshproxy.wire.body import ChunkedBody, LengthBody
from meshproxy.wire.errors import ProtocolError
from meshproxy.wire.fields import FieldTable
from meshproxy.wire.http1 import find_end, read_request
from tests.properties.wire_grammar import odd_requests, ordinary_requests


@dataclass(frozen=True)
class Message:
    """A request as somebody read it; ``end`` is the offset of its last byte plus one."""

    method: bytes
    target: bytes
    version: str
    fields: tuple[tuple[bytes, bytes], ...]
    end: int


def comparable(name: bytes, value: bytes) -> tuple[bytes, bytes]:
    """Names of transfer codings have no case (RFC 9112 section 7), and h11 lowers them."""
    return name, value.lower() if name == b"transfer-encoding" else value


def ours(data: bytes) -> Message | None:
    """The first request in ``data`` as we read it; None if it is refused or not complete."""
    table = FieldTable()
    try:
        at = find_end(data, 0, 1 << 16)
        if at < 0:
            return None
        head = read_request(data[:at], table, 100)
        body = ChunkedBody(table) if head.chunked else LengthBody(head.length or 0)
        end = at + 4 if body.done else body.feed(data, at + 4)
    except ProtocolError:
        return None
    if not body.done:
        return None
    fields = tuple(comparable(field.name, field.value) for field in head.fields)
    return Message(head.line.method, head.line.target, f"1.{head.line.minor}", fields, end)


class H11:
    """h11 as a server."""

    refusals = (h11.RemoteProtocolError,)

    def __init__(self) -> None:
        self._connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 16)
        self._request: h11.Request | None = None
        self.done = False

    def feed(self, data: bytes) -> None:
        self._connection.receive_data(data)
        while True:
            event = self._connection.next_event()
            if event is h11.NEED_DATA or event is h11.PAUSED:
                return
            if isinstance(event, h11.Request):
                self._request = event
            elif isinstance(event, h11.EndOfMessage):
                self.done = True

    def message(self, end: int) -> Message:
        request = self._request
        assert request is not None
        version = request.http_version.decode()
        fields = tuple(comparable(name, value) for name, value in request.headers)
        return Message(request.method, request.target, version, fields, end)


class Llhttp:
    """llhttp, the parser of Node.js."""

    refusals = (httptools.HttpParserError,)

    def __init__(self) -> None:
        self._parser = httptools.HttpRequestParser(self)
        self._target = b""
        self._fields: list[tuple[bytes, bytes]] = []
        self._in_head = True
        self.done = False

    def feed(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            assert self.done, "what follows the request is for the tunnel"

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # trailers come in the same way
            self._fields.append(comparable(name.lower(), value.strip(b" \t")))

    def on_headers_complete(self) -> None:
        self._in_head = False

    def on_message_complete(self) -> None:
        self.done = True

    def message(self, end: int) -> Message:
        method, version = self._parser.get_method(), self._parser.get_http_version()
        return Message(method, self._target, version, tuple(self._fields), end)


def theirs(oracle: type[H11] | type[Llhttp], data: bytes, end: int) -> Message | str:
    """The request as the oracle reads it, or why it is none, or none that ends at ``end``."""
    reader = oracle()
    try:
        reader.feed(data[: end - 1])
        if reader.done:
            return "ends earlier"
        reader.feed(data[end - 1 : end])
    except reader.refusals as error:
        return f"refused: {error!r}"
    return reader.message(end) if reader.done else "ends later"


@dataclass(frozen=True)
class Difference:
    """Where an oracle is stricter than we are, or reads otherwise, and why we stay with it."""

    why: str
    applies: Callable[[Message, bytes], bool]
    example: bytes


def has(message: Message, name: bytes) -> bool:
    return any(field == name for field, _ in message.fields)


def body_has(pattern: bytes) -> Callable[[Message, bytes], bool]:
    """Whether the body is chunked and this pattern is found in it."""
    return lambda message, data: (
        has(message, b"transfer-encoding")
        and re.search(pattern, data.partition(b"\r\n\r\n")[2]) is not None
    )


POST = b"POST / HTTP/1.1\r\nHost: a\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"

RAW_TARGET = Difference(
    "Clients send raw UTF-8 in paths; it has one reading, and servers take it.",
    lambda message, data: not message.target.isascii(),
    b"GET /caf\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n",
)
METHODS_OF_LLHTTP = frozenset(
    {b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PATCH", b"CONNECT"}
)

DIFFERENCES = {
    H11: [RAW_TARGET],
    Llhttp: [
        RAW_TARGET,
        Difference(
            "llhttp parses chunk extensions; we only look for the end of their line.",
            body_has(rb";"),
            CHUNKED + b"1;a=\xff\r\nx\r\n0\r\n\r\n",
        ),
        Difference(
            "llhttp has a list of methods; RFC 9110 section 9.1 has none.",
            lambda message, data: message.method not in METHODS_OF_LLHTTP,
            b"BREW / HTTP/1.1\r\nHost: a\r\n\r\n",
        ),
        Difference(
            "llhttp takes a body for the new protocol's bytes; RFC 9110 section 7.8 has it first.",
            lambda message, data: has(message, b"upgrade"),
            POST + b"Connection: Upgrade\r\nUpgrade: x\r\nContent-Length: 1\r\n\r\na",
        ),
    ],
}


def explained(oracle: type[H11] | type[Llhttp], message: Message, data: bytes) -> bool:
    return any(each.applies(message, data) for each in DIFFERENCES[oracle])


@pytest.mark.parametrize("oracle", [H11, Llhttp])
@given(data=odd_requests())
@settings(max_examples=500)
def test_what_we_accept_the_oracle_reads_in_the_same_way(
    oracle: type[H11] | type[Llhttp], data: bytes
) -> None:
    message = ours(data)
    if message is not None and not explained(oracle, message, data[: message.end]):
        assert theirs(oracle, data, message.end) == message


@pytest.mark.parametrize("oracle", [H11, Llhttp])
@given(request_and_body=ordinary_requests())
@settings(max_examples=200)
def test_ordinary_requests_are_accepted_by_all(
    oracle: type[H11] | type[Llhttp], request_and_body: tuple[bytes, bytes]
) -> None:
    data = b"".join(request_and_body)
    message = ours(data + b"GET")
    assert message is not None
    assert message.end == len(data)
    assert theirs(oracle, data, len(data)) == message


@pytest.mark.parametrize(
    ("oracle", "difference"),
    [(oracle, each) for oracle, all_of_them in DIFFERENCES.items() for each in all_of_them],
    ids=lambda value: value.why if isinstance(value, Difference) else value.__name__,
)
def test_every_difference_is_still_one(
    oracle: type[H11] | type[Llhttp], difference: Difference
) -> None:
    data = difference.example
    message = ours(data)
    assert message is not None
    assert message.end == len(data)
    assert difference.applies(message, data)
    assert theirs(oracle, data, message.end) != message
