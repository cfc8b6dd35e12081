"""Which protocol a connection speaks, told from its first bytes."""

from __future__ import annotations

import re
from enum import Enum
from typing import Final

MAX_LINE: Final = 8192
MAX_EMPTY_LINES: Final = 4
"""Bytes of CR and LF that are let pass before a request (RFC 9112 section 2.2)."""


class Protocol(Enum):
    """What a sidecar tells apart. HTTP/2 passes opaque until its codec is there."""

    HTTP1 = "http/1.1"
    HTTP2 = "h2c"
    TLS = "tls"
    OPAQUE = "opaque"


HTTP2_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""RFC 9113 section 3.4."""

METHODS = tuple(
    method + b" "
    for method in (
        b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"CONNECT", b"OPTIONS", b"TRACE", b"PATCH",
        b"PROPFIND", b"PROPPATCH", b"MKCOL", b"COPY", b"MOVE", b"LOCK", b"UNLOCK", b"REPORT",
        b"SEARCH", b"PURGE", b"QUERY",
    )
)  # fmt: skip
"""What begins with one of these is HTTP, also when the rest of its line is broken."""

REQUEST_START: Final = re.compile(
    rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,64} [^\r\n\x00]* HTTP/[0-9.]+\r?\n?"
)
MAYBE_METHOD: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,64}(?: [^\r\n\x00]*)?\r?")


def detect(data: bytes) -> Protocol | None:
    """The protocol of a client that began with ``data``; None when more bytes are needed."""
    if not data:
        return None
    if data.startswith(METHODS):
        return Protocol.HTTP1
    if data[0] == 0x16:
        return _tls(data)
    if HTTP2_PREFACE.startswith(data[: len(HTTP2_PREFACE)]):
        return Protocol.HTTP2 if len(data) >= len(HTTP2_PREFACE) else None
    text = data.lstrip(b"\r\n")
    if len(data) - len(text) > MAX_EMPTY_LINES:
        return Protocol.OPAQUE
    if not text:
        return None
    if text.startswith(METHODS):
        return Protocol.HTTP1
    line, newline, _ = text[: MAX_LINE + 1].partition(b"\n")
    if newline:
        return Protocol.HTTP1 if REQUEST_START.fullmatch(line + newline) else Protocol.OPAQUE
    if len(text) > MAX_LINE or not MAYBE_METHOD.fullmatch(text):
        return Protocol.OPAQUE
    return None


def _tls(data: bytes) -> Protocol | None:
    """A TLS record of type handshake, version 3.x (RFC 8446 section 5.1)."""
    if len(data) < 3:
        return None
    return Protocol.TLS if data[1] == 3 and data[2] <= 4 else Protocol.OPAQUE
