"""Spans as the admin endpoint shows them."""

from __future__ import annotations

from meshproxy.trace.span import Kind, Span, Status


def span_view(span: Span) -> dict[str, object]:
    """A span as plain values, for JSON."""
    view: dict[str, object] = {
        "name": span.shape.name,
        "kind": Kind(span.shape.kind).name,
        "trace_id": span.trace_id.hex(),
        "span_id": span.span_id.hex(),
        "parent_span_id": span.parent_id.hex(),
        "start_ns": span.start_ns,
        "duration_ms": round((span.end_ns - span.start_ns) / 1e6, 3),
        "status": Status(span.status).name,
        "attributes": dict(span.all_attributes()),
    }
    if span.status_message:
        view["status_message"] = span.status_message
    if span.tracestate:
        view["tracestate"] = span.tracestate
    if span.links:
        view["links"] = [
            {
                "trace_id": link.context.trace_id.hex(),
                "span_id": link.context.span_id.hex(),
                "attributes": dict(link.attributes),
            }
            for link in span.links
        ]
    if span.events:
        view["events"] = [
            {"name": event.name, "time_ns": event.time_ns, "attributes": dict(event.attributes)}
            for event in span.events
        ]
    return view
