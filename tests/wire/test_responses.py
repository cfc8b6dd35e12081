"""Response heads as byte scripts: what is read, what is refused, and what is sent on."""

from __future__ import annotations

import pytest

from meshproxy.wire.errors import ProtocolError
from meshproxy.wire.fields import FieldTable
from meshproxy.wire.http1 import Response, find_end, read_response, status_line

LIMIT = 61440
OK = b"HTTP/1.1 200 OK"


def answer(*lines: bytes, start: bytes = OK) -> bytes:
    return b"\r\n".join((start, *lines, b"", b""))


def read(data: bytes, method: bytes = b"GET", max_fields: int = 100) -> Response:
    end = find_end(data, 0, LIMIT)
    assert end >= 0, "more bytes are needed"
    return read_response(data[:end], FieldTable([b"x-id"]), max_fields, method)


def refusal(data: bytes, max_fields: int = 100) -> tuple[int, str]:
    with pytest.raises(ProtocolError) as caught:
        read(data, max_fields=max_fields)
    assert str(caught.value), "a refusal says what is wrong"
    return caught.value.status, caught.value.reason


@pytest.mark.parametrize(
    ("start", "code", "minor"),
    [
        (b"HTTP/1.1 200 OK", 200, 1),
        (b"HTTP/1.1 200 ", 200, 1),
        (b"HTTP/1.1 200", 200, 1),
        (b"HTTP/1.0 404 Not Found", 404, 0),
        (b"HTTP/1.1 100 Continue", 100, 1),
        (b"HTTP/1.1 599 \tna ja: \xfc!", 599, 1),
        (b"HTTP/1.1 999 Request denied", 999, 1),  # not by the book, and yet in use
    ],
)
def test_status_lines_that_are_read(start: bytes, code: int, minor: int) -> None:
    line = read(answer(b"Content-Length: 0", start=start)).line
    assert (line.raw, line.code, line.minor) == (start, code, minor)


@pytest.mark.parametrize(
    "start",
    [
        b"",
        b"HTTP/1.1",
        b"HTTP/1.1 ",
        b"HTTP/1.1 20 OK",
        b"HTTP/1.1 2000 OK",
        b"HTTP/1.1 2x0 OK",
        b"HTTP/1.1 +20 OK",
        b"HTTP/1.1 099 OK",
        b"HTTP/1.1 200OK",
        b"HTTP/1.1  200 OK",
        b"HTTP/1.1\t200 OK",
        b" HTTP/1.1 200 OK",
        b"http/1.1 200 OK",
        b"HTTP/1.2 200 OK",
        b"HTTP/2 200",
        b"HTTP/2.0 200 OK",
        b"ICY 200 OK",
        b"HTTP/1.1 200 O\x01K",
        b"HTTP/1.1 200 O\x7fK",
        b"GET / HTTP/1.1",
        b"<html>",
    ],
)
def test_status_lines_that_are_refused(start: bytes) -> None:
    assert refusal(answer(start=start)) == (502, "status_line")
    with pytest.raises(ProtocolError):
        status_line(start)


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ((b"Content-Length: 5", b"Content-Length: 5"), "content_length"),
        ((b"Content-Length: 5, 5",), "content_length"),
        ((b"Content-Length: +5",), "content_length"),
        ((b"Content-Length:",), "content_length"),
        ((b"Content-Length: 5", b"Transfer-Encoding: chunked"), "two_lengths"),
        ((b"Transfer-Encoding: gzip",), "transfer_encoding"),
        ((b"Transfer-Encoding: chunked, gzip",), "transfer_encoding"),
        ((b"Transfer-Encoding: chunked, chunked",), "transfer_encoding"),
        ((b"Transfer-Encoding: xchunked",), "transfer_encoding"),
        ((b"Transfer-Encoding:",), "transfer_encoding"),
        ((b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"), "transfer_encoding"),
        ((b"X-A: 1", b" folded"), "folded_line"),
        ((b"X-A : 1",), "blank_before_colon"),
        ((b": 1",), "field_name"),
        ((b"nothing",), "field_name"),
        ((b"X-A: \x01",), "field_value"),
        ((b"X-A: a\nSet-Cookie: b",), "stray_byte"),
        ((b"X-A: a\rb",), "stray_byte"),
        ((b"X-A: a\x00b",), "stray_byte"),
    ],
)
def test_fields_that_are_refused(lines: tuple[bytes, ...], reason: str) -> None:
    assert refusal(answer(*lines)) == (502, reason)


def test_header_flood() -> None:
    lines = [b"X-%d: 1" % number for number in range(5)]
    assert len(read(answer(*lines), max_fields=5).lines) == 5
    assert refusal(answer(*lines), max_fields=4) == (502, "too_many_fields")


def test_an_http_1_0_answer_is_not_chunked() -> None:
    data = answer(b"Transfer-Encoding: chunked", start=b"HTTP/1.0 200 OK")
    assert refusal(data) == (502, "chunked_1_0")


def framing(head: Response) -> str:
    """The one way in which the body ends."""
    if head.chunked:
        assert head.length is None
        assert not head.until_close
        return "chunked"
    if head.until_close:
        assert head.length is None
        assert head.close
        return "close"
    return str(head.length)


LENGTH = b"Content-Length: 5"
CHUNKED = b"Transfer-Encoding: chunked"


@pytest.mark.parametrize(
    ("method", "code", "lines", "expected"),
    [
        (b"GET", 200, (LENGTH,), "5"),
        (b"GET", 200, (b"Content-Length: 0",), "0"),
        (b"GET", 200, (CHUNKED,), "chunked"),
        (b"GET", 200, (b"Transfer-Encoding: gzip, Chunked",), "chunked"),
        (b"GET", 200, (), "close"),
        (b"POST", 500, (), "close"),
        (b"GET", 205, (LENGTH,), "5"),
        # no body, whatever the fields say
        (b"HEAD", 200, (LENGTH,), "0"),
        (b"HEAD", 200, (CHUNKED,), "0"),
        (b"HEAD", 404, (), "0"),
        (b"GET", 100, (), "0"),
        (b"GET", 101, (LENGTH,), "0"),
        (b"GET", 103, (CHUNKED,), "0"),
        (b"GET", 204, (LENGTH,), "0"),
        (b"GET", 204, (), "0"),
        (b"GET", 304, (LENGTH,), "0"),
        (b"GET", 304, (CHUNKED,), "0"),
        (b"CONNECT", 200, (LENGTH,), "0"),
        (b"CONNECT", 200, (CHUNKED,), "0"),
        (b"CONNECT", 200, (), "0"),
        (b"CONNECT", 403, (LENGTH,), "5"),
        # methods are case-sensitive
        (b"head", 200, (LENGTH,), "5"),
    ],
)
def test_where_the_body_ends(
    method: bytes, code: int, lines: tuple[bytes, ...], expected: str
) -> None:
    data = answer(*lines, start=b"HTTP/1.1 %d x" % code)
    assert framing(read(data, method)) == expected


@pytest.mark.parametrize(
    ("start", "lines", "close"),
    [
        (OK, (LENGTH,), False),
        (OK, (LENGTH, b"Connection: close"), True),
        (OK, (LENGTH, b"connection: x, CLOSE"), True),
        (OK, (CHUNKED,), False),
        (OK, (), True),
        (b"HTTP/1.0 200 OK", (LENGTH,), True),
        (b"HTTP/1.0 200 OK", (LENGTH, b"Connection: Keep-Alive"), False),
        (b"HTTP/1.0 200 OK", (b"Connection: keep-alive",), True),
    ],
)
def test_who_closes(start: bytes, lines: tuple[bytes, ...], close: bool) -> None:
    assert read(answer(*lines, start=start)).close is close


# What is sent on


def test_what_nobody_touched_is_sent_as_it_came() -> None:
    data = answer(
        b"x-LOWER: 1", b"Set-Cookie: a", b"Date:  now ", b"set-cookie: b", b"TE: x", b"Host: a/b",
        LENGTH,
    )  # fmt: skip
    head = read(data)
    assert head.plain
    assert head.encode() == data


def test_keep_alive_alone_is_no_reason_to_touch_it() -> None:
    data = answer(LENGTH, b"Connection: Keep-Alive")
    head = read(data)
    assert head.plain
    head.added.append(b"Connection: close")
    assert head.encode() == answer(LENGTH, b"Connection: close")


@pytest.mark.parametrize(
    ("lines", "sent"),
    [
        ((LENGTH, b"Connection: keep-alive", b"Keep-Alive: timeout=5"), [LENGTH]),
        ((b"X-A: 1", b"Connection: x-a", LENGTH), [LENGTH]),
        ((CHUNKED, b"Connection: transfer-encoding"), [CHUNKED]),
        ((LENGTH, b"Proxy-Connection: close"), [LENGTH]),
        ((LENGTH, b"Upgrade: h2c", b"Connection: upgrade"), [LENGTH]),
    ],
)
def test_fields_of_this_connection_are_not_sent_on(
    lines: tuple[bytes, ...], sent: list[bytes]
) -> None:
    head = read(answer(*lines))
    assert not head.plain
    assert head.encode() == answer(*sent)


def test_an_answer_to_which_something_was_added_is_not_plain() -> None:
    head = read(answer(LENGTH))
    head.added.append(b"Connection: close")
    assert not head.plain
    assert head.encode() == answer(LENGTH, b"Connection: close")


def test_an_http_1_0_answer_is_sent_on_as_http_1_1() -> None:
    head = read(answer(LENGTH, start=b"HTTP/1.0 200 Fine"))
    assert not head.plain
    assert head.encode() == answer(LENGTH, start=b"HTTP/1.1 200 Fine")


def test_an_upgrade_is_captured() -> None:
    start = b"HTTP/1.1 101 Switching Protocols"
    head = read(answer(b"Connection: Upgrade", b"Upgrade: websocket", start=start))
    assert head.upgrade == b"websocket"
    assert head.encode() == answer(start=start)


def test_marked_fields_are_pointed_out() -> None:
    head = read(answer(b"A: 1", b"X-Id: 2", LENGTH))
    assert [head.fields[index].value for index in head.marked] == [b"2"]
