"""Promises of the codecs for all inputs: how bytes are split does not matter, and garbage is only
ever answered with `ProtocolError`."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from meshproxy.wire.body import ChunkedBody
from meshproxy.wire.detect import METHODS, detect
from meshproxy.wire.errors import ProtocolError
from meshproxy.wire.fields import FieldTable
from meshproxy.wire.http1 import find_end, read_request, read_response
from meshproxy.wire.tls import server_name
from tests.properties.wire_grammar import (
    ODD_BODIES,
    ODD_FIELDS,
    chunks,
    in_chunks,
    mutated,
    odd_requests,
    ordinary_fields,
    ordinary_requests,
)

LIMIT = 200
MAX_FIELDS = 8
REASON = re.compile(r"[a-z0-9_]+")

cuts = st.lists(st.integers(0, 400), max_size=6)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    """``data`` cut at these places."""
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    return [data[start:end] for start, end in pairwise(places)]


def outcome(read: Callable[[], object]) -> object:
    """What came out, also if it was a refusal."""
    try:
        return read()
    except ProtocolError as error:
        refusal = error
    assert 400 <= refusal.status <= 505
    assert REASON.fullmatch(refusal.reason)
    return refusal.status, refusal.reason, str(refusal)


def head_in_pieces(data: bytes, parts: list[bytes], response: bool) -> object:
    """Read a head as a connection does: look for its end with every piece, then read it."""
    seen = bytearray()
    searched = 0
    for part in parts:
        seen += part
        end = find_end(seen, searched, LIMIT)
        if end >= 0:
            block, table = bytes(seen[:end]), FieldTable()
            if response:
                return end, read_response(block, table, MAX_FIELDS, b"GET").encode()
            return end, read_request(block, table, MAX_FIELDS).encode()
        searched = len(seen)
    return None


def same_reason(found: object) -> object:
    """The status with which a stray byte is refused depends on the side: the transport's affair."""
    return found[1] if isinstance(found, tuple) and found[1] == "stray_byte" else found


heads = st.one_of(
    odd_requests(),
    st.binary(max_size=300),
    st.integers(LIMIT - 6, LIMIT + 6).map(
        lambda size: b"GET / HTTP/1.1\r\nHost: a\r\nX: ".ljust(size, b"x") + b"\r\n\r\nmore"
    ),
    st.integers(LIMIT - 6, LIMIT + 6).map(
        lambda size: b"GET / HTTP/1.1\r\n".ljust(size, b"x") + b"\r\n\n"
    ),
)


@given(heads, cuts)
@example(b"GET / HTTP/1.1\r\nHost: a\r\nX: ".ljust(LIMIT, b"x") + b"\r\n\r\n", [LIMIT + 2])
@example(b"GET / HTTP/1.1\nHost: a\r\n\r\n", [18])
@example(b"GET / HTTP/1.1\r\nX : a\r\nY: b\r\r\n\r\n", [31])
@example(b"GET / HTTP/1.1\r\n\r\n", [15, 16, 17])
def test_a_request_head_split_anywhere_equals_the_whole(data: bytes, cuts: list[int]) -> None:
    whole = outcome(lambda: head_in_pieces(data, [data], response=False))
    assert outcome(lambda: head_in_pieces(data, pieces(data, cuts), response=False)) == whole
    bytewise = [bytes([octet]) for octet in data]
    assert outcome(lambda: head_in_pieces(data, bytewise, response=False)) == whole


responses = st.builds(
    lambda start, lines: b"\r\n".join((start, *lines, b"", b"")),
    st.sampled_from([b"HTTP/1.1 200 OK", b"HTTP/1.0 404", b"HTTP/1.1 20", b"HTTP/1.1 204 \xff"]),
    st.lists(st.sampled_from(ODD_FIELDS), max_size=4),
).flatmap(mutated)


@given(responses, cuts)
def test_a_response_head_split_anywhere_equals_the_whole(data: bytes, cuts: list[int]) -> None:
    whole = outcome(lambda: head_in_pieces(data, [data], response=True))
    split = outcome(lambda: head_in_pieces(data, pieces(data, cuts), response=True))
    assert same_reason(split) == same_reason(whole)


def chunked_in_pieces(parts: list[bytes]) -> tuple[bool, int]:
    """Whether the body is done, and how many bytes it took."""
    body = ChunkedBody(FieldTable())
    taken = 0
    for part in parts:
        end = body.feed(part)
        taken += end
        if body.done:
            break
        assert end == len(part), "a body that is not done takes all there is"
    return body.done, taken


bodies = st.one_of(
    st.builds(in_chunks, chunks, st.lists(ordinary_fields, max_size=3)),
    st.builds(in_chunks, chunks, st.lists(ordinary_fields, max_size=3)).flatmap(mutated),
    st.sampled_from(ODD_BODIES).flatmap(mutated),
    st.binary(max_size=60),
)


@given(bodies, cuts)
@example(b"0;" + b"a" * 1030 + b"\r\n\r\n", [1028])
@example(b"0\r\nA: " + b"a" * 16379 + b"\r\n\r\n", [16388, 16389, 16390])
def test_a_chunked_body_split_anywhere_equals_the_whole(data: bytes, cuts: list[int]) -> None:
    whole = outcome(lambda: chunked_in_pieces([data]))
    assert outcome(lambda: chunked_in_pieces(pieces(data, cuts))) == whole
    bytewise = [bytes([octet]) for octet in data]
    assert outcome(lambda: chunked_in_pieces(bytewise)) == whole


@given(chunks, st.lists(ordinary_fields, max_size=3), st.binary(max_size=20), cuts)
def test_every_chunked_body_ends_where_it_should(
    parts: list[bytes], trailers: list[bytes], following: bytes, cuts: list[int]
) -> None:
    data = in_chunks(parts, trailers)
    assert chunked_in_pieces(pieces(data + following, cuts)) == (True, len(data))


first_bytes = st.one_of(
    st.binary(max_size=40),
    odd_requests(),
    st.sampled_from([*METHODS, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\x16\x03\x01"]).flatmap(
        mutated
    ),
    st.text("\r\n \x00AB/HTP1.*", max_size=30).map(str.encode),
)


@given(first_bytes)
@example(b"\n\n\n\n\nGET / HTTP/1.1\r\n")
@example(b"BREW /\x00 HTTP/1.1\r\n")
@example(b"BREW /" + b"a" * 9000 + b" HTTP/1.1\r\n")
def test_a_protocol_once_told_does_not_change_with_more_bytes(data: bytes) -> None:
    whole = detect(data)
    sizes = {*range(min(len(data), 100)), *range(0, len(data), 97)}
    assert {detect(data[:size]) for size in sizes} <= {whole, None}


@st.composite
def hellos(draw: st.DrawFn) -> bytes:
    """A ClientHello in one or more records, sound or not."""
    name = draw(st.sampled_from([b"a.example", b"", b"\xff", b"A" * 300]))
    entry = b"\x00" + len(name).to_bytes(2, "big") + name
    names = len(entry).to_bytes(2, "big") + entry
    extensions = b"\x00\x00" + len(names).to_bytes(2, "big") + names
    hello = b"\x03\x03" + bytes(32) + b"\x00\x00\x02\x13\x01\x01\x00"
    hello += len(extensions).to_bytes(2, "big") + extensions
    hello += bytes(draw(st.sampled_from([0, 0, 20000])))
    message = b"\x01" + len(hello).to_bytes(3, "big") + hello
    size = draw(st.sampled_from([1 << 14, 100, 7]))
    parts = [message[at : at + size] for at in range(0, len(message), size)]
    data = b"".join(b"\x16\x03\x01" + len(part).to_bytes(2, "big") + part for part in parts)
    return draw(st.one_of(st.just(data), mutated(data[:600])))


@given(hellos(), st.lists(st.integers(0, 25000), max_size=5))
def test_a_server_name_once_read_does_not_change_with_more_bytes(
    data: bytes, sizes: list[int]
) -> None:
    whole = server_name(data)
    assert {server_name(data[:size]) for size in (*sizes, 16384, 16383)} <= {whole, None}


# Garbage


@given(st.one_of(st.binary(max_size=300), odd_requests(), responses))
@settings(max_examples=300)
def test_garbage_raises_nothing_but_the_protocol_error(data: bytes) -> None:
    block = data.partition(b"\r\n\r\n")[0]
    for read in (
        lambda: find_end(data, 0, LIMIT),
        lambda: read_request(data, FieldTable(), MAX_FIELDS).encode(),
        lambda: read_request(block, FieldTable(), MAX_FIELDS).encode(),
        lambda: read_response(data, FieldTable(), MAX_FIELDS, b"GET").encode(),
        lambda: read_response(block, FieldTable(), MAX_FIELDS, b"HEAD").encode(),
        lambda: ChunkedBody(FieldTable()).feed(data),
    ):
        outcome(read)
    detect(data)
    assert server_name(data) in ("", None)


@given(st.binary(max_size=200))
def test_garbage_behind_a_record_header_has_no_exceptions_either(data: bytes) -> None:
    record = b"\x16\x03\x01" + len(data).to_bytes(2, "big") + data
    hello = b"\x16\x03\x01\x01\x00\x01\x00" + len(data).to_bytes(2, "big") + data
    for each in (record, hello):
        assert isinstance(server_name(each), str | None)


# Splicing


@given(ordinary_requests())
def test_what_concerns_no_connection_is_sent_on_byte_for_byte(request: tuple[bytes, bytes]) -> None:
    head, _ = request
    assert read_request(head[:-4], FieldTable(), 100).encode() == head


@given(st.lists(ordinary_fields, max_size=8), st.sampled_from([b"200 OK", b"404 ", b"503"]))
def test_the_same_of_responses(lines: list[bytes], status: bytes) -> None:
    head = b"\r\n".join((b"HTTP/1.1 " + status, b"Content-Length: 1", *lines, b"", b""))
    response = read_response(head[:-4], FieldTable(), 100, b"GET")
    assert response.plain
    assert response.encode() == head


@given(odd_requests())
def test_what_is_sent_on_is_accepted_again_and_means_the_same(data: bytes) -> None:
    end = data.find(b"\r\n\r\n")
    try:
        first = read_request(data[:end], FieldTable(), 100)
    except ProtocolError:
        return
    sent = first.encode()
    again = read_request(sent[:-4], FieldTable(), 100)
    assert (again.line.raw, again.host) == (first.line.raw, first.host)
    assert (again.length, again.chunked) == (first.length, first.chunked)
    assert again.encode() == sent


def test_the_error_carries_what_a_client_is_told() -> None:
    with pytest.raises(ProtocolError, match="not valid") as caught:
        read_request(b"", FieldTable(), 1)
    assert (caught.value.status, caught.value.reason) == (400, "request_line")
