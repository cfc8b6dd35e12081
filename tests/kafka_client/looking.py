"""How tests look at spans and headers."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from aiokafka.structs import ConsumerRecord

from meshproxy.trace import traceparent
from meshproxy.trace.context import SpanContext
from meshproxy.trace.span import Kind, Span

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"
CAUSE = SpanContext(bytes.fromhex(TRACE), bytes.fromhex(PARENT), 1)


def attributes(span: Span) -> dict[str, Any]:
    return dict(span.all_attributes())


def said_by_us(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """What was logged by the client filters, and not by aiokafka."""
    return [record for record in caplog.records if record.name.startswith("filters.")]


def title(span: Span) -> tuple[str, Kind]:
    return span.shape.name, span.shape.kind


def linked(span: Span) -> list[bytes]:
    """Span ids of its links."""
    return [link.context.span_id for link in span.links]


def values(record: ConsumerRecord, key: str) -> list[bytes | None]:
    """The values of all headers with this key."""
    return [value for name, value in record.headers if name == key]


def named(record: ConsumerRecord) -> SpanContext:
    """The context in the only traceparent of a record."""
    (value,) = values(record, "traceparent")
    assert value is not None
    context = traceparent.parse(value)
    assert context is not None
    return context
