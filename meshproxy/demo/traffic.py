"""The requests that the demo sends, and what must come of them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import aiohttp

from meshproxy.demo.processes import DemoError
from meshproxy.demo.tree import SpanRecord, build, index

REQUEST_TIMEOUT = aiohttp.ClientTimeout(total=15)
_NUMBER = re.compile(r"/(\d+)$")


@dataclass(frozen=True)
class Request:
    """One request into the mesh.

    ``hops`` counts the requests and messages that services receive for it.
    """

    path: str
    hops: int
    about: str

    @property
    def number(self) -> str:
        """The order number: ends the path of every call, and is the key of every message, of it."""
        return number_of(self.path)

    @property
    def spans(self) -> int:
        """A SERVER or CONSUMER span a hop, and a CLIENT or PRODUCER span for each but the first."""
        return 2 * self.hops - 1


SEQUENTIAL = (
    Request("/checkout/1001?coupon=SPRING", 10, "a retry, a slow hop, an error at the end"),
    Request("/checkout/1002", 8, "the same without retry and coupon"),
    Request("/quote/1003", 4, "two calls at the same time"),
)
"""Sent one after another: exactly one request in flight at each service."""

BURST = (
    Request("/checkout/2001", 9, "with a retry"),
    Request("/checkout/2002", 8, ""),
    Request("/checkout/2003", 8, ""),
)
"""Sent at once: several in flight, and nothing in the calls tells whose they are."""


def number_of(url: str) -> str:
    """The order number at the end of a URL's path, or nothing.

    It is the demo's ground truth, to check trees with. The sidecars make no use of it.
    """
    found = _NUMBER.search(urlsplit(url).path)
    return found[1] if found else ""


def order_of(span: SpanRecord) -> str:
    """The order number that a span is about."""
    if span.message_key:
        return span.message_key
    url = span.attributes.get("url.path") or span.attributes.get("url.full") or ""
    return number_of(str(url))


async def send_all(entry: str, received: Callable[[int], Awaitable[None]]) -> None:
    """Send the sequential requests, then the burst. Raises `DemoError` unless all answer 200.

    What messages cause goes on after the answer: ``received`` waits until services have dealt with
    so many requests and messages in all.
    """
    hops = 0
    async with aiohttp.ClientSession(timeout=REQUEST_TIMEOUT) as session:
        for request in SEQUENTIAL:
            await _send(session, entry, request)
            hops += request.hops
            await received(hops)
        await asyncio.gather(*(_send(session, entry, request) for request in BURST))
    await received(hops + sum(request.hops for request in BURST))


async def _send(session: aiohttp.ClientSession, entry: str, request: Request) -> None:
    try:
        async with session.get(entry + request.path) as response:
            body = await response.text()
    except (aiohttp.ClientError, TimeoutError) as error:
        raise DemoError(f"GET {request.path} failed: {error or type(error).__name__}") from error
    if response.status != 200:
        raise DemoError(f"GET {request.path} was answered {response.status}: {body[:200]}")


def tree_problems(requests: Iterable[Request], spans: Sequence[SpanRecord]) -> list[str]:
    """Why a request did not become one whole tree, in words; empty if all did."""
    problems = []
    for request in requests:
        own = [span for span in index(spans).values() if order_of(span) == request.number]
        if len(own) != request.spans:
            problems.append(f"{request.path}: {len(own)} spans came in, not {request.spans}")
        traces = {span.trace_id for span in own}
        roots = build(span for span in spans if span.trace_id in traces)
        if len(roots) != 1:
            problems.append(f"{request.path}: {len(roots)} trees, not 1")
        problems += [
            f"{request.path}: {root.flaw}: {root.span.name}" for root in roots if root.flaw
        ]
    return problems


def wrong_edges(spans: Sequence[SpanRecord]) -> list[str]:
    """Edges between spans of different requests: what must never happen."""
    known = index(spans)
    wrong = []
    for span in known.values():
        parent = known.get(span.parent_key) if span.parent_key else None
        if parent is not None and order_of(parent) != order_of(span):
            wrong.append(
                f"{span.service} {span.kind.name} of {order_of(span)} hangs under"
                f" {parent.service} {parent.kind.name} of {order_of(parent)}"
            )
    return wrong
