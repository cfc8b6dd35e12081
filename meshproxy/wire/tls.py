"""The server name that a TLS client asks for (RFC 6066 section 3), read without decrypting."""

from __future__ import annotations

from typing import Final

MAX_CLIENT_HELLO: Final = 16384
"""More than this is not waited for; large post-quantum key shares are below 2 KiB."""

SERVER_NAME: Final = 0
HOST_NAME: Final = 0


def server_name(data: bytes) -> str | None:
    """The SNI in the ClientHello at the start of ``data``.

    The empty string when there is none or it cannot be read; None when more bytes are needed.
    """
    try:
        handshake = _handshake(data[:MAX_CLIENT_HELLO])
        if handshake is None:
            return None if len(data) < MAX_CLIENT_HELLO else ""
        return _from_client_hello(handshake)
    except (IndexError, ValueError):
        return ""


def _handshake(data: bytes) -> bytes | None:
    """The ClientHello message, put together from TLS records; None when it is not complete."""
    message = b""
    position = 0
    while len(message) < 4 or len(message) < 4 + int.from_bytes(message[1:4], "big"):
        if len(data) < position + 5:
            return None
        if data[position] != 0x16:
            raise ValueError("not a handshake record")
        length = int.from_bytes(data[position + 3 : position + 5], "big")
        if not 0 < length <= 16384 + 256:
            raise ValueError("record length")
        message += data[position + 5 : position + 5 + length]
        if len(data) < position + 5 + length:
            break
        position += 5 + length
    if message[:1] not in (b"", b"\x01"):
        raise ValueError("not a ClientHello")
    if len(message) < 4 or len(message) < 4 + int.from_bytes(message[1:4], "big"):
        return None
    return message[4 : 4 + int.from_bytes(message[1:4], "big")]


def _from_client_hello(hello: bytes) -> str:
    position = 2 + 32  # legacy_version, random
    position += 1 + hello[position]  # legacy_session_id
    position += 2 + int.from_bytes(hello[position : position + 2], "big")  # cipher_suites
    position += 1 + hello[position]  # legacy_compression_methods
    end = position + 2 + int.from_bytes(hello[position : position + 2], "big")
    position += 2
    while position + 4 <= min(end, len(hello)):
        kind = int.from_bytes(hello[position : position + 2], "big")
        length = int.from_bytes(hello[position + 2 : position + 4], "big")
        if kind == SERVER_NAME:
            return _host_name(hello[position + 4 : position + 4 + length])
        position += 4 + length
    return ""


def _host_name(extension: bytes) -> str:
    if len(extension) < 5 or extension[2] != HOST_NAME:
        return ""
    length = int.from_bytes(extension[3:5], "big")
    name = extension[5 : 5 + length]
    if len(name) < length:
        return ""
    return name.decode("ascii").lower()  # UnicodeDecodeError is a ValueError
