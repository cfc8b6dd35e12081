"""Message bodies as byte scripts: where they end, and what is refused."""

from __future__ import annotations

import pytest

from meshproxy.wire.body import Body, ChunkedBody, EndlessBody, LengthBody
from meshproxy.wire.errors import ProtocolError
from meshproxy.wire.fields import FieldTable

NEXT = b"GET /next HTTP/1.1\r\n"
LAST = b"0\r\n\r\n"


def chunked() -> ChunkedBody:
    return ChunkedBody(FieldTable())


def refusal(data: bytes) -> tuple[int, str]:
    with pytest.raises(ProtocolError) as caught:
        chunked().feed(data)
    assert str(caught.value), "a refusal says what is wrong"
    return caught.value.status, caught.value.reason


@pytest.mark.parametrize(
    "data",
    [
        LAST,
        b"5\r\nhello\r\n" + LAST,
        b"5\r\nhello\r\n1\r\n \r\n" + LAST,
        b"a\r\n0123456789\r\n" + LAST,
        b"A\r\n0123456789\r\n" + LAST,
        b"0000000000005\r\nhello\r\n" + LAST,
        b"5\r\nhello\r\n00000\r\n\r\n",
        b"4\r\n\r\n\r\n\r\n" + LAST,  # a chunk of line ends
        b"5\r\n0\r\n\r\n\r\n" + LAST,  # a chunk that looks like the last one
        # extensions
        b"5;a\r\nhello\r\n0;b=c\r\n\r\n",
        b'5;a="b;c";d\r\nhello\r\n' + LAST,
        b"5;\r\nhello\r\n" + LAST,
        b"5;a = \t1\r\nhello\r\n" + LAST,
        b"5;caf\xc3\xa9\r\nhello\r\n" + LAST,
        # trailers
        b"0\r\nX-Sum: 1\r\n\r\n",
        b"1\r\na\r\n0\r\nX-Sum:\r\nx-sum: \t2 \r\nSet-Cookie: a=b\r\n\r\n",
    ],
)
def test_chunked_bodies_that_are_read(data: bytes) -> None:
    body = chunked()
    assert body.feed(data + NEXT) == len(data)
    assert body.done


@pytest.mark.parametrize("size", [b"ff", b"fffff", b"f" * 15])
def test_a_chunk_may_be_large(size: bytes) -> None:
    body = chunked()
    data = size + b"\r\n" + b"x" * 100
    assert body.feed(data) == len(data)
    assert not body.done


@pytest.mark.parametrize(
    "line",
    [
        b"", b";a", b"0x5", b"-1", b"+1", b"1_0", b" 5", b"\t5", b"5 ", b"5\t", b"5 5", b"5.0",
        b"5 ;a", b"g", b"5,", b"5 a", b"\xb2", b"\x005", b"5\x00", b"five", b"f" * 16,
        b"0" * 16, b"5;a\x00", b"5;a\x01", b"5;a\x7f", b"5;a\rb", b"5\r",
    ],
)  # fmt: skip
def test_chunk_sizes_that_are_refused(line: bytes) -> None:
    assert refusal(line + b"\r\nhello\r\n" + LAST) == (400, "chunk_size")
    assert refusal(b"1\r\na\r\n" + line + b"\r\nhello\r\n" + LAST) == (400, "chunk_size")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        # LF without CR
        (b"5\nhello\r\n0\r\n\r\n", "chunk_size"),
        (b"5;a\nhello\r\n0\r\n\r\n", "chunk_size"),
        (b"5;a\nb\r\nhello\r\n0\r\n\r\n", "chunk_size"),
        (b"5\r\nhello\r\n0\n\r\n", "chunk_size"),
        (b"5\r\nhello\n0\r\n\r\n", "chunk_end"),
        # the chunk and its size differ
        (b"5\r\nhello!\r\n0\r\n\r\n", "chunk_end"),
        (b"5\r\nhell\r\n0\r\n\r\n", "chunk_end"),
        (b"5\r\nhello0\r\n\r\n", "chunk_end"),
        (b"5\r\nhello\r\r\n0\r\n\r\n", "chunk_end"),
        (b"5\r\nhello\r0\r\n\r\n", "chunk_end"),
        # trailers
        (b"0\r\n\n", "trailer"),
        (b"0\r\nX: 1\n\r\n", "trailer"),
        (b"0\r\nX: 1\r\n\n", "trailer"),
        (b"0\r\nContent-Length: 5\r\n\r\n", "trailer"),
        (b"0\r\ntransfer-encoding: chunked\r\n\r\n", "trailer"),
        (b"0\r\nHost: b\r\n\r\n", "trailer"),
        (b"0\r\nTrailer: x\r\n\r\n", "trailer"),
        (b"0\r\n folded\r\n\r\n", "folded_line"),
        (b"0\r\nX: 1\r\n folded\r\n\r\n", "folded_line"),
        (b"0\r\nX : 1\r\n\r\n", "blank_before_colon"),
        (b"0\r\nX\r\n\r\n", "field_name"),
        (b"0\r\n: 1\r\n\r\n", "field_name"),
        (b"0\r\nX: a\rb\r\n\r\n", "field_value"),
        (b"0\r\nX: \x00\r\n\r\n", "field_value"),
        (b"0\r\nGET / HTTP/1.1\r\n\r\n", "field_name"),
    ],
)
def test_chunked_bodies_that_are_refused(data: bytes, reason: str) -> None:
    assert refusal(data) == (400, reason)


def test_chunk_size_lines_have_a_limit() -> None:
    longest = b"0;" + b"a" * 1020 + b"\r\n"
    assert len(longest) == 1024
    body = chunked()
    assert body.feed(longest + b"\r\n") == 1026
    assert body.done
    assert refusal(b"0;" + b"a" * 1021 + b"\r\n\r\n") == (400, "chunk_line")
    assert refusal(b"0" * 1025) == (400, "chunk_line")


def test_trailers_have_a_limit() -> None:
    longest = b"A: " + b"a" * 8187 + b"\r\nB: " + b"b" * 8187 + b"\r\n"
    assert len(longest) == 16384
    body = chunked()
    body.feed(b"0\r\n" + longest + b"\r\n")
    assert body.done
    assert refusal(b"0\r\n" + longest + b"C:\r\n\r\n") == (431, "trailer_too_large")
    assert refusal(b"0\r\nA: " + b"a" * 16384) == (431, "trailer_too_large")


def test_trailers_may_be_many_small_ones_up_to_the_limit() -> None:
    line = b"A: 1\r\n"
    assert refusal(b"0\r\n" + line * 3000 + b"\r\n") == (431, "trailer_too_large")


@pytest.mark.parametrize(
    "data", [b"", b"5", b"5\r", b"5\r\n", b"5\r\nhell", b"5\r\nhello", b"0\r\n", b"0\r\nX: 1\r\n"]
)
def test_a_body_that_is_cut_is_not_done(data: bytes) -> None:
    body = chunked()
    assert body.feed(data) == len(data)
    assert not body.done


def test_a_body_of_known_length_ends_there() -> None:
    body = LengthBody(5)
    assert body.feed(b"head|abc", 5) == 8
    assert not body.done
    assert body.feed(b"de" + NEXT) == 2
    assert body.done


def test_an_empty_body_is_done_at_once() -> None:
    assert LengthBody(0).done


def test_a_body_until_the_end_of_the_connection_takes_everything() -> None:
    body = EndlessBody()
    assert body.feed(b"head|" + LAST, 5) == 10
    assert not body.done


@pytest.mark.parametrize("body", [LengthBody(5), chunked()])
def test_bytes_before_the_start_are_not_looked_at(body: Body) -> None:
    data = b"hello" if isinstance(body, LengthBody) else b"5\r\nhello\r\n" + LAST
    assert body.feed(b"zz\r\n" + data + NEXT, 4) == 4 + len(data)
    assert body.done


def test_fields_of_trailers_are_not_taken_for_those_of_the_head() -> None:
    table = FieldTable()
    body = ChunkedBody(table)
    assert body.feed(b"0\r\nConnection: close\r\n\r\n") == 24
    assert body.done
