"""The syntax of texts in a configuration, by the ``kind`` that the model gives them.

A check raises ValueError with a message for people. No message repeats a value: it may be secret.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from urllib.parse import urlsplit

from meshproxy.config.values import Address

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""RFC 9110, section 5.6.2."""

_SEGMENT = re.compile(r"\{[A-Za-z_][A-Za-z0-9_]*\}|[^{}]*")
_PATH_CHARACTERS = re.compile(r"[\x21\x24-\x3e\x40-\x7e]*")


def check(kind: str, text: str) -> None:
    """Raise ValueError, with a message for people, when ``text`` is not of this ``kind``."""
    _CHECKS[kind](text)


def _listen(text: str) -> None:
    Address.parse_listen(text)


def _upstream(text: str) -> None:
    Address.parse(text)


def _token(text: str) -> None:
    if not _TOKEN.fullmatch(text):
        raise ValueError("must be a token: letters, digits and !#$%&'*+-.^_`|~ only")


def _header_value(text: str) -> None:
    if text.strip(" \t") != text:
        raise ValueError("must not begin or end with a blank")
    if not text.isascii() or any(c != "\t" and not c.isprintable() for c in text):
        raise ValueError("must be printable ASCII: no line breaks, no control characters")


def _url(text: str) -> None:
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("must be a URL of printable ASCII characters without blanks")
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError("must be a URL with a valid host and port") from None
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise ValueError('must be a URL that begins with "http://" or "https://"')
    if not host or port == 0:
        raise ValueError("must be a URL with a valid host and port")
    if parts.fragment:
        raise ValueError("must be a URL without a fragment (#…)")


def _route_template(text: str) -> None:
    if not text.startswith("/"):
        raise ValueError('must begin with "/"')
    if not _PATH_CHARACTERS.fullmatch(text):
        raise ValueError('must be a path without blanks, "?" and "#"')
    segments = text[1:].split("/")
    if "*" in segments[:-1]:
        raise ValueError('"*" stands for all that follows: it must be the last segment')
    if not all(_SEGMENT.fullmatch(segment) for segment in segments):
        raise ValueError('a placeholder must be a whole segment, such as "/users/{id}"')
    names = [segment for segment in segments if segment.startswith("{")]
    if len(set(names)) < len(names):
        raise ValueError("names a placeholder twice")


def _path_pattern(text: str) -> None:
    if not text.startswith(("/", "*")):
        raise ValueError('must begin with "/" or "*"')
    if not _PATH_CHARACTERS.fullmatch(text):
        raise ValueError('must be a path without blanks, "?" and "#"')


def _destination(text: str) -> None:
    try:
        if text.startswith("*."):
            _upstream(f"{text[2:]}:1")
        elif text.count(":") > 1 and not text.startswith("["):
            ipaddress.IPv6Address(text)
        else:
            _upstream(text if ":" in text else f"{text}:1")
    except ValueError:
        raise ValueError('must be a host, "*.domain" or "host:port"') from None


_CHECKS: dict[str, Callable[[str], None]] = {
    "listen": _listen,
    "upstream": _upstream,
    "header name": _token,
    "header value": _header_value,
    "baggage key": _token,
    "method": _token,
    "url": _url,
    "route template": _route_template,
    "path pattern": _path_pattern,
    "destination": _destination,
}
