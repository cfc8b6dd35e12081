"""Three sidecars as real processes, A → B → C, with legacy services in front of and behind them."""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from aiohttp import ClientSession
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from prometheus_client.parser import text_string_to_metric_families

from meshproxy.demo.processes import Ports
from tests.e2e.apps import Asyncio, Threaded
from tests.e2e.sdk import Instrumented
from tests.support.otlp import Collector, values
from tests.support.process import SidecarProcess

KINDS = ("threaded", "asyncio")
SERVER, CLIENT = Span.SPAN_KIND_SERVER, Span.SPAN_KIND_CLIENT
SPANS_A_REQUEST = 5
"""A's SERVER and CLIENT span, B's, and C's SERVER span."""

SPANS_WITH_SDK = SPANS_A_REQUEST + 4
"""And a SERVER and a CLIENT span that A and B make themselves."""


class Mesh:
    """Each service exists in both kinds, behind the same sidecar; C is where chains end."""

    def __init__(self, directory: Path, ports: Ports) -> None:
        self.a, self.b, self.c = (SidecarProcess(directory, ports) for _ in "abc")
        self.collector = Collector()
        self._sdk = Instrumented(lambda: self.collector.endpoint)
        self._running: list[SidecarProcess] = []
        self.services: dict[tuple[str, str], Threaded | Asyncio] = {}
        self._numbers = itertools.count(10_000_001)

    async def start(self) -> None:
        """Start all; the services first, as sidecars need to know where they are."""
        await self.collector.start()
        for kind, make in (("threaded", Threaded), ("asyncio", Asyncio)):
            self.services["a", kind] = make(self._port(self.a, kind), self._sdk)
            self.services["b", kind] = make(self._port(self.b, kind), self._sdk)
            self.services["c", kind] = make(None, self._sdk)
        for service in self.services.values():
            await service.start()
        await self._start("c", self.c, None)
        await self._start("b", self.b, self.c, propagation={"extract": ["tracecontext"]})
        await self._start("a", self.a, self.b)

    @staticmethod
    def _port(sidecar: SidecarProcess, kind: str) -> Callable[[], int]:
        return lambda: sidecar.outbound[KINDS.index(kind)]

    async def _start(
        self, name: str, sidecar: SidecarProcess, after: SidecarProcess | None, **more: Any
    ) -> None:
        ports = [self.services[name, kind].port for kind in KINDS]
        outbound = after.inbound if after else []
        self._running.append(sidecar)
        await sidecar.start(
            {
                "service": {"name": name},
                "inbound": [{"upstream": f"127.0.0.1:{port}"} for port in ports],
                "outbound": [
                    {"upstream": f"127.0.0.1:{port}", "peer": f"{kind}-after-{name}"}
                    for port, kind in zip(outbound, KINDS, strict=False)
                ],
                "export": [
                    {
                        "type": "otlp",
                        "endpoint": self.collector.endpoint,
                        "queue": {"interval": "50ms"},
                    }
                ],
                **more,
            }
        )

    async def stop(self) -> None:
        """Stop all."""
        for sidecar in self._running:
            await sidecar.close()
        for service in self.services.values():
            await service.stop()
        await asyncio.to_thread(self._sdk.close)
        await self.collector.stop()

    # Traffic

    def number(self) -> int:
        """A number that no other request has."""
        return next(self._numbers)

    async def ask(self, session: ClientSession, kind: str, path: str, **headers: str) -> None:
        """One request to service A."""
        port = self.a.inbound[KINDS.index(kind)]
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with session.get(f"http://127.0.0.1:{port}{path}", headers=named) as response:
            assert response.status == 200
            await response.read()

    async def one(
        self, kind: str, manners: str, each: int = SPANS_A_REQUEST, **headers: str
    ) -> list[Span]:
        """One request through all services, and its spans."""
        number = self.number()
        async with ClientSession() as session:
            await self.ask(session, kind, f"/{manners}/{number}", **headers)
        return await self.spans([number], each)

    async def together(
        self, kind: str, manners: str, count: int, each: int = SPANS_A_REQUEST
    ) -> list[Span]:
        """As many requests, all of them in flight at A while each makes its call."""
        numbers = [self.number() for _ in range(count)]
        service = self.services["a", kind]
        service.gate = (threading if kind == "threaded" else asyncio).Barrier(count)  # type: ignore[attr-defined]
        try:
            async with ClientSession() as session:
                await asyncio.gather(
                    *(self.ask(session, kind, f"/{manners}/{number}") for number in numbers)
                )
        finally:
            service.gate = None
        return await self.spans(numbers, each)

    async def spans(self, numbers: Sequence[int], each: int = SPANS_A_REQUEST) -> list[Span]:
        """All spans of these requests, as soon as they are there."""
        wanted = set(numbers)

        def arrived() -> list[Span]:
            return [span for span in self.collector.spans if truth(span) in wanted]

        while len(found := arrived()) < each * len(wanted):
            await self.collector.wait_for(len(self.collector.spans) + 1)
        return found

    # What sidecars say of themselves

    @staticmethod
    async def gaps(sidecar: SidecarProcess, manners: str) -> list[dict[str, Any]]:
        """The rows of the gap report for services with such manners."""
        status, body = await sidecar.get("/gaps")
        assert status == 200
        return [row for row in json.loads(body)["gaps"] if f"/{manners}/" in row["route"]]

    @staticmethod
    async def metric(sidecar: SidecarProcess, name: str, **labels: str) -> float:
        """The value of a metric, summed over the labels not given."""
        _, body = await sidecar.get("/metrics")
        return sum(
            sample.value
            for family in text_string_to_metric_families(body)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )


def truth(span: Span) -> int:
    """The number of the request that a span is about; 0 if that is none of ours."""
    found = values(span)
    last = str(found.get("url.path") or found.get("url.full")).rpartition("/")[2]
    return int(last) if last.isdecimal() else 0


def assert_no_wrong_link(spans: Sequence[Span], outside: str = "") -> None:
    """No CLIENT span hangs below, or belongs to, another request than it really does.

    And no SERVER span below another request's call. ``outside`` is a parent that is not ours.
    """
    by_id = {span.span_id: span for span in spans}
    for span in spans:
        if span.parent_span_id and span.parent_span_id.hex() != outside[36:52]:
            parent = by_id[span.parent_span_id]
            assert truth(parent) == truth(span)
            assert parent.trace_id == span.trace_id
        belongs_to = values(span).get("meshproxy.inbound.span_id")
        if belongs_to:
            assert truth(by_id[bytes.fromhex(str(belongs_to))]) == truth(span)


def assert_one_tree(spans: Sequence[Span]) -> Span:
    """All spans are one trace, and all but one of them hang below another; gives the root."""
    assert len({span.trace_id for span in spans}) == 1
    ids = {span.span_id for span in spans}
    assert len(ids) == len(spans)
    (root,) = [span for span in spans if span.parent_span_id not in ids]
    return root


def chain(spans: Sequence[Span]) -> list[Span]:
    """The spans of one tree in which each has one child at most, from the root down."""
    below = {span.parent_span_id: span for span in spans}
    found = [assert_one_tree(spans)]
    while len(found) < len(spans):
        found.append(below[found[-1].span_id])
    return found


def calls(spans: Sequence[Span], of: str = "a") -> list[Span]:
    """The CLIENT spans of one service."""
    return [
        span
        for span in spans
        if span.kind == CLIENT and str(values(span).get("peer.service")).endswith(f"-after-{of}")
    ]
