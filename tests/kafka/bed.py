"""A sidecar between Kafka's clients and the mock cluster."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from filters.kafka.cluster import HANDLED_NS
from tests.kafka.mock_cluster import MockCluster
from tests.kafka.relay import Relay
from tests.support import kafka_records as records
from tests.support.inprocess import InProcess
from tests.support.kafka_records import Record
from tests.support.otlp import Collector


class Sidecar(InProcess):
    """In this process. Closed after the time for which a message counts as worked on."""

    @property
    def address(self) -> str:
        """Where Kafka's clients find it."""
        return f"127.0.0.1:{self.outbound[0]}"

    async def close(self) -> None:
        for peer in self._peers:
            peer.reset()
        await self.left()
        pipeline = self.sidecar._pipeline
        assert pipeline is not None
        for each in pipeline.filters:
            each.on_tick(time.time_ns() + HANDLED_NS)
        await super().close()


Start = Callable[[dict[str, Any]], Awaitable[Sidecar]]
Through = Callable[..., Awaitable[Sidecar]]


def route(to: MockCluster | Relay, **kafka: Any) -> dict[str, Any]:
    """An outbound listener that leads to the cluster."""
    return {"upstream": to.broker, "protocol": "kafka", "kafka": kafka}


def exporting(collector: Collector) -> list[dict[str, Any]]:
    """Spans go to the collector, and soon."""
    return [{"type": "otlp", "endpoint": collector.endpoint, "queue": {"interval": "50ms"}}]


async def stored(cluster: MockCluster, topic: str) -> list[Record]:
    """What is in a topic, without any sidecar."""
    return await asyncio.to_thread(records.read, cluster.bootstrap, topic)
