"""Request heads as byte scripts: what is read, what is refused, and what is sent on."""

from __future__ import annotations

import pytest

from meshproxy.wire.errors import ProtocolError
from meshproxy.wire.fields import FieldTable
from meshproxy.wire.http1 import Request, find_end, read_request

LIMIT = 61440
MAX_FIELDS = 100


def read(data: bytes, *, limit: int = LIMIT, max_fields: int = MAX_FIELDS) -> Request:
    end = find_end(data, 0, limit)
    assert end >= 0, "more bytes are needed"
    return read_request(data[:end], FieldTable([b"traceparent"], (b"x-b3-",)), max_fields)


def get(*lines: bytes, start: bytes = b"GET / HTTP/1.1", host: bool = True) -> bytes:
    hosts = [b"Host: a"] if host else []
    return b"\r\n".join((start, *hosts, *lines, b"", b""))


def post(*lines: bytes) -> bytes:
    return get(*lines, start=b"POST / HTTP/1.1")


def refusal(data: bytes, **limits: int) -> tuple[int, str]:
    with pytest.raises(ProtocolError) as caught:
        read(data, **limits)
    assert str(caught.value), "a refusal says what is wrong"
    return caught.value.status, caught.value.reason


START_LINES = [
    # start line, method, target, minor version
    (b"GET / HTTP/1.1", b"GET", b"/", 1),
    (b"GET / HTTP/1.0", b"GET", b"/", 0),
    (b"get / HTTP/1.1", b"get", b"/", 1),
    (b"M-SEARCH / HTTP/1.1", b"M-SEARCH", b"/", 1),
    (b"!#$%&'*+-.^_`|~ / HTTP/1.1", b"!#$%&'*+-.^_`|~", b"/", 1),
    (b"GET //a//b?c=d&e HTTP/1.1", b"GET", b"//a//b?c=d&e", 1),
    (b'GET /"<>\\^`{|} HTTP/1.1', b"GET", b'/"<>\\^`{|}', 1),
    (b"GET /caf\xc3\xa9 HTTP/1.1", b"GET", b"/caf\xc3\xa9", 1),
    (b"GET http://b:80/x?y HTTP/1.1", b"GET", b"http://b:80/x?y", 1),
    (b"OPTIONS http://b HTTP/1.1", b"OPTIONS", b"http://b", 1),
    (b"OPTIONS * HTTP/1.1", b"OPTIONS", b"*", 1),
    (b"CONNECT b:443 HTTP/1.1", b"CONNECT", b"b:443", 1),
    (b"CONNECT [::1]:443 HTTP/1.1", b"CONNECT", b"[::1]:443", 1),
]


@pytest.mark.parametrize(("start", "method", "target", "minor"), START_LINES)
def test_request_lines_that_are_read(
    start: bytes, method: bytes, target: bytes, minor: int
) -> None:
    line = read(get(start=start)).line
    assert (line.raw, line.method, line.target, line.minor) == (start, method, target, minor)


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        # not three parts with one blank between them
        (b"", (400, "request_line")),
        (b"GET", (400, "request_line")),
        (b"GET /", (400, "request_line")),  # HTTP/0.9
        (b"GET HTTP/1.1", (400, "request_line")),
        (b"GET  / HTTP/1.1", (400, "request_line")),
        (b"GET /  HTTP/1.1", (400, "request_line")),
        (b"GET / HTTP/1.1 ", (400, "request_line")),
        (b" GET / HTTP/1.1", (400, "request_line")),
        (b"GET /a b HTTP/1.1", (400, "request_line")),
        (b"GET\t/ HTTP/1.1", (400, "request_line")),
        (b"GET /\tHTTP/1.1", (400, "request_line")),
        (b"GET /\x0b HTTP/1.1", (400, "request_line")),
        # parts with characters they may not have
        (b"G(T / HTTP/1.1", (400, "request_line")),
        (b"G\xc3T / HTTP/1.1", (400, "request_line")),
        (b"A" * 65 + b" / HTTP/1.1", (400, "request_line")),
        (b"GET /\x01 HTTP/1.1", (400, "request_line")),
        (b"GET /\x7f HTTP/1.1", (400, "request_line")),
        (b"GET /\x00 HTTP/1.1", (400, "stray_byte")),
        (b"GET /\r HTTP/1.1", (400, "stray_byte")),
        (b"GET /\n HTTP/1.1", (400, "stray_byte")),
        # versions
        (b"GET / HTTP/1.2", (505, "version")),
        (b"GET / HTTP/0.9", (505, "version")),
        (b"GET / HTTP/2.0", (505, "version")),
        (b"PRI * HTTP/2.0", (505, "version")),
        (b"GET / HTTP/2", (400, "request_line")),
        (b"GET / http/1.1", (400, "request_line")),
        (b"GET / HTTP/1.10", (400, "request_line")),
        (b"GET / HTTP/01.1", (400, "request_line")),
        (b"GET / HTTP/1,1", (400, "request_line")),
        (b"GET / HTTPS/1.1", (400, "request_line")),
        (b"GET / RTSP/1.0", (400, "request_line")),
        (b"GET /a#b HTTP/1.1", (400, "request_line")),  # some cut it there, some do not
        # targets in no form, or in one that the method may not have
        (b"GET a HTTP/1.1", (400, "target")),
        (b"GET ?a HTTP/1.1", (400, "target")),
        (b"GET * HTTP/1.1", (400, "target")),
        (b"GET b:80 HTTP/1.1", (400, "target")),
        (b"GET http:/b HTTP/1.1", (400, "target")),
        (b"GET http:///b HTTP/1.1", (400, "target")),
        (b"GET http://u@b/ HTTP/1.1", (400, "target")),
        (b"GET http://b,c/ HTTP/1.1", (400, "target")),
        (b"GET http://b:x/ HTTP/1.1", (400, "target")),
        (b"OPTIONS ** HTTP/1.1", (400, "target")),
        (b"CONNECT / HTTP/1.1", (400, "target")),
        (b"CONNECT b HTTP/1.1", (400, "target")),
        (b"CONNECT b: HTTP/1.1", (400, "target")),
        (b"CONNECT http://b:80 HTTP/1.1", (400, "target")),
        (b"CONNECT u@b:80 HTTP/1.1", (400, "target")),
    ],
)
def test_request_lines_that_are_refused(start: bytes, expected: tuple[int, str]) -> None:
    assert refusal(get(start=start)) == expected


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        (b"X-A:b", b"x-a", b"b"),
        (b"X-A: \t b c\t ", b"x-a", b"b c"),
        (b"X-A:", b"x-a", b""),
        (b"X-A: a\tb", b"x-a", b"a\tb"),
        (b"X-A: caf\xe9 \xc3\xa9", b"x-a", b"caf\xe9 \xc3\xa9"),
        (b"X-A: a:b", b"x-a", b"a:b"),
        (b"x_a!#$%&'*+-.^`|~: 1", b"x_a!#$%&'*+-.^`|~", b"1"),
    ],
)
def test_field_lines_that_are_read(line: bytes, name: bytes, value: bytes) -> None:
    head = read(get(line))
    assert (head.fields[1].name, head.fields[1].value) == (name, value)
    assert head.values(name) == [value]
    assert head.first(name) == value


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b": a", (400, "field_name")),
        (b"X-A", (400, "field_name")),
        (b"X A: b", (400, "field_name")),
        (b"X(A): b", (400, "field_name")),
        (b"X\xe9: b", (400, "field_name")),
        (b"X\x01: b", (400, "field_name")),
        (b'"X": b', (400, "field_name")),
        (b"X-A : b", (400, "blank_before_colon")),
        (b"X-A\t: b", (400, "blank_before_colon")),
        (b"Content-Length : 5", (400, "blank_before_colon")),
        (b" folded", (400, "folded_line")),
        (b"\tfolded", (400, "folded_line")),
        (b" X-A: b", (400, "folded_line")),
        (b"X-A: a\x01", (400, "field_value")),
        (b"X-A: a\x0bb", (400, "field_value")),
        (b"X-A: a\x1b[0m", (400, "field_value")),
        (b"X-A: a\x7f", (400, "field_value")),
        (b"X-A: a\x00b", (400, "stray_byte")),
        (b"X-\x00A: b", (400, "stray_byte")),
        (b"X-A: a\rb", (400, "stray_byte")),
        (b"X-A: a\r", (400, "stray_byte")),
        (b"X-A: a\nb", (400, "stray_byte")),
        (b"X-A: a\n b", (400, "stray_byte")),
        (b"X-A: a\nTransfer-Encoding: chunked", (400, "stray_byte")),
    ],
)
def test_field_lines_that_are_refused(line: bytes, expected: tuple[int, str]) -> None:
    assert refusal(get(line)) == expected


def test_the_first_field_line_may_not_be_folded_either() -> None:
    assert refusal(get(b" Host: a", host=False)) == (400, "folded_line")


@pytest.mark.parametrize(
    "host",
    [
        b"", b"a", b"a.example", b"a_b", b"a:8080", b"a:", b"127.0.0.1:80", b"[::1]", b"[::1]:80",
        b"[fe80::1%25eth0]", b"xn--caf-dma.example",
    ],
)  # fmt: skip
def test_hosts_that_are_read(host: bytes) -> None:
    assert read(get(b"Host: " + host, host=False)).host == host


@pytest.mark.parametrize(
    "lines",
    [
        (),
        (b"Host: a", b"Host: a"),
        (b"Host: a", b"host: b"),
        (b"Host: a", b"Host:"),
        (b"Host: a, b",),
        (b"Host: a b",),
        (b"Host: a/b",),
        (b"Host: u@a",),
        (b"Host: http://a",),
        (b"Host: a:80:80",),
        (b"Host: a:b",),
        (b"Host: ::1",),
        (b"Host: [::1",),
        (b"Host: caf\xe9",),
    ],
)
def test_one_valid_host_is_a_must(lines: tuple[bytes, ...]) -> None:
    assert refusal(get(*lines, host=False)) == (400, "host")


def test_http_1_0_needs_no_host_but_may_not_have_two() -> None:
    old = b"GET / HTTP/1.0"
    assert read(get(start=old, host=False)).host == b""
    assert refusal(get(b"Host: b", start=old)) == (400, "host")


@pytest.mark.parametrize(
    ("lines", "length", "chunked"),
    [
        ((), None, False),
        ((b"Content-Length: 0",), 0, False),
        ((b"Content-Length: 5",), 5, False),
        ((b"content-length:\t5 ",), 5, False),
        ((b"Content-Length: 007",), 7, False),
        ((b"Content-Length: 10000000000",), 10_000_000_000, False),
        ((b"Transfer-Encoding: chunked",), None, True),
        ((b"transfer-encoding: Chunked\t",), None, True),
    ],
)
def test_framing_that_is_read(lines: tuple[bytes, ...], length: int | None, chunked: bool) -> None:
    head = read(post(*lines))
    assert (head.length, head.chunked) == (length, chunked)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ((b"Content-Length: 5", b"Transfer-Encoding: chunked"), (400, "two_lengths")),
        ((b"Transfer-Encoding: chunked", b"Content-Length: 5"), (400, "two_lengths")),
        ((b"Transfer-Encoding: chunked", b"Content-Length: 0"), (400, "two_lengths")),
        ((b"Content-Length: 5", b"Content-Length: 5"), (400, "content_length")),
        ((b"Content-Length: 5", b"content-length: 6"), (400, "content_length")),
        ((b"Content-Length: 5, 5",), (400, "content_length")),
        ((b"Content-Length: 5,",), (400, "content_length")),
        ((b"Content-Length:",), (400, "content_length")),
        ((b"Content-Length: +5",), (400, "content_length")),
        ((b"Content-Length: -5",), (400, "content_length")),
        ((b"Content-Length: 0x5",), (400, "content_length")),
        ((b"Content-Length: 5 5",), (400, "content_length")),
        ((b"Content-Length: 5.0",), (400, "content_length")),
        ((b"Content-Length: 5e1",), (400, "content_length")),
        ((b"Content-Length: 1_0",), (400, "content_length")),
        ((b"Content-Length: \xb2",), (400, "content_length")),
        ((b"Content-Length: five",), (400, "content_length")),
        ((b"Content-Length: " + b"9" * 19,), (400, "content_length")),
        # chunked is not the last coding: nobody can tell where the body ends
        ((b"Transfer-Encoding:",), (400, "transfer_encoding")),
        ((b"Transfer-Encoding: identity",), (400, "transfer_encoding")),
        ((b"Transfer-Encoding: gzip",), (400, "transfer_encoding")),
        ((b"Transfer-Encoding: xchunked",), (400, "transfer_encoding")),
        ((b"Transfer-Encoding: chunked, identity",), (400, "transfer_encoding")),
        ((b"Transfer-Encoding: chunked, chunked",), (400, "transfer_encoding")),
        ((b"Transfer-Encoding: chunked,",), (400, "transfer_encoding")),
        ((b"Transfer-Encoding: ,chunked",), (400, "transfer_encoding")),
        ((b"Transfer-Encoding: chunked;a=b",), (400, "transfer_encoding")),
        ((b'Transfer-Encoding: "chunked"',), (400, "transfer_encoding")),
        ((b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"),
         (400, "transfer_encoding")),
        ((b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity"),
         (400, "transfer_encoding")),
        ((b"Transfer-Encoding: \x0bchunked",), (400, "field_value")),
        ((b"Transfer-Encoding : chunked",), (400, "blank_before_colon")),
        # it is the last coding, but the one before is not known
        ((b"Transfer-Encoding: gzip, chunked",), (501, "transfer_encoding")),
    ],
)  # fmt: skip
def test_framing_that_is_refused(lines: tuple[bytes, ...], expected: tuple[int, str]) -> None:
    assert refusal(post(*lines)) == expected


@pytest.mark.parametrize("line", [b"Content-Length: 1", b"Transfer-Encoding: chunked"])
def test_connect_has_no_body(line: bytes) -> None:
    start = b"CONNECT b:443 HTTP/1.1"
    assert refusal(get(line, start=start)) == (400, "connect_body")
    head = read(get(b"Content-Length: 0", start=start))
    assert (head.length, head.chunked) == (0, False)


def test_http_1_0_has_no_chunked_body() -> None:
    data = get(b"Transfer-Encoding: chunked", start=b"POST / HTTP/1.0")
    assert refusal(data) == (400, "chunked_1_0")


@pytest.mark.parametrize(
    ("start", "lines", "close"),
    [
        (b"GET / HTTP/1.1", (), False),
        (b"GET / HTTP/1.1", (b"Connection: close",), True),
        (b"GET / HTTP/1.1", (b"Connection: x, Close ",), True),
        (b"GET / HTTP/1.1", (b"Connection: closed",), False),
        (b"GET / HTTP/1.1", (b"Connection: keep-alive", b"Connection: close"), True),
        (b"GET / HTTP/1.0", (), True),
        (b"GET / HTTP/1.0", (b"Connection: Keep-Alive",), False),
        (b"GET / HTTP/1.0", (b"Connection: keep-alive, close",), True),
    ],
)
def test_who_closes(start: bytes, lines: tuple[bytes, ...], close: bool) -> None:
    assert read(get(*lines, start=start)).close is close


def test_expectation_of_100_continue() -> None:
    assert read(post(b"Expect: 100-Continue", b"Content-Length: 1")).expects
    assert not read(post(b"Expect: something", b"Content-Length: 1")).expects
    # RFC 9110 section 10.1.1: in HTTP/1.0 it is ignored
    old = get(b"Expect: 100-continue", start=b"POST / HTTP/1.0")
    assert not read(old).expects


# Limits


def padded(size: int) -> bytes:
    """A head whose empty line begins after exactly ``size`` bytes."""
    start = b"GET / HTTP/1.1\r\nHost: a\r\nX-A: "
    return start + b"a" * (size - len(start)) + b"\r\n\r\n"


def test_the_limit_of_a_head_is_exact_and_its_excess_is_431() -> None:
    assert len(read(padded(LIMIT)).lines) == 2
    assert refusal(padded(LIMIT + 1)) == (431, "head_too_large")


def test_the_limit_needs_no_end_of_head() -> None:
    assert refusal(padded(LIMIT + 10)[:-4]) == (431, "head_too_large")


def test_a_request_line_beyond_the_limit_is_414() -> None:
    data = b"GET /" + b"a" * LIMIT
    assert refusal(data) == (414, "request_line_too_long")
    assert refusal(data + b" HTTP/1.1\r\nHost: a\r\n\r\n") == (414, "request_line_too_long")


def test_a_stray_byte_is_found_before_the_limit_is() -> None:
    assert refusal(b"GET /\n" + b"a" * LIMIT) == (400, "stray_byte")


def test_a_head_that_ends_in_time_is_not_measured_with_what_follows() -> None:
    assert read(get() + b"x" * LIMIT).line.target == b"/"


def test_header_flood() -> None:
    lines = [b"X-%d: 1" % number for number in range(MAX_FIELDS - 1)]
    assert len(read(get(*lines)).lines) == MAX_FIELDS
    assert refusal(get(*lines, b"One: more")) == (431, "too_many_fields")


@pytest.mark.parametrize(
    "partial",
    [b"", b"G", b"GET / HTTP/1.1", b"GET / HTTP/1.1\r", b"GET / HTTP/1.1\r\nHost: a\r\n\r"],
)
def test_more_bytes_are_needed(partial: bytes) -> None:
    assert find_end(partial, 0, LIMIT) == -1


@pytest.mark.parametrize(
    "partial", [b"GET / HTTP/1.1\n", b"GET / HTTP/1.1\n\n", b"GET /\rX", b"GET /\x00", b"\n"]
)
def test_stray_bytes_are_not_waited_with(partial: bytes) -> None:
    with pytest.raises(ProtocolError) as caught:
        find_end(partial, 0, LIMIT)
    assert (caught.value.status, caught.value.reason) == (400, "stray_byte")


# What is sent on


def test_order_case_blanks_and_repetitions_survive() -> None:
    data = get(
        b"x-LOWER: 1", b"X-Upper:2", b"Cookie:  a=b ; c ", b"Set: 1", b"Cookie: d", b"set: 1",
        b"Content-Length: 3", b"TraceParent: 00-x", b"Expect: 100-continue", b"Trailer: Z",
        start=b"pOsT /A?b=%2F HTTP/1.1",
    )  # fmt: skip
    assert read(data).encode() == data


@pytest.mark.parametrize(
    ("lines", "sent"),
    [
        ((b"Connection: keep-alive", b"A: 1"), [b"A: 1"]),
        ((b"Connection: close",), []),
        ((b"Keep-Alive: timeout=5", b"A: 1"), [b"A: 1"]),
        ((b"Proxy-Connection: keep-alive",), []),
        ((b"Connection: x-a", b"X-A: 1", b"x-a: 2", b"X-B: 3"), [b"X-B: 3"]),
        ((b"X-A: 1", b"X-B: 3", b"Connection: close, X-A ,,\tx-c", b"X-C: 4"), [b"X-B: 3"]),
        ((b"Connection: a", b"Connection: b", b"A: 1", b"B: 2", b"C: 3"), [b"C: 3"]),
        ((b"Connection: not-there", b"A: 1"), [b"A: 1"]),
        # framing, the host and the trace cannot be nominated away
        ((b"Connection: host, content-length", b"Content-Length: 5"), [b"Content-Length: 5"]),
        ((b"Connection: Transfer-Encoding", b"Transfer-Encoding: chunked"),
         [b"Transfer-Encoding: chunked"]),
        ((b"Connection: traceparent, tracestate, baggage", b"traceparent: t", b"tracestate: s",
          b"baggage: b"),
         [b"traceparent: t", b"tracestate: s", b"baggage: b"]),
        # TE passes for trailers only, announced for the next connection (RFC 9110 section 10.1.4)
        ((b"TE: gzip", b"Connection: TE"), []),
        ((b"TE: gzip, Trailers", b"Connection: TE"), [b"TE: trailers", b"Connection: TE"]),
        ((b"TE: trailers", b"TE: trailers"), [b"TE: trailers", b"Connection: TE"]),
        ((b"TE: no-trailers",), []),
        # Upgrade is the transport's to offer again
        ((b"Connection: Upgrade", b"Upgrade: websocket", b"A: 1"), [b"A: 1"]),
    ],
)  # fmt: skip
def test_fields_of_this_connection_are_not_sent_on(
    lines: tuple[bytes, ...], sent: list[bytes]
) -> None:
    head = read(get(*lines))
    assert head.encode().split(b"\r\n")[1:-2] == [b"Host: a", *sent]


def test_upgrade_is_captured() -> None:
    assert read(get(b"Connection: Upgrade", b"Upgrade: websocket")).upgrade == b"websocket"
    assert read(get(b"Upgrade: a", b"Upgrade: b/1")).upgrade == b"a, b/1"
    # RFC 9110 section 7.8: ignored in HTTP/1.0
    old = get(b"Connection: Upgrade", b"Upgrade: websocket", start=b"GET / HTTP/1.0")
    assert read(old).upgrade == b""


def test_many_options_of_connection_are_all_taken() -> None:
    options = [b"x%d" % number for number in range(5000)]
    head = read(get(b"Connection: " + b",".join(options), b"X4999: a", b"X5000: b"))
    assert head.encode() == get(b"X5000: b")


def test_dropped_added_and_replaced() -> None:
    head = read(get(b"A: 1", b"traceparent: x", b"X-B3-TraceId: y", b"TraceParent: z", b"B: 2"))
    assert [head.lines[index] for index in head.marked] == [
        b"traceparent: x", b"X-B3-TraceId: y", b"TraceParent: z",
    ]  # fmt: skip
    head.drop(b"traceparent")
    head.drop(b"traceparent")
    head.added.append(b"traceparent: new")
    expected = get(
        b"A: 1", b"X-B3-TraceId: y", b"B: 2", b"traceparent: new", start=b"GET /x HTTP/1.1"
    )
    assert head.encode(b"GET /x HTTP/1.1") == expected


def test_forwarded_for_fields_are_pointed_out() -> None:
    head = read(get(b"X-Forwarded-For: 1.2.3.4", b"A: 1", b"x-forwarded-for: 5.6.7.8"))
    assert [head.fields[index].value for index in head.forwarded] == [b"1.2.3.4", b"5.6.7.8"]


# Memory


def test_known_lines_are_remembered_and_secrets_are_not() -> None:
    table = FieldTable([b"traceparent"], (), [b"traceparent"])
    lines = [
        b"Host: a", b"Accept: */*", b"Authorization: Bearer s", b"Cookie: s", b"X-Api-Key: s",
        b"traceparent: t", b"Long: " + b"a" * 300,
    ]  # fmt: skip
    block = b"\r\n".join((b"GET / HTTP/1.1", *lines))
    read_request(block, table, MAX_FIELDS)
    assert set(table) == {b"Host: a", b"Accept: */*"}


def test_the_memory_of_lines_is_bounded() -> None:
    table = FieldTable()
    for number in range(20_000):
        assert table[b"X-Id: %d" % number].value == b"%d" % number
    assert len(table) <= 4096


def test_long_request_lines_are_not_remembered() -> None:
    short, long = b"/" + b"s" * 100, b"/" + b"l" * 10_000
    for target, remembered in ((short, True), (long, False)):
        start = b"GET " + target + b" HTTP/1.1"
        same = read(get(start=start)).line is read(get(start=start)).line
        assert same is remembered
