"""An OTLP/HTTP backend on the loopback, which reads with the official protobuf classes."""

from __future__ import annotations

import asyncio
import gzip
from typing import Self

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.support.raw import PATIENCE


class Collector:
    """Keeps every span it is sent. `stop` and `start` again to be away for a while."""

    def __init__(self) -> None:
        self._runner: web.AppRunner | None = None
        self._arrived = asyncio.Condition()
        self.port = 0
        self.status = 200
        self.requests: list[ExportTraceServiceRequest] = []
        self.spans: list[Span] = []

    @property
    def endpoint(self) -> str:
        """For ``export: [{type: otlp, endpoint: ...}]``."""
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> Self:
        """Listen: on a free port at first, on the same one afterwards."""
        application = web.Application(client_max_size=2**26)
        application.router.add_post("/v1/traces", self._receive)
        self._runner = web.AppRunner(application, auto_decompress=False, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def stop(self) -> None:
        """Refuse connections."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _receive(self, request: web.Request) -> web.Response:
        body = await request.read()
        if request.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        message = ExportTraceServiceRequest.FromString(body)
        if self.status == 200:
            async with self._arrived:
                self.requests.append(message)
                for resource in message.resource_spans:
                    for scope in resource.scope_spans:
                        self.spans.extend(scope.spans)
                self._arrived.notify_all()
        return web.Response(
            status=self.status,
            body=ExportTraceServiceResponse().SerializeToString(),
            content_type="application/x-protobuf",
        )

    async def wait_for(self, count: int, within: float = PATIENCE) -> list[Span]:
        """All spans, as soon as there are ``count`` of them."""
        async with asyncio.timeout(within), self._arrived:
            await self._arrived.wait_for(lambda: len(self.spans) >= count)
        return self.spans


def values(span: Span) -> dict[str, object]:
    """The attributes of a span as plain values; lists and maps as messages."""
    return {each.key: _plain(each.value) for each in span.attributes}


def _plain(value: AnyValue) -> object:
    kind = value.WhichOneof("value")
    return getattr(value, kind) if kind else None
