"""What of an HTTP message is looked at for tokens, and what of that belongs to a user."""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode
from functools import lru_cache
from typing import Final
from urllib.parse import unquote_to_bytes

from meshproxy.linking.tokens import Tokens
from meshproxy.wire.fields import ORDINARY
from meshproxy.wire.http1 import Head, Request, Response

PEEK: Final = 1024
"""Bytes of a body that are looked at; what `Exchange.peek` is to be set to."""

TARGET_BYTES: Final = 1024
VALUE_BYTES: Final = 512
CREDENTIAL_BYTES: Final = 2048
"""How much is looked at of a request target, of a header value, and of a cookie or token."""

NOTHING: Final = 0
OWN: Final = 1
USERS: Final = 2
CREDENTIALS: Final = 3
TYPE: Final = 4
CODING: Final = 5
"""What a header field is good for."""

ROLES: Final = {
    b"authorization": CREDENTIALS,
    b"cookie": USERS,
    b"content-type": TYPE,
    b"content-encoding": CODING,
    b"idempotency-key": OWN,
    b"location": OWN,
}

OF_TRANSPORT: Final = re.compile(
    rb"x-(?:forwarded|envoy|b3|amzn?|cache|ratelimit|served|powered|content-type|real-ip|timer)\b.*"
    rb"|.*(?:trace|span|request-?id|correlation|version|time|start|host|hash|digest).*"
)
"""Fields that proxies and libraries add, that stand for a moment or a machine, or that another rung
of the ladder reads."""

OF_USERS: Final = re.compile(
    rb".*\b(?:auth|token|session|user|tenant|account|customer|client|device|api-?key|csrf|xsrf|org)"
    rb".*"
)
OF_REQUESTS: Final = re.compile(rb"x-.+|.+-(?:id|key)")

TEXTUAL: Final = re.compile(rb"text/|[^;]*(?:json|xml|graphql|urlencoded)")

CLAIM: Final = re.compile(rb'"(jti|sub)"\s*:\s*"([^"]{1,128})"')
"""The id of a JSON Web Token and the user that it is about (RFC 7519 section 4.1)."""


class Parts:
    """The texts of a head that are worth reading.

    ``own`` belongs to the message, ``users`` to whoever sent it. ``textual``: the body is text that
    can be read as it is; ``form``: percent-encoded.
    """

    __slots__ = ("form", "own", "textual", "users")

    def __init__(self, head: Head) -> None:
        self.own: list[bytes] = []
        self.users: list[bytes] = []
        self.textual = True
        self.form = False
        for field in head.fields:
            if field.kind == ORDINARY:
                role = _role(field.name)
                if role != NOTHING:
                    self._add(role, field.value)

    def _add(self, role: int, value: bytes) -> None:
        if role == OWN:
            self.own.append(value[:VALUE_BYTES])
        elif role == USERS:
            self.users.append(value[:CREDENTIAL_BYTES])
        elif role == CREDENTIALS:
            self.users.append(value[:CREDENTIAL_BYTES])
            self._add_claims(value)
        elif role == CODING:
            self.textual = self.textual and value.lower() == b"identity"
        else:
            self.form = b"urlencoded" in value
            self.textual = self.textual and TEXTUAL.match(value.lower()) is not None

    def _add_claims(self, value: bytes) -> None:
        """What a bearer token in the form of a JWT says of itself; it is not verified."""
        parts = value.split(b".")
        if len(parts) != 3 or len(parts[1]) > CREDENTIAL_BYTES:
            return
        try:
            claims = urlsafe_b64decode(parts[1] + b"==")
        except ValueError:
            return
        for name, text in CLAIM.findall(claims):
            (self.own if name == b"jti" else self.users).append(text)


@lru_cache(512)
def _role(name: bytes) -> int:
    role = ROLES.get(name)
    if role is not None:
        return role
    if OF_TRANSPORT.fullmatch(name) or not OF_REQUESTS.fullmatch(name):
        return NOTHING
    return USERS if OF_USERS.fullmatch(name) else OWN


def request_tokens(tokens: Tokens, request: Request, body: bytes, now_ns: int) -> list[int]:
    """The tokens of a request: target, some header fields, and the beginning of its body."""
    target = request.line.target[:TARGET_BYTES]
    if b"%" in target:
        target = unquote_to_bytes(target)
    return _read(tokens, request, target, body, now_ns)


def response_tokens(tokens: Tokens, response: Response, body: bytes, now_ns: int) -> list[int]:
    """The tokens of an answer: Location, some other fields, and the beginning of its body."""
    return _read(tokens, response, b"", body, now_ns)


def body_tokens(tokens: Tokens, head: Head, body: bytes, now_ns: int) -> list[int]:
    """The tokens of a body that came later than its head."""
    shown = _body(head, Parts(head), body)
    return tokens.read(shown, now_ns, cut=_is_cut(head, body))


def _read(tokens: Tokens, head: Head, first: bytes, body: bytes, now_ns: int) -> list[int]:
    parts = Parts(head)
    shown = _body(head, parts, body)
    text = b" ".join((first, *parts.own, shown))
    found = tokens.read(text, now_ns, cut=bool(shown) and _is_cut(head, body))
    if parts.users:
        # First, since a value that stands in both is the user's.
        return tokens.read(b" ".join(parts.users), now_ns, user=True) + found
    return found


def _body(head: Head, parts: Parts, body: bytes) -> bytes:
    if not body or not parts.textual:
        return b""
    body = body[:PEEK]
    return unquote_to_bytes(body) if parts.form and b"%" in body else body


def _is_cut(head: Head, body: bytes) -> bool:
    """Whether the body goes on after what is looked at of it."""
    return len(body) >= PEEK or (head.length or 0) > len(body)
