"""The rig reads what the sidecar's file exporter writes: encoded by the product, not by hand."""

from __future__ import annotations

from pathlib import Path

from loadtest.linking.live.services.behaviour import CALL_NONCE, INBOUND_NONCE
from loadtest.linking.live.spans import HEADER, Candidate, read_spans
from meshproxy.export.otlp_json import encode_json_spans, frame_json
from meshproxy.trace.context import SAMPLED, SpanContext
from meshproxy.trace.span import AttributeValue, Kind, Link, Span, SpanShape

TRACE = bytes(range(16))
SERVER_ID = bytes(range(8))
CLIENT_ID = bytes(range(8, 16))


def server() -> Span:
    context = SpanContext(TRACE, SERVER_ID, SAMPLED)
    shape = SpanShape("GET /route/seq", Kind.SERVER, [])
    return Span(shape, context, b"", 100, 200, [(HEADER + INBOUND_NONCE, ["in-1"])])


def client() -> Span:
    context = SpanContext(TRACE, CLIENT_ID, SAMPLED)
    shape = SpanShape("GET /stock", Kind.CLIENT, [("meshproxy.propagation", "repaired")])
    attributes: list[tuple[str, AttributeValue]] = [
        (HEADER + CALL_NONCE, ["call-1"]),
        ("meshproxy.link.evidence", "timing"),
        ("meshproxy.link.confidence", 0.995),
        ("meshproxy.inbound.span_id", SERVER_ID.hex()),
    ]
    candidate = Link(
        SpanContext(TRACE, SERVER_ID, SAMPLED), (("link.rank", 1), ("link.confidence", 0.5))
    )
    carried = Link(SpanContext(TRACE, CLIENT_ID, SAMPLED), (("link.evidence", "carried"),))
    links = [candidate, carried]
    return Span(shape, context, SERVER_ID, 120, 150, attributes, links=links)


def test_spans_of_the_file_exporter_are_read(tmp_path: Path) -> None:
    file = tmp_path / "spans.jsonl"
    other = Span(SpanShape("tls", Kind.CLIENT, []), SpanContext(TRACE, CLIENT_ID, 0), b"", 1, 2, [])
    line = frame_json([("service.name", "shop")], encode_json_spans([server(), client(), other]))
    file.write_bytes(line + b"\n")
    spans = read_spans(file)
    (received,), (made,) = spans.received, spans.made
    assert (received.nonce, received.span_id) == ("in-1", SERVER_ID.hex())
    assert (received.start_ns, received.end_ns) == (100, 200)
    assert made.nonce == "call-1"
    assert made.linked == made.parent == made.inbound == SERVER_ID.hex()
    assert (made.evidence, made.confidence, made.propagation) == ("timing", 0.995, "repaired")
    assert made.candidates == (Candidate(SERVER_ID.hex(), 1, 0.5),)
