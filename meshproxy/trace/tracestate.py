"""The ``tracestate`` header (W3C Trace Context level 2, section 3.3): an ordered list of members.

Members are kept as they are, duplicates of a key included: cleaning up is not a proxy's business,
and whoever did not change ``traceparent`` must not change ``tracestate``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

MAX_MEMBERS: Final = 32
"""A longer list is discarded (section 3.3.1.1)."""

MAX_LENGTH: Final = 512
"""Characters that everybody has to propagate (section 3.3.1.5); longer lists are cut to this."""

_LARGE_MEMBER: Final = 128
"""Members longer than this go first when a list is cut (section 3.3.1.5)."""

_BLANKS: Final = " \t"
_KEY = r"[a-z0-9][a-z0-9_\-*/@]{0,255}"
_VALUE = r"[ -+\--<>-~]{0,255}[!-+\--<>-~]"
_is_key = re.compile(_KEY).fullmatch
_is_value = re.compile(_VALUE).fullmatch
_is_member = re.compile(f"{_KEY}={_VALUE}").fullmatch
_is_plain_list = re.compile(f"{_KEY}={_VALUE}(?:,{_KEY}={_VALUE})*").fullmatch
"""A list that is already as it would be sent: no blanks around members, no empty ones."""


def parse(values: Sequence[bytes]) -> str:
    """Join the values of all ``tracestate`` headers into one list, as it is sent on.

    Empty members are dropped. Empty when there is nothing, or when an illegal member or more than
    32 of them make the whole list void (section 4.3, step 10).
    """
    text = (values[0] if len(values) == 1 else b",".join(values)).decode("latin-1")
    if len(text) <= MAX_LENGTH and text.count(",") < MAX_MEMBERS and _is_plain_list(text):
        return text
    members = _members(text)
    if len(members) > MAX_MEMBERS or not all(map(_is_member, members)):
        return ""
    return ",".join(_cut(members))


def get(tracestate: str, key: str) -> str | None:
    """Give the value of the leftmost member with this key; None when there is none."""
    prefix = key + "="
    for member in tracestate.split(","):
        if member.startswith(prefix):
            return member[len(prefix) :]
    return None


def put(tracestate: str, key: str, value: str) -> str:
    """Set a member: it goes leftmost, and other members make room (section 3.5).

    Raises ValueError when the key or the value is not legal.
    """
    if not _is_key(key) or not _is_value(value):
        raise ValueError(f"not a legal tracestate member: {key!r}={value!r}")
    own = f"{key}={value}"
    rest = remove(tracestate, key)
    if not rest:
        return own
    others = rest.split(",")[: MAX_MEMBERS - 1]
    return ",".join((own, *_cut(others, room=MAX_LENGTH - len(own) - 1)))


def remove(tracestate: str, key: str) -> str:
    """Take out all members with this key."""
    prefix = key + "="
    if prefix not in tracestate:
        return tracestate
    return ",".join(m for m in tracestate.split(",") if not m.startswith(prefix))


def _members(text: str) -> list[str]:
    return [stripped for member in text.split(",") if (stripped := member.strip(_BLANKS))]


def _cut(members: list[str], room: int = MAX_LENGTH) -> list[str]:
    """Drop whole members until the list fits: large ones first, each kind from the right."""
    excess = sum(map(len, members)) + len(members) - 1 - room
    kept = list(members)
    for dropped_first in (_LARGE_MEMBER, 0):
        for index in range(len(kept) - 1, -1, -1):
            if excess <= 0:
                return kept
            if len(kept[index]) > dropped_first:
                excess -= len(kept.pop(index)) + 1
    return kept
