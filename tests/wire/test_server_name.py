"""The server name in ClientHellos, real ones and broken ones."""

from __future__ import annotations

import ssl
import struct

import pytest

from meshproxy.wire.detect import Protocol, detect
from meshproxy.wire.tls import MAX_CLIENT_HELLO, server_name


def client_hello(name: str | None, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> bytes:
    """What Python's own TLS sends first."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.maximum_version = version
    outgoing = ssl.MemoryBIO()
    connection = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        connection.do_handshake()
    return outgoing.read()


def records(hello: bytes, size: int) -> bytes:
    """The same handshake message in records of ``size`` bytes."""
    message = hello[5:]
    return b"".join(
        hello[:3] + struct.pack(">H", len(message[at : at + size])) + message[at : at + size]
        for at in range(0, len(message), size)
    )


def extension(kind: int, content: bytes) -> bytes:
    return struct.pack(">HH", kind, len(content)) + content


def name_extension(name: bytes, kind: int = 0) -> bytes:
    entry = struct.pack(">BH", kind, len(name)) + name
    return extension(0, struct.pack(">H", len(entry)) + entry)


def handmade(extensions: bytes, session: bytes = b"") -> bytes:
    """A ClientHello in one record, with these extensions."""
    hello = b"\x03\x03" + bytes(32) + bytes([len(session)]) + session + b"\x00\x02\x13\x01\x01\x00"
    hello += struct.pack(">H", len(extensions)) + extensions
    message = b"\x01" + len(hello).to_bytes(3, "big") + hello
    return b"\x16\x03\x01" + struct.pack(">H", len(message)) + message


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("name", ["a", "pricing.internal.example", "x" * 63 + ".example"])
def test_a_real_client(name: str, version: ssl.TLSVersion) -> None:
    hello = client_hello(name, version)
    assert detect(hello) is Protocol.TLS
    assert server_name(hello) == name


def test_a_real_client_that_names_nobody() -> None:
    assert server_name(client_hello(None)) == ""


@pytest.mark.parametrize("size", [1, 2, 3, 5, 50, 200])
def test_a_hello_in_several_records(size: int) -> None:
    hello = records(client_hello("a.example"), size)
    assert server_name(hello) == "a.example"
    assert server_name(hello[:-1]) is None


def test_bytes_behind_the_hello_do_not_matter() -> None:
    assert (
        server_name(client_hello("a.example") + b"\x14\x03\x03\x00\x01\x01garbage") == "a.example"
    )


def test_every_beginning_of_a_hello_asks_for_more() -> None:
    hello = client_hello("a.example")
    assert {server_name(hello[:size]) for size in range(len(hello))} == {None}


def test_the_name_is_found_among_other_extensions_and_in_lower_case() -> None:
    others = extension(0xFF01, b"\x00") + extension(16, b"\x00\x03\x02h2")
    assert server_name(handmade(others + name_extension(b"A.Example"), bytes(32))) == "a.example"


@pytest.mark.parametrize(
    "data",
    [
        handmade(b""),
        handmade(extension(16, b"\x00\x03\x02h2")),
        handmade(name_extension(b"a.example", kind=1)),
        handmade(name_extension(b"")),
        handmade(name_extension(b"caf\xc3\xa9")),
        handmade(extension(0, b"")),
        handmade(extension(0, b"\x00\x04\x00\x00\x09abc")),  # shorter than it says
        handmade(struct.pack(">HH", 0, 500) + b"\x00\x0c\x00\x00\x09a"),
        b"\x16\x03\x01\x00\x04\x01\x00\x00\x00",  # an empty hello
        b"\x16\x03\x01\x00\x26\x01\x00\x00\x22" + bytes(34),  # cut inside of its fields
        b"\x16\x03\x01\x00\x04\x02\x00\x00\x00",  # a ServerHello
        b"\x16\x03\x01\x00\x00",  # an empty record
        b"\x16\x03\x01\xff\xff",  # a record larger than there are
        b"\x17\x03\x03\x00\x05hello",
        b"GET / HTTP/1.1\r\n",
    ],
)
def test_no_name_or_none_that_can_be_read(data: bytes) -> None:
    assert server_name(data) == ""


def test_a_hello_without_end_is_not_waited_for() -> None:
    endless = b"\x16\x03\x01\x40\x00\x01\xff\xff\xff" + bytes(0x3FFC)
    assert server_name(endless[: MAX_CLIENT_HELLO - 1]) is None
    assert server_name(endless) == ""


def test_a_record_of_another_type_within_the_hello() -> None:
    hello = records(client_hello("a.example"), 50)
    assert server_name(hello[:55] + b"\x17" + hello[56:]) == ""
