"""First bytes of many protocols."""

from __future__ import annotations

import pytest

from meshproxy.wire.detect import HTTP2_PREFACE, MAX_LINE, Protocol, detect

HTTP = [
    b"GET / HTTP/1.1\r\n",
    b"GET / HTTP/1.0\r\n",
    b"CONNECT a:443 HTTP/1.1\r\n",
    b"PROPFIND / HTTP/1.1\r\n",
    b"BREW /pot HTTP/1.1\r\n",  # a method nobody has heard of
    b"get / HTTP/1.1\r\n",
    b"\r\nGET / HTTP/1.1\r\n",
    b"\r\n\r\nBREW / HTTP/1.1\r\n",
    # broken, but meant to be HTTP: it is to get its 400 or 505, not to be passed on unread
    b"GET /\r\n",
    b"GET / HTTP/1.1\n",
    b"GET  / HTTP/1.1\r\n",
    b"GET \x00",
    b"POST / http/1.1\r\n",
    b"BREW  HTTP/1.1\r\n",
    b"BREW / HTTP/1.1\n",
    b"BREW / HTTP/3.0\r\n",
    b"BREW /a b c HTTP/1.1\r\n",
    b"PRI * HTTP/2.0\r\n\r\nXX",
]

OPAQUE = {
    "SSH": b"SSH-2.0-OpenSSH_9.6\r\n",
    "SMTP": b"EHLO mail.example\r\n",
    "FTP": b"USER anonymous\r\n",
    "IMAP": b"a1 LOGIN u p\r\n",
    "HTTP answer": b"HTTP/1.1 200 OK\r\n",
    "Redis": b"*1\r\n$4\r\nPING\r\n",
    "Redis, inline": b"PING\r\n",
    "memcached": b"get key\r\n",
    "memcached, set": b"set key 0 0 5\r\nhello\r\n",
    "memcached, binary": b"\x80\x00\x00\x03\x00\x00\x00\x00",
    "MySQL handshake response": b"\x20\x00\x00\x01\x85\xa6\xff\x01",
    "Postgres SSLRequest": b"\x00\x00\x00\x08\x04\xd2\x16\x2f",
    "Postgres startup": b"\x00\x00\x00\x29\x00\x03\x00\x00user\x00a\x00",
    "Kafka": b"\x00\x00\x00\x23\x00\x12\x00\x03\x00\x00\x00\x01",
    "AMQP 0-9-1": b"AMQP\x00\x00\x09\x01",
    "MongoDB": b"\x41\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\xdd\x07",
    "NATS": b'CONNECT{"verbose":false}\r\n',
    "ZooKeeper": b"\x00\x00\x00\x2d\x00\x00\x00\x00",
    "MQTT": b"\x10\x13\x00\x04MQTT\x04\x02",
    "PROXY protocol": b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n",
    "TLS 1.x of an alien major version": b"\x16\x04\x00",
    "TLS alert": b"\x15\x03\x03\x00\x02",
    "text without end": b"x" * (MAX_LINE + 1),
    "empty lines without end": b"\r\n\r\n\r\n",
    "control characters": b"BREW \x00",
    "a method of 65 characters": b"A" * 65 + b" / HTTP/1.1\r\n",
}


@pytest.mark.parametrize("data", HTTP)
def test_http(data: bytes) -> None:
    assert detect(data) is Protocol.HTTP1


@pytest.mark.parametrize("data", OPAQUE.values(), ids=OPAQUE.keys())
def test_all_else_passes_unread(data: bytes) -> None:
    assert detect(data) is Protocol.OPAQUE


@pytest.mark.parametrize("minor", range(5))
def test_tls(minor: int) -> None:
    assert detect(bytes([0x16, 3, minor, 2, 0, 1])) is Protocol.TLS


def test_http2_with_prior_knowledge() -> None:
    assert detect(HTTP2_PREFACE) is Protocol.HTTP2
    assert detect(HTTP2_PREFACE + b"\x00\x00\x00\x04") is Protocol.HTTP2


@pytest.mark.parametrize(
    "data",
    [
        b"", b"G", b"GET", b"get /", b"BREW", b"BREW /", b"BREW / HTTP/1.1", b"BREW / HTTP/1.1\r",
        b"\r", b"\r\n", b"\r\n\r\n", b"\r\nGE", b"P", b"PRI", HTTP2_PREFACE[:-1], b"\x16",
        b"\x16\x03", b"x" * 64,
    ],
)  # fmt: skip
def test_more_bytes_are_needed(data: bytes) -> None:
    assert detect(data) is None


@pytest.mark.parametrize("data", [b"\x00", b"\x80", b"\x10", b"\xff", b"{", b":"])
def test_one_byte_that_cannot_begin_a_request_is_enough(data: bytes) -> None:
    assert detect(data) is Protocol.OPAQUE
