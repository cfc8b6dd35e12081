"""An OTLP/HTTP receiver that keeps the spans in memory.

It decodes with the official protobuf classes, so that what the demo shows is what any OTLP backend
would have read. They are imported when the receiver starts: the product itself does not need them.
"""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any

from aiohttp import web

from meshproxy.demo.arrivals import Arrivals
from meshproxy.demo.tree import LinkRecord, SpanRecord, Value
from meshproxy.trace.span import Kind, Status

if TYPE_CHECKING:
    from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
    from opentelemetry.proto.trace.v1.trace_pb2 import Span

MAX_REQUEST = 16 * 1024 * 1024


def decode(body: bytes) -> list[SpanRecord]:
    """The spans of one ExportTraceServiceRequest.

    Raises `google.protobuf.message.DecodeError` if ``body`` is none, ImportError if the protobuf
    classes (package ``opentelemetry-proto``) are not installed.
    """
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    request = ExportTraceServiceRequest.FromString(body)
    return [
        _record(span, str(_attributes(group.resource.attributes).get("service.name", "?")))
        for group in request.resource_spans
        for scope in group.scope_spans
        for span in scope.spans
    ]


def _record(span: Span, service: str) -> SpanRecord:
    return SpanRecord(
        service=service,
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        name=span.name,
        kind=_kind(int(span.kind)),
        start_ns=span.start_time_unix_nano,
        end_ns=span.end_time_unix_nano,
        error=int(span.status.code) == Status.ERROR,
        attributes=_attributes(span.attributes),
        links=tuple(
            LinkRecord(link.trace_id.hex(), link.span_id.hex(), _attributes(link.attributes))
            for link in span.links
        ),
    )


def _kind(number: int) -> Kind:
    """An unspecified or unknown kind counts as INTERNAL, as OTLP asks for."""
    return Kind(number) if number in Kind.__members__.values() else Kind.INTERNAL


def _attributes(pairs: Any) -> dict[str, Value]:
    items: list[KeyValue] = list(pairs)
    return {pair.key: _value(pair.value) for pair in items}


def _value(value: AnyValue) -> Value:
    which = value.WhichOneof("value")
    if which == "array_value":
        return [_value(item) for item in value.array_value.values]
    if which in ("string_value", "bool_value", "int_value", "double_value"):
        plain: Value = getattr(value, which)
        return plain
    return None


class Receiver:
    """Receives on a loopback port of its own while the context is open."""

    def __init__(self) -> None:
        self.spans: Arrivals[SpanRecord] = Arrivals()
        self.refused = 0
        app = web.Application(client_max_size=MAX_REQUEST)
        app.router.add_post("/v1/traces", self._receive)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)

    @property
    def endpoint(self) -> str:
        """The base URL for exporters."""
        host, port = self._runner.addresses[0][:2]
        return f"http://{host}:{port}"

    async def __aenter__(self) -> Receiver:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._runner.cleanup()

    async def _receive(self, request: web.Request) -> web.Response:
        from google.protobuf.message import DecodeError

        try:
            spans = decode(await request.read())
        except DecodeError as error:
            self.refused += 1
            return web.Response(status=400, text=str(error))
        self.spans.extend(spans)
        return web.Response(body=b"", content_type="application/x-protobuf")
