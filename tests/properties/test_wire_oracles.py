"""What we accept, h11 and llhttp accept too, and read in the same way: method, target, version,
fields, and where the message ends. We may be stricter, never laxer, but for the differences below.
"""

from __future__ import annotations

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
    fields = tuple((field.name, field.value) for field in head.fields)
    return Message(head.line.method, head.line.target, f"1.{head.line.minor}", fields, end)


def as_h11_reads(data: bytes, end: int) -> Message | str:
    """The request as h11 reads it, or why it does not end at ``end``."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 16)
    request = None
    for piece in (data[: end - 1], data[end - 1 : end]):
        connection.receive_data(piece)
        while True:
            try:
                event = connection.next_event()
            except h11.RemoteProtocolError as error:
                return str(error)
            if event in (h11.NEED_DATA, h11.PAUSED):
                break
            if isinstance(event, h11.Request):
                request = event
            elif isinstance(event, h11.EndOfMessage) and piece is not data[end - 1 : end]:
                done = connection
        else:
            continue
        if connection.their_state not in (h11.SEND_BODY, h11.IDLE) and piece == data[: end - 1]:
            return "ends earlier"
    if request is None or connection.their_state in (h11.SEND_BODY, h11.IDLE):
        return "ends later"
    version = request.http_version.decode()
    return Message(request.method, request.target, version, tuple(request.headers), end)
