"""What arrives at an OTLP backend, read with the official protobuf classes."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from aiohttp import ClientSession
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from meshproxy import __version__
from tests.e2e.mesh import Mesh, calls, chain, truth
from tests.support.otlp import values

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_each_sidecar_speaks_for_its_service(mesh: Mesh) -> None:
    spans = await mesh.one("threaded", "nothing")
    by_service: dict[str, list[str]] = {}
    for request in mesh.collector.requests:
        for resource in request.resource_spans:
            about = {each.key: each.value.string_value for each in resource.resource.attributes}
            for scope in resource.scope_spans:
                for span in scope.spans:
                    if truth(span) == truth(spans[0]) and scope.scope.name == "meshproxy":
                        assert scope.scope.version == __version__
                        by_service.setdefault(about["service.name"], []).append(span.name)
    route = "GET /nothing/{id}"
    assert by_service == {"a": [route] * 2, "b": [route] * 2, "c": [route]}


async def test_times_nest(mesh: Mesh) -> None:
    spans = chain(await mesh.one("asyncio", "copies"))
    for outer, inner in pairwise(spans):
        assert outer.start_time_unix_nano <= inner.start_time_unix_nano
        assert inner.start_time_unix_nano < outer.end_time_unix_nano


async def test_the_admin_endpoint_shows_the_same_spans(mesh: Mesh) -> None:
    spans = await mesh.one("asyncio", "echoes")
    _, body = await mesh.a.get("/spans")
    (shown,) = [
        each
        for each in json.loads(body)["spans"]
        if each["kind"] == "CLIENT" and each["trace_id"] == spans[0].trace_id.hex()
    ]
    (call,) = calls(spans)
    assert shown["span_id"] == call.span_id.hex()
    assert shown["parent_span_id"] == call.parent_span_id.hex()
    assert shown["name"] == call.name
    assert shown["attributes"] == values(call)


async def test_a_failing_service_is_an_error_all_the_way(mesh: Mesh) -> None:
    """A service without such manners answers 500; its caller's sidecar sees that, too."""
    number = mesh.number()
    port = mesh.a.outbound[1]
    async with (
        ClientSession() as session,
        session.get(f"http://127.0.0.1:{port}/no-such-manners/{number}") as response,
    ):
        assert response.status == 500
    client, server = chain(await mesh.spans([number], each=2))
    for span in (client, server):
        assert span.status.code == Status.STATUS_CODE_ERROR
        assert values(span)["http.response.status_code"] == 500
        assert values(span)["error.type"] == "500"
    assert values(client)["meshproxy.propagation"] == "root"
