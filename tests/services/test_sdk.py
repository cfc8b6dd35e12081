"""An app that has the real OpenTelemetry SDK in it: its spans and ours make one tree."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path
from typing import NamedTuple

import aiohttp
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.services.conftest import exporter
from tests.services.kit.daemon import Daemons
from tests.services.kit.origin import Origin
from tests.services.kit.programs import sdk
from tests.services.kit.spans import named, wait_for_spans
from tests.support.fixtures import Spawn
from tests.support.otlp import Collector, values
from tests.support.process import SidecarProcess

pytestmark = pytest.mark.services

APPS = Path(__file__).parent / "apps"
EXTERNAL = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Wrapped(NamedTuple):
    """An app with its sidecar."""

    sidecar: SidecarProcess
    target: Origin

    async def ask(self, session: aiohttp.ClientSession, number: int, **headers: str) -> str:
        """A request that makes the app call the origin for a number."""
        call = f"http://127.0.0.1:{self.sidecar.outbound[0]}/number/{number}"
        url = f"http://127.0.0.1:{self.sidecar.inbound[0]}/call"
        async with session.get(url, params={"url": call}, headers=headers) as response:
            return await response.text()


@pytest.fixture(params=["threads", "tasks"])
async def wrapped(
    request: pytest.FixtureRequest, daemons: Daemons, spawn: Spawn, origin: Origin,
    collector: Collector,
) -> Wrapped:  # fmt: skip
    port = daemons.port()
    command = [sdk("opentelemetry-instrument"), sdk("python"), str(APPS / f"{request.param}.py")]
    environment = {
        "OTEL_SERVICE_NAME": "app",
        "OTEL_TRACES_EXPORTER": "otlp",
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_LOGS_EXPORTER": "none",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint,
        "OTEL_BSP_SCHEDULE_DELAY": "100",
    }
    await daemons.start(request.param, [*command, str(port)], port, environment=environment)
    sidecar = await spawn(
        {
            "service": {"name": "sidecar"},
            "inbound": [{"upstream": f"127.0.0.1:{port}"}],
            "outbound": [{"upstream": f"127.0.0.1:{origin.port}", "peer": "callee"}],
            "export": [exporter(collector.endpoint)],
        }
    )
    return Wrapped(sidecar, origin)


def assert_one_tree(spans: dict[str, Span]) -> None:
    """In front of the app, in the app, out of the app, behind the app."""
    order = ("sidecar SERVER", "app SERVER", "app CLIENT", "sidecar CLIENT")
    assert set(spans) == set(order)
    for parent, child in itertools.pairwise(order):
        assert spans[child].parent_span_id == spans[parent].span_id, f"{parent} → {child}"
    call = values(spans["sidecar CLIENT"])
    assert call["meshproxy.propagation"] == "ok"
    assert "meshproxy.gap" not in call


async def test_one_tree(
    wrapped: Wrapped, collector: Collector, session: aiohttp.ClientSession
) -> None:
    assert await wrapped.ask(session, 1, traceparent=EXTERNAL) == "1"
    spans = named(await wait_for_spans(collector, 4))
    assert_one_tree(spans)
    assert {span.trace_id.hex() for span in spans.values()} == {EXTERNAL[3:35]}
    assert spans["sidecar SERVER"].parent_span_id.hex() == EXTERNAL[36:52]
    expected = spans["sidecar CLIENT"].span_id.hex()
    assert [f[36:52] for f in wrapped.target.seen[0].getall("traceparent")] == [expected]


async def test_requests_at_once_keep_their_trees(
    wrapped: Wrapped, collector: Collector, session: aiohttp.ClientSession
) -> None:
    """The app says itself which request a call is for: nothing is left to guess."""
    answers = await asyncio.gather(*(wrapped.ask(session, number) for number in range(40)))
    assert answers == [str(number) for number in range(40)]
    found = await wait_for_spans(collector, 160)
    traces = {item.span.trace_id for item in found}
    assert len(traces) == 40
    for trace in traces:
        assert_one_tree(named([item for item in found if item.span.trace_id == trace]))
