"""Records are in the topic, and read back, as they were sent: the context is all that is added."""

from __future__ import annotations

import asyncio

import kafka.codec
import pytest

from tests.kafka.bed import Sidecar, Through, stored
from tests.kafka.clients import AIOKAFKA, CLIENTS, KAFKA_PYTHON, LIBRDKAFKA, Client
from tests.kafka.mock_cluster import PARTITIONS, MockCluster
from tests.support.kafka_records import Message, as_sent, by_partition, messages, numbered

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
clients = pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)


def can_compress(client: Client, codec: str) -> bool:
    """Whether the client has all it needs: kafka-python wants a package for each codec."""
    return client is not KAFKA_PYTHON or codec == "none" or getattr(kafka.codec, f"has_{codec}")()


EVERY_CODEC = [
    pytest.param(client, codec, id=f"{client.name}-{codec}")
    for client in CLIENTS
    for codec in CODECS
    if can_compress(client, codec)
]


@pytest.mark.parametrize(("client", "codec"), EVERY_CODEC)
async def test_every_codec(
    client: Client, codec: str, cluster: MockCluster, sidecar: Sidecar, topic: str
) -> None:
    sent = client.able(messages(200, PARTITIONS))
    await client.produce(sidecar.address, topic, sent, codec)
    there = await stored(cluster, topic)
    assert as_sent(there) == by_partition(sent)
    assert all(each.context for each in there)

    received = await client.read(sidecar.address, topic, len(there))
    assert by_partition(received) == by_partition(each.message for each in there)


@clients
async def test_idempotent_producers(
    client: Client, cluster: MockCluster, sidecar: Sidecar, topic: str
) -> None:
    sent = numbered(2000, PARTITIONS)
    await client.produce(sidecar.address, topic, sent, "gzip", idempotent=True)
    there = await stored(cluster, topic)
    assert as_sent(there) == by_partition(sent)
    assert all(each.context for each in there)


async def test_many_topics_and_clients_at_a_time(
    cluster: MockCluster, sidecar: Sidecar, topic: str
) -> None:
    topics = [f"{topic}-{number}" for number in range(3)]

    async def round_trip(client: Client, topic: str) -> None:
        sent = client.able(messages(100, PARTITIONS))
        await client.produce(sidecar.address, topic, sent)
        there = await stored(cluster, topic)
        assert as_sent(there) == by_partition(sent)
        received = await client.read(sidecar.address, topic, len(there))
        assert by_partition(received) == by_partition(each.message for each in there)

    tasks = [round_trip(CLIENTS[number], each) for number, each in enumerate(topics)]
    await asyncio.gather(*tasks)


@pytest.mark.parametrize("codec", [codec for codec in CODECS if codec != "none"])
async def test_batches_that_a_thread_works_on(
    codec: str, cluster: MockCluster, sidecar: Sidecar, topic: str
) -> None:
    sent = [
        each._replace(value=each.value * 3) for each in messages(3000, PARTITIONS) if each.value
    ]
    await LIBRDKAFKA.produce(sidecar.address, topic, sent, codec)
    there = await stored(cluster, topic)
    assert as_sent(there) == by_partition(sent)
    assert all(each.context for each in there)


async def test_records_keep_the_context_that_they_have(
    cluster: MockCluster, sidecar: Sidecar, topic: str
) -> None:
    own = ("traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00")
    sent = [
        each._replace(headers=(("a", b"1"), own, ("z", None))) if number % 3 == 0 else each
        for number, each in enumerate(numbered(300, PARTITIONS))
    ]
    await AIOKAFKA.produce(sidecar.address, topic, sent, "zstd")
    there = await stored(cluster, topic)
    kept = [each.message for each in there if ("a", b"1") in each.message.headers]
    assert kept
    assert all(each.headers == (("a", b"1"), own, ("z", None)) for each in kept)
    added = {each.context for each in there if each.message not in kept}
    assert own[1].decode() not in added
    assert len(there) == len(sent)
    assert await sidecar.metric(
        "meshproxy_messages_total", destination=topic, result="carried"
    ) == len(kept)


async def test_a_batch_that_would_grow_too_large_goes_out_as_it_is(
    cluster: MockCluster, through: Through, topic: str
) -> None:
    sidecar = await through(message_bytes=2000)
    small, large = Message(0, None, b"small"), Message(1, None, bytes(1950))
    await AIOKAFKA.produce(sidecar.address, topic, [small, large])
    there = {each.message.partition: each for each in await stored(cluster, topic)}
    assert there[0].context
    assert there[1].message == large
    too_large = {"destination": topic, "result": "too_large"}
    assert await sidecar.metric("meshproxy_messages_total", **too_large) == 1
