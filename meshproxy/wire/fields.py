"""Field lines of HTTP/1.1 messages: checked once, remembered, told apart (RFC 9110 section 5).

Most field lines that a service sees are the same bytes again and again. `FieldTable` keeps what it
found out about a line, so that a known line costs one look-up.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from meshproxy.wire.errors import ProtocolError

ORDINARY: Final = 0
MARKED: Final = 1
HOST: Final = 2
CONTENT_LENGTH: Final = 3
TRANSFER_ENCODING: Final = 4
CONNECTION: Final = 5
UPGRADE: Final = 6
EXPECT: Final = 7
TE: Final = 8
HOP_BY_HOP: Final = 9
FORWARDED_FOR: Final = 10
BAD_HOST: Final = 11
USER_AGENT: Final = 12

KINDS = {
    b"host": HOST,
    b"content-length": CONTENT_LENGTH,
    b"transfer-encoding": TRANSFER_ENCODING,
    b"connection": CONNECTION,
    b"upgrade": UPGRADE,
    b"expect": EXPECT,
    b"te": TE,
    b"keep-alive": HOP_BY_HOP,
    b"proxy-connection": HOP_BY_HOP,
    b"x-forwarded-for": FORWARDED_FOR,
    b"user-agent": USER_AGENT,
}
"""The names that a proxy itself has to act upon (hop by hop: RFC 9110 section 7.6.1)."""

SECRET: Final = frozenset(
    {b"authorization", b"cookie", b"set-cookie", b"proxy-authorization", b"x-api-key"}
)
"""Lines that are never remembered: their values are secrets, and differ anyhow."""

REMEMBERED_LINES: Final = 1024
REMEMBERED_LENGTH: Final = 256
"""Bounds of the memory: at most about 0.8 MB."""

NAME: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
"""token, RFC 9110 section 5.6.2."""

FORBIDDEN_IN_VALUE: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
"""Everything but field-vchar, SP, HTAB and obs-text, RFC 9110 section 5.5."""

URI_HOST = rb"(?:\[[0-9A-Za-z:.%_~-]+\]|[0-9A-Za-z!$%&'()*+\-.;=_~]+)"
HOST_VALUE: Final = re.compile(rb"(?:" + URI_HOST + rb")?(?::[0-9]*)?")
"""uri-host [ ":" port ], RFC 9110 section 7.2; a comma would look like two hosts in one line."""


DECIMAL: Final = re.compile(rb"[0-9]{1,18}")

NO_OPTIONS: Final[frozenset[bytes]] = frozenset()


class Field:
    """One field line: lower-case name, value without surrounding blanks, and its kind.

    ``options`` are the lower-case members of a Connection field, ``length`` is the value of a
    Content-Length field, or -1 when that is not one decimal number.
    """

    __slots__ = ("kind", "length", "name", "options", "value")

    def __init__(self, name: bytes, value: bytes, kind: int) -> None:
        self.name = name
        self.value = value
        self.kind = kind
        self.length = -1
        self.options = NO_OPTIONS
        if kind == CONTENT_LENGTH:
            if DECIMAL.fullmatch(value):
                self.length = int(value)
        elif kind == CONNECTION:
            self.options = frozenset(each.strip(b" \t") for each in value.lower().split(b","))

    def __repr__(self) -> str:
        return f"Field({self.name!r}, {self.value!r}, {self.kind})"


class FieldTable(dict[bytes, Field]):
    """Field line to `Field`; looking up a line that is not valid raises `ProtocolError`.

    ``marked`` are lower-case names that somebody above wants to see, ``marked_prefixes`` the
    beginnings of such names; ``fleeting`` are those among them whose values are hardly ever seen
    twice, so that they are not remembered.
    """

    def __init__(
        self,
        marked: Iterable[bytes] = (),
        marked_prefixes: tuple[bytes, ...] = (),
        fleeting: Iterable[bytes] = (),
    ) -> None:
        super().__init__()
        self._kinds = dict.fromkeys(marked, MARKED) | KINDS
        self._prefixes = marked_prefixes
        self._not_remembered = SECRET.union(fleeting)

    def __missing__(self, line: bytes) -> Field:
        field = self._classify(line)
        if len(line) <= REMEMBERED_LENGTH and field.name not in self._not_remembered:
            if len(self) >= REMEMBERED_LINES:
                self.clear()
            self[line] = field
        return field

    def _classify(self, line: bytes) -> Field:
        name, colon, value = line.partition(b":")
        if not colon or not NAME.fullmatch(name):
            raise _refusal(line, name, colon)
        if FORBIDDEN_IN_VALUE.search(value):
            raise ProtocolError(
                400, "field_value", f"Header {_shown(name)} holds a control character."
            )
        name = name.lower()
        kind = self._kinds.get(name, ORDINARY)
        value = value.strip(b" \t")
        if kind == HOST and not HOST_VALUE.fullmatch(value):
            kind = BAD_HOST
        if kind == ORDINARY and self._prefixes and name.startswith(self._prefixes):
            kind = MARKED
        return Field(name, value, kind)


def _refusal(line: bytes, name: bytes, colon: bytes) -> ProtocolError:
    """Say what is wrong with a line that is not ``token ":" value``."""
    if line[:1] in (b" ", b"\t"):
        return ProtocolError(400, "folded_line", "A header line starts with a blank.")
    if colon and name.rstrip(b" \t") != name:
        return ProtocolError(
            400, "blank_before_colon", f"A blank stands before the colon of {_shown(name)}."
        )
    return ProtocolError(400, "field_name", f"{_shown(name)} is no header name.")


def _shown(name: bytes) -> str:
    return ascii(name[:40].decode("latin-1"))
