"""Tokens: the words of a text that look like ids.

Of the words themselves nothing is kept, only keyed hashes.
"""

from __future__ import annotations

from hashlib import blake2b
from itertools import filterfalse
from re import compile as pattern
from typing import Final

HEX: Final = 0
OPAQUE: Final = 1
LONG_NUMBER: Final = 2
CODE: Final = 3
NUMBER: Final = 4
SHORT: Final = 5
KINDS: Final = 6
"""What a token looks like: 16 or more hexadecimal digits, UUIDs among them; 16 or more letters and
digits; 8 or more digits; 8 to 15 letters and digits, 4 of them digits; 6 or 7 digits; the rest."""

KIND_MASK: Final = 7
"""The bits of the kind in a token whose lowest bit was shifted off."""

SHORTEST: Final = 6
LONGER: Final = 8
LONG: Final = 16
FEW_DIGITS: Final = 2
SOME_DIGITS: Final = 4
MOST_TOKENS: Final = 64
"""Tokens taken from one message."""

WORD_BYTES: Final = bytes(
    byte if byte in b"0123456789abcdefghijklmnopqrstuvwxyz-" else 0x20
    for byte in bytes(range(256)).lower()
)
"""Letters become lower case, since ids are written in both; all that separates becomes a blank."""

DIGITS: Final = b"0123456789"
HEX_DIGITS: Final = b"0123456789abcdef"
CALENDAR: Final = pattern(rb"(?:19|20)[0-9]{2}(?:0[1-9]|1[0-2])[0-3][0-9](?:t[0-9].*)?")
NEAR_S: Final = 400 * 86_400
"""Numbers so close to now, in seconds or milliseconds since 1970, are times, and no ids."""


class Tokens:
    """Finds the tokens of a text. ``key``: 16 to 64 secret random bytes.

    A token is a number of 60 bits: a hash of the word, its kind, and in the lowest bit whether it
    is a user's.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key

    def read(self, text: bytes, now_ns: int, *, user: bool = False, cut: bool = False) -> list[int]:
        """The first tokens of ``text``, each once.

        ``now_ns`` (Unix nanoseconds) tells times from ids. ``user``: whatever stands here belongs
        to a user rather than to a request. ``cut``: the last word may be the half of one.
        """
        words = text.translate(WORD_BYTES).split()
        if cut and words:
            words.pop()
        found: dict[bytes, int] = {}
        now_s = now_ns // 1_000_000_000
        for word in filterfalse(bytes.isalpha, words):
            if len(word) < SHORTEST:
                continue
            bare = word.replace(b"-", b"")  # UUIDs are written with and without
            kind = _kind(bare, now_s)
            if kind >= 0:
                found[bare] = kind
                if len(found) == MOST_TOKENS:
                    break
        return [self._token(bare, kind, user) for bare, kind in found.items()]

    def _token(self, bare: bytes, kind: int, user: bool) -> int:
        # The key in front is as good as BLAKE2's own keying, and costs half.
        digest = blake2b(self._key + bare).digest()
        return int.from_bytes(digest[:7], "little") << 4 | kind << 1 | user


def _kind(bare: bytes, now_s: int) -> int:
    """What a word looks like; -1 when it is no token."""
    size = len(bare)
    if size < SHORTEST:
        return -1
    if bare.startswith((b"19", b"20")) and CALENDAR.fullmatch(bare):
        return -1
    if bare.isdigit():
        if size in (10, 13) and abs(int(bare[:10]) - now_s) < NEAR_S:
            return -1
        if size < LONG:
            return NUMBER if size < LONGER else LONG_NUMBER
    digits = size - len(bare.translate(None, DIGITS))
    if digits < FEW_DIGITS:
        return -1
    if size < LONG:
        return SHORT if size < LONGER or digits < SOME_DIGITS else CODE
    return OPAQUE if bare.translate(None, HEX_DIGITS) else HEX
