"""The ``baggage`` header (W3C Baggage): application data that travels with a trace.

What arrives is handed on as it came, in order and with duplicates. Only what cannot be a member at
all (no token before a ``=``, control characters) and what exceeds the limits is left out; values
that bend the grammar, such as raw UTF-8 or quotes, belong to the application and stay.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple
from urllib.parse import quote, unquote_to_bytes

MAX_MEMBERS: Final = 64
MAX_BYTES: Final = 8192
"""What everybody has to propagate (W3C Baggage, section 3.3.2); what is beyond is dropped."""

_BLANKS: Final = b" \t"
_KEY = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_is_key = re.compile(_KEY).fullmatch
_is_member = re.compile(_KEY + rb"[ \t]*=[^\x00-\x08\x0a-\x1f\x7f]*").fullmatch
_PLAIN_MEMBER = _KEY + rb"=[!-+\--~\x80-\xff]*"
_is_plain_list = re.compile(_PLAIN_MEMBER + rb"(?:," + _PLAIN_MEMBER + rb")*").fullmatch
"""A list that is already as it would be sent: no blanks, no empty members."""

_UNQUOTED: Final = "!#$&'()*+-./:<=>?@[]^_`{|}~"
"""What a value may hold as it is (baggage-octet), less the percent sign."""


class Entry(NamedTuple):
    """One member: its value decoded, its properties (``a=1;b``) as they came."""

    key: str
    value: str
    properties: str


def parse(values: Sequence[bytes]) -> tuple[Entry, ...]:
    """Read all ``baggage`` headers, within the limits, in order and with duplicates.

    Percent-encoding is decoded; what is not UTF-8 becomes U+FFFD.
    """
    return tuple(map(_entry, _within_limits(_members(b",".join(values)))))


def normalise(values: Sequence[bytes]) -> bytes:
    """Give the one header value to send on; empty when nothing is left to send."""
    joined = values[0] if len(values) == 1 else b",".join(values)
    if len(joined) <= MAX_BYTES and joined.count(b",") < MAX_MEMBERS and _is_plain_list(joined):
        return joined
    return b",".join(_within_limits(_members(joined)))


def get(value: bytes, key: str) -> str | None:
    """Give the decoded value of the first member with this key; None when there is none."""
    if key.encode() not in value:
        return None
    return next((entry.value for entry in parse([value]) if entry.key == key), None)


def member(key: bytes, value: bytes) -> bytes | None:
    """Make a member of a key and a plain (not encoded) value; None when the key is no token."""
    return key + b"=" + quote(value, safe=_UNQUOTED).encode() if _is_key(key) else None


def merge(value: bytes, members: Sequence[bytes]) -> bytes:
    """Append members whose keys are not there yet, within the limits."""
    present = {_key(existing) for existing in value.split(b",")}
    added = [new for new in members if _key(new) not in present]
    return normalise([value, *added]) if added else value


def _members(joined: bytes) -> Iterable[bytes]:
    return filter(_is_member, (part.strip(_BLANKS) for part in joined.split(b",")))


def _within_limits(members: Iterable[bytes]) -> list[bytes]:
    """Keep the members that fit; one that is too long does not take those after it along."""
    kept: list[bytes] = []
    room = MAX_BYTES + 1
    for candidate in members:
        if len(candidate) < room:
            kept.append(candidate)
            room -= len(candidate) + 1
            if len(kept) == MAX_MEMBERS:
                break
    return kept


def _key(item: bytes) -> bytes:
    return item.partition(b"=")[0].strip(_BLANKS)


def _entry(item: bytes) -> Entry:
    key, _, rest = item.partition(b"=")
    value, _, properties = rest.partition(b";")
    return Entry(
        key.rstrip(_BLANKS).decode("ascii"),
        unquote_to_bytes(value.strip(_BLANKS)).decode("utf-8", "replace"),
        properties.strip(_BLANKS).decode("latin-1"),
    )
