"""What a proxy itself changes in the head of a request, beside what filters do."""

from __future__ import annotations

from meshproxy.filter import Exchange
from meshproxy.wire.fields import HOST
from meshproxy.wire.http1 import Request

UNSPOKEN = (b"h2c", b"h2c-settings")
"""Protocols that are not offered to an upstream, as they are not spoken here."""


def add_forwarded(request: Request, client: str, scheme: str) -> None:
    """X-Forwarded-For, and the scheme where TLS ends here."""
    before = [request.fields[index].value for index in request.forwarded]
    request.dropped += request.forwarded
    if before:
        request.added.append(b"X-Forwarded-For: " + b", ".join([*before, client.encode("ascii")]))
    else:
        request.added.append(b"X-Forwarded-For: " + client.encode("ascii"))
    if scheme == "https" and not request.first(b"x-forwarded-proto"):
        request.added.append(b"X-Forwarded-Proto: https")


def offer_upgrade(request: Request) -> None:
    """Upgrade is hop-by-hop, and yet passed on (RFC 9110 section 7.8)."""
    options = b",".join(request.values(b"connection")).lower().split(b",")
    asked = b"upgrade" in [option.strip(b" \t") for option in options]
    offers = [
        offer
        for offer in request.upgrade.split(b",")
        if asked and offer.strip(b" \t").lower() not in UNSPOKEN
    ]
    request.upgrade = b",".join(offers)
    if offers:
        request.added += (b"Connection: Upgrade", b"Upgrade: " + request.upgrade.strip(b" \t"))


def name_destination(exchange: Exchange, authority: bytes, rename: bool) -> None:
    """The client took us for the destination: give that its own name.

    ``rename``: in the Host field too, since the destination may be told apart by it.
    """
    exchange.authority = authority
    if rename:
        request = exchange.request
        for index, field in enumerate(request.fields):
            if field.kind == HOST:
                request.lines[index] = b"Host: " + authority
