"""Span names and attributes by the HTTP semantic conventions (stable), and their old names."""

from __future__ import annotations

import re
from typing import Final

from filters.shared import Pairs
from meshproxy.filter import Exchange

METHODS: Final = frozenset(
    {"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE", "QUERY"}
)
OTHER_METHOD: Final = "_OTHER"

SECRET_PARAMETERS: Final = re.compile(
    r"(?<![^&])(AWSAccessKeyId|Signature|sig|X-Goog-Signature|X-Amz-Signature|X-Amz-Credential|"
    r"X-Amz-Security-Token)=[^&]*"
)
"""Query parameters whose values are credentials (semantic conventions, url.query)."""

DEFAULT_PORTS = {"http": 80, "https": 443}

OLD_NAMES = {
    "http.request.method": "http.method",
    "http.response.status_code": "http.status_code",
    "url.scheme": "http.scheme",
    "url.full": "http.url",
    "user_agent.original": "http.user_agent",
    "network.protocol.version": "http.flavor",
    "network.peer.address": "net.sock.peer.addr",
    "network.peer.port": "net.sock.peer.port",
    "client.address": "http.client_ip",
}
OLD_SERVER_NAMES = {"server.address": "net.host.name", "server.port": "net.host.port"}
OLD_CLIENT_NAMES = {"server.address": "net.peer.name", "server.port": "net.peer.port"}


LONGEST_NAME: Final = 512
"""Bytes of a Host or User-Agent, or of a forwarded client address, that become an attribute."""

LONGEST_TARGET: Final = 4096
"""Characters of a path, and of a query, that become an attribute."""


def bounded(value: bytes) -> bytes:
    """A header value, cut when it is longer than any real one."""
    return value if len(value) <= LONGEST_NAME else value[:LONGEST_NAME]


def method_of(raw: bytes) -> tuple[str, str]:
    """``http.request.method``, and the original when that is not a known method."""
    method = raw.decode("latin-1")
    return (method, "") if method in METHODS else (OTHER_METHOD, method)


def span_name(method: str, route: str) -> str:
    """``{method} {route}``; HTTP stands for an unknown method."""
    verb = "HTTP" if method == OTHER_METHOD else method
    return f"{verb} {route}" if route else verb


def host_and_port(authority: bytes, scheme: str) -> tuple[str, int]:
    """server.address and server.port of a Host field."""
    host, colon, port = authority.decode("latin-1").rpartition(":")
    if not colon or (":" in host and not host.endswith("]")) or port.strip("0123456789"):
        host, port = authority.decode("latin-1"), ""
    return host.strip("[]"), int(port[:5]) if port else DEFAULT_PORTS[scheme]


def redacted(query: str) -> str:
    """A query without the values of known credentials."""
    return SECRET_PARAMETERS.sub(r"\1=REDACTED", query) if query else ""


def client_address(exchange: Exchange) -> str:
    """Who really sent the request, as far as proxies before us say (X-Forwarded-For)."""
    request = exchange.request
    if request.forwarded:
        first = request.fields[request.forwarded[0]].value.partition(b",")[0].strip(b" \t")
        if first:
            return bounded(first).decode("latin-1")
    return exchange.client[0]


def captured(exchange: Exchange, request: tuple[bytes, ...], response: tuple[bytes, ...]) -> Pairs:
    """The configured header fields, as lists of values."""
    pairs: Pairs = []
    for name in request:
        values = exchange.request.values(name)
        if values:
            pairs.append((f"http.request.header.{name.decode()}", _texts(values)))
    if exchange.response is not None:
        for name in response:
            values = exchange.response.values(name)
            if values:
                pairs.append((f"http.response.header.{name.decode()}", _texts(values)))
    return pairs


def _texts(values: list[bytes]) -> list[str]:
    return [value.decode("utf-8", "replace") for value in values]


def with_old_names(pairs: Pairs, old: dict[str, str]) -> Pairs:
    """The same, and again under the names before stability (``http/dup``)."""
    return [*pairs, *((old[key], value) for key, value in pairs if key in old)]
