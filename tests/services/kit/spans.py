"""What a collector got, with who sent it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.support.otlp import Collector

PATIENCE = 15.0


class Sent(NamedTuple):
    """A span and the name of the service that sent it."""

    service: str
    span: Span


async def wait_for_spans(collector: Collector, count: int) -> list[Sent]:
    """All spans, as soon as there are ``count``."""
    await collector.wait_for(count, within=PATIENCE)
    found = [
        Sent(_service(resource.resource.attributes), span)
        for request in collector.requests
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]
    assert len(found) == count, [f"{item.service} {item.span.name}" for item in found]
    return found


def named(found: Sequence[Sent]) -> dict[str, Span]:
    """Spans as ``cart SERVER``; each may be there once."""
    spans = {
        f"{service} {Span.SpanKind.Name(span.kind).removeprefix('SPAN_KIND_')}": span
        for service, span in found
    }
    assert len(spans) == len(found)
    return spans


def _service(attributes: object) -> str:
    return next(a.value.string_value for a in attributes if a.key == "service.name")  # type: ignore[attr-defined]
