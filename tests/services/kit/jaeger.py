"""Jaeger with its traces in memory, and the HTTP half of its query API."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import aiohttp
import yaml

from tests.services.kit.daemon import Daemon, Daemons
from tests.services.kit.programs import jaeger

PATIENCE = 20.0
POLL = 0.1


def _config(otlp: int, query: int, grpc: int) -> dict[str, Any]:
    def local(port: int) -> dict[str, str]:
        return {"endpoint": f"127.0.0.1:{port}"}

    storage = {"traces": "memory"}
    return {
        "service": {
            "extensions": ["jaeger_storage", "jaeger_query"],
            "pipelines": {
                "traces": {"receivers": ["otlp"], "exporters": ["jaeger_storage_exporter"]}
            },
            "telemetry": {"metrics": {"level": "none"}, "logs": {"level": "warn"}},
        },
        "extensions": {
            "jaeger_storage": {"backends": {"memory": {"memory": {"max_traces": 10000}}}},
            "jaeger_query": {"storage": storage, "http": local(query), "grpc": local(grpc)},
        },
        "receivers": {"otlp": {"protocols": {"http": local(otlp)}}},
        "exporters": {"jaeger_storage_exporter": {"trace_storage": "memory"}},
    }


@dataclass(frozen=True)
class Jaeger:
    """A Jaeger; it forgets everything when it ends."""

    daemon: Daemon
    otlp: int
    query: int

    @property
    def endpoint(self) -> str:
        """For exporters."""
        return f"http://127.0.0.1:{self.otlp}"

    async def start(self) -> None:
        """Start it again."""
        await self.daemon.start(self.otlp, self.query)

    async def spans(self, trace_id: str, count: int) -> list[dict[str, Any]]:
        """The spans of a trace as OTLP JSON, with their ``service``; waits for ``count``."""
        found: list[dict[str, Any]] = []
        async with aiohttp.ClientSession() as session:
            try:
                async with asyncio.timeout(PATIENCE):
                    while len(found) < count:
                        found = await self._ask(session, trace_id)
                        await asyncio.sleep(POLL)
            except TimeoutError:
                raise AssertionError(f"{len(found)} of {count} spans: {found}") from None
        return found

    async def _ask(self, session: aiohttp.ClientSession, trace_id: str) -> list[dict[str, Any]]:
        url = f"http://127.0.0.1:{self.query}/api/v3/traces/{trace_id}"
        async with session.get(url) as response:
            if response.status == 404:
                return []
            response.raise_for_status()
            resources = (await response.json(content_type=None))["result"]["resourceSpans"]
        return [
            {**span, "service": attributes(resource["resource"])["service.name"]}
            for resource in resources
            for scope in resource["scopeSpans"]
            for span in scope["spans"]
        ]


def attributes(item: dict[str, Any]) -> dict[str, str]:
    """The attributes of a span, a link or a resource, as text."""
    return {
        each["key"]: str(next(iter(each["value"].values()))) for each in item.get("attributes", ())
    }


async def start_jaeger(daemons: Daemons) -> Jaeger:
    """Start Jaeger on free ports."""
    otlp, query, grpc = daemons.port(), daemons.port(), daemons.port()
    path = daemons.file("jaeger.yaml", yaml.safe_dump(_config(otlp, query, grpc)))
    daemon = await daemons.start("jaeger", [jaeger(), "--config", path], otlp, query)
    return Jaeger(daemon, otlp, query)
