"""What the demo prints, as lines. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from meshproxy.demo.mesh import CALLS, CONSUMER, Access, Mesh
from meshproxy.demo.paint import Palette
from meshproxy.demo.traffic import BURST, SEQUENTIAL, Request, number_of, order_of
from meshproxy.demo.tree import (
    WIDTH,
    Key,
    Node,
    SpanRecord,
    build,
    fit,
    index,
    mended_by_evidence,
    render,
)
from meshproxy.trace.span import Kind


def opening(palette: Palette) -> Iterator[str]:
    """What is going to happen."""
    yield palette.bold("meshproxy demo")
    yield from paragraph(
        f"{len(CALLS)} plain services, each a process of its own, and a Kafka broker. No service"
        " knows of tracing or passes on a trace header, in requests or in messages. (payments"
        " copies X-Request-Id, as many services do for their logs.)"
    )
    yield ""
    yield "  gateway ─┬─ orders ─┬─ inventory"
    yield "           │          ├─ pricing (slow)"
    yield "           │          ├─ payments (first 503, then works) ── ledger"
    yield "           │          └─ Kafka topic shipments ── shipping ── carriers"
    yield "           └─ coupons (always 500)"
    yield ""
    yield "  threads: gateway, inventory, payments, ledger, carriers"
    yield "  asyncio: orders, pricing, coupons"
    yield "  a loop over messages, each committed when it is done: shipping"
    yield ""


def fragment_count(records: Sequence[Access]) -> int:
    """How many traces a tracer at each service would have made of these requests."""
    received = {record.traceparent[3:35] for record in records if record.traceparent}
    return sum(1 for record in records if not record.traceparent) + len(received)


def fragments(records: Sequence[Access], palette: Palette) -> Iterator[str]:
    """What a tracer at each service would have seen without meshproxy."""
    yield palette.bold("Without meshproxy: what a tracer in each service would see")
    for request in SEQUENTIAL:
        own = [record for record in records if number_of(record.path) == request.number]
        own.sort(key=lambda record: record.time)
        yield ""
        yield f"GET {request.path}: {fragment_count(own)} fragments, nothing connects them"
        for record in own:
            name = fit(f"  {record.service} {record.method} {record.path}", 38)
            context = f"traceparent received: {record.traceparent or 'none'}"
            yield f"{name} {record.status or 'msg'}{record.duration_ms:>9.1f} ms  {context}"
    yield ""


def trees(spans: Sequence[SpanRecord], palette: Palette) -> Iterator[str]:
    """One tree a sequential request, then what became of the burst."""
    yield palette.bold("With meshproxy: the same requests, the same services, a sidecar for each")
    yield from paragraph(
        "A ~ marks an edge that the service had broken and its sidecar mended, with the evidence"
        " and how sure it is. Where it says kafka, a message went through the broker."
    )
    known = index(spans)
    for request in SEQUENTIAL:
        yield ""
        yield from _request(f"GET {request.path}", request, spans, known, palette)
    yield ""
    yield palette.bold(f"{len(BURST)} checkouts at the same time")
    yield from paragraph(
        "Now several requests are in flight. Where nothing proves which of them caused a call, the"
        " sidecar does not guess: the call starts a trace of its own (?), which links the"
        " candidates."
    )
    yield ""
    yield from _request(f"GET {BURST[0].path}, one of them", BURST[0], spans, known, palette)
    yield ""
    yield from _polls(known)
    yield ""


def _polls(known: Mapping[Key, SpanRecord]) -> Iterator[str]:
    """What the trees leave out."""
    polls = [span for span in known.values() if span.is_poll]
    linked = {link.key for poll in polls for link in poll.links} & known.keys()
    yield from paragraph(
        f"Not shown: {plural(len(polls), 'poll span')} of {CONSUMER}. A poll may bring messages of"
        " many requests, so that it is a trace of its own; these link to the"
        f" {plural(len(linked), 'message')} that they brought."
    )


def _request(
    title: str,
    request: Request,
    spans: Sequence[SpanRecord],
    known: Mapping[Key, SpanRecord],
    palette: Palette,
) -> Iterator[str]:
    own = {span.trace_id for span in spans if order_of(span) == request.number}
    roots = build(span for span in spans if span.trace_id in own)
    about = f" ({request.about})" if request.about else ""
    yield f"{title}{about}: {plural(len(roots), 'tree')}"
    yield from forest(roots, known, palette)


def forest(
    roots: Sequence[Node], known: Mapping[Key, SpanRecord], palette: Palette
) -> Iterator[str]:
    """The lines of several trees; polls that caused nothing are left out."""
    for root in roots:
        if root.children or not root.span.is_poll:
            yield from render(root, known, palette)


def summary(
    before: Sequence[Access],
    after: Sequence[Access],
    spans: Sequence[SpanRecord],
    wrong: Sequence[str],
    gaps: Sequence[Mapping[str, Any]],
    palette: Palette,
) -> Iterator[str]:
    """Before and after in figures, and where the chains broke."""
    yield palette.bold("Summary")
    for title, requests in (
        (f"{len(SEQUENTIAL)} requests one after another", SEQUENTIAL),
        (f"{len(BURST)} requests at the same time", BURST),
    ):
        numbers = {request.number for request in requests}
        records = [record for record in before if number_of(record.path) in numbers]
        roots = build(span for span in spans if order_of(span) in numbers)
        broken = plural(fragment_count(records), "fragment")
        yield _figure(title, f"{broken} before, {plural(len(roots), 'tree')} after")
    yield _figure(
        "hops that received a context",
        f"{_with_context(before)} before, {_with_context(after)} after",
    )
    mended = mended_by_evidence(spans)
    by_evidence = ", ".join(f"{count} by {evidence}" for evidence, count in mended.items())
    yield _figure("edges mended", f"{sum(mended.values())} ({by_evidence or 'none'})")
    yield _figure("edges left open, candidates linked", _left_open(spans))
    yield _figure("edges to the wrong request", str(len(wrong)))
    yield ""
    yield palette.bold("Where the chains broke, and what to change (the sidecars' /gaps)")
    yield from _gaps(gaps)


def _figure(title: str, figure: str) -> str:
    return f"  {title}:".ljust(40) + figure


def _left_open(spans: Sequence[SpanRecord]) -> str:
    open_edges = [span for span in spans if span.abstained]
    messages = sum(1 for span in open_edges if span.kind is Kind.PRODUCER)
    calls = plural(len(open_edges) - messages, "call")
    return f"{len(open_edges)} ({calls}, {plural(messages, 'message')})"


def _with_context(records: Sequence[Access]) -> str:
    return f"{sum(1 for record in records if record.traceparent)} of {len(records)}"


def _gaps(gaps: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if not gaps:
        yield "  none seen"
    for gap in gaps:
        yield fit(
            f"  {gap['service']}: {gap['route']} → {gap['destination']}:"
            f" {gap['kind']} on {gap['count']} of {gap['calls']} calls",
            WIDTH,
        ).rstrip()
    for advice in dict.fromkeys(str(gap["advice"]) for gap in gaps):
        yield from paragraph(f"→ {advice}", "    ")


def staying(mesh: Mesh) -> Iterator[str]:
    """How to go on by hand."""
    yield ""
    yield "Still running; Ctrl-C ends it. Trees of your own requests appear below. Try:"
    yield f"  curl '{mesh.entry}/checkout/3001?coupon=SPRING'"
    yield f"  curl {mesh.admin('gateway')}/gaps       (also /metrics /config /inflight /spans)"
    for name, place in mesh.places.items():
        ports = f"service 127.0.0.1:{place.app}  sidecar 127.0.0.1:{place.inbound}"
        if name == CONSUMER:
            ports = f"gets messages through its sidecar at 127.0.0.1:{place.bootstrap}"
        yield f"  {name:10} {ports:48}  admin {mesh.admin(name)}"
    yield f"  configuration files: {mesh.config_file('NAME')}"
    yield ""


def plural(count: int, noun: str) -> str:
    """``1 tree``, ``2 trees``."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def paragraph(text: str, indent: str = "") -> list[str]:
    """``text`` in lines of at most `WIDTH` characters."""
    return textwrap.wrap(text, WIDTH, initial_indent=indent, subsequent_indent=indent)
