"""Connections that break, brokers that are not there, and sidecars that are reloaded or stopped."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable
from contextlib import closing
from copy import deepcopy

import aiokafka
import confluent_kafka
import pytest
from aiokafka.errors import KafkaConnectionError

from meshproxy.demo.processes import Ports
from tests.kafka.bed import Sidecar, Start, Through, exporting, route, stored
from tests.kafka.clients import AIOKAFKA
from tests.kafka.looking import assert_sent, ids, named
from tests.kafka.mock_cluster import MockCluster
from tests.kafka.relay import Relay
from tests.support.fixtures import Spawn
from tests.support.kafka_records import as_sent, by_partition, numbered
from tests.support.kafka_spans import spans_of
from tests.support.otlp import Collector, values
from tests.support.process import SidecarProcess

MARK = b"the one that is cut"
SOON = 10.0
"""Seconds; idle clients would hold a sidecar up for limits.drain, which is 45 s."""

CUTS = [Relay.lose_request, Relay.lose_answer]


@pytest.mark.parametrize("cut", CUTS, ids=lambda cut: cut.__name__)
@pytest.mark.parametrize("idempotent", [False, True])
async def test_what_is_sent_again_keeps_its_context(
    relay: Relay,
    cluster: MockCluster,
    through: Through,
    collector: Collector,
    topic: str,
    cut: Callable[[Relay, bytes], None],
    idempotent: bool,
) -> None:
    sidecar = await through(relay)
    async with aiokafka.AIOKafkaProducer(
        bootstrap_servers=sidecar.address, enable_idempotence=idempotent, retry_backoff_ms=20
    ) as producer:
        await producer.send_and_wait(topic, b"before", partition=0)
        cut(relay, MARK)
        await producer.send_and_wait(topic, MARK, partition=0)
        await producer.send_and_wait(topic, b"after", partition=0)
    assert relay.cuts == 1

    there = await stored(cluster, topic)
    copies = [each for each in there if each.message.value == MARK]
    # The mock brokers do not look at sequence numbers.
    assert len(copies) == (2 if cut is Relay.lose_answer else 1)
    assert len({each.context for each in copies}) == 1
    sent = await spans_of(collector, "send", topic, 3)
    (again,) = (span for span in sent if ids(span) == copies[0].context[3:52])
    assert values(again)["meshproxy.kafka.resend_count"] == 1
    assert "error.type" not in values(again)
    assert_sent(sent, [each for each in there if each not in copies[:-1]], relay)


async def test_nobody_listens(start: Start, collector: Collector, ports: Ports) -> None:
    nowhere = f"127.0.0.1:{ports.take()}"
    sidecar = await start(
        {
            "outbound": [{"upstream": nowhere, "protocol": "kafka", "peer": "broker"}],
            "export": exporting(collector),
        }
    )
    producer = aiokafka.AIOKafkaProducer(bootstrap_servers=sidecar.address, request_timeout_ms=1000)
    with pytest.raises(KafkaConnectionError):
        await producer.start()
    await producer.stop()
    failures = {"destination": "broker", "kind": "connect_refused"}
    assert await sidecar.metric("meshproxy_upstream_errors_total", **failures) >= 1


async def test_what_is_not_kafka_passes_and_is_counted(sidecar: Sidecar) -> None:
    peer = await sidecar.client()
    await peer.send(b"\0\0\0\2\0\0")  # a request without a correlation id
    peer.half_close()
    await peer.ended()
    events = "meshproxy_kafka_events_total"
    assert await sidecar.metric(events, event="request_unparsed") == 1
    assert await sidecar.metric(events, event="opaque") == 1


async def test_ports_of_brokers_that_others_have(
    cluster: MockCluster, through: Through, topic: str, ports: Ports
) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        first = taken.getsockname()[1]
        sidecar = await through(broker_ports=first - 2)
        sent = numbered(40, 4)
        await AIOKAFKA.produce(sidecar.address, topic, sent)
        assert as_sent(await stored(cluster, topic)) == by_partition(sent)
        told = await asyncio.to_thread(brokers, sidecar.address)
    assert len(set(told.values())) == len(cluster.brokers)
    assert told[2] != f"127.0.0.1:{first}"
    assert not set(told.values()) & set(cluster.brokers.values())


def brokers(bootstrap: str) -> dict[int, str]:
    """Where a client is told to find the brokers."""
    found = confluent_kafka.Producer({"bootstrap.servers": bootstrap}).list_topics(timeout=10)
    return {node: f"{broker.host}:{broker.port}" for node, broker in found.brokers.items()}


@pytest.fixture
async def process(cluster: MockCluster, spawn: Spawn, collector: Collector) -> SidecarProcess:
    """A sidecar that can be given signals."""
    return await spawn({"outbound": [route(cluster)], "export": exporting(collector)})


async def test_a_reload_costs_no_connection(
    cluster: MockCluster, process: SidecarProcess, collector: Collector, topic: str
) -> None:
    producer = aiokafka.AIOKafkaProducer(bootstrap_servers=f"127.0.0.1:{process.outbound[0]}")
    async with producer:
        await producer.send_and_wait(topic, b"before", partition=0)
        accepted = await connections(process)
        config = deepcopy(process.config)
        config["outbound"][0]["kafka"] = {"per_record": True}
        process.write(config)
        process.signal(signal.SIGHUP)
        await process.logged("configuration reloaded")
        batch = producer.create_batch()
        for value in (b"1", b"2", b"3"):
            assert batch.append(key=None, value=value, timestamp=None)
        await (await producer.send_batch(batch, topic, partition=0))
        assert await connections(process) == accepted
    there = await stored(cluster, topic)
    assert len({each.context for each in there}) == 4
    assert_sent(await spans_of(collector, "send", topic, 4), there, cluster)


async def connections(process: SidecarProcess) -> float:
    return await process.metric("meshproxy_connections_accepted_total", direction="outbound")


async def test_idle_clients_hold_nothing_up_when_it_is_stopped(
    cluster: MockCluster, process: SidecarProcess, collector: Collector, topic: str
) -> None:
    producer = aiokafka.AIOKafkaProducer(bootstrap_servers=f"127.0.0.1:{process.outbound[0]}")
    async with producer:
        await producer.send_and_wait(topic, b"1", partition=0)
        process.signal(signal.SIGTERM)
        await process.logged("draining")
        assert await process.ended(within=SOON) == 0
        assert_sent(named(collector, f"send {topic}"), await stored(cluster, topic), cluster)
