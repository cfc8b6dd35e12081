"""Consumer groups: members join and leave, and every message comes to one of them."""

from __future__ import annotations

import asyncio

from tests.kafka.bed import Sidecar, Through
from tests.kafka.clients import LIBRDKAFKA
from tests.kafka.looking import named, until
from tests.kafka.members import MEMBERS, Group, Member, group_of
from tests.kafka.mock_cluster import PARTITIONS
from tests.kafka.relay import Relay
from tests.support.kafka_records import Message
from tests.support.kafka_spans import size
from tests.support.otlp import Collector, values

ALL = set(range(PARTITIONS))


def wave(number: int) -> list[Message]:
    """Some messages for each partition."""
    return [Message(each % PARTITIONS, None, b"%d-%d" % (number, each)) for each in range(40)]


async def test_members_join_and_leave(
    relay: Relay, through: Through, collector: Collector, topic: str
) -> None:
    """Groups of all clients at a time, since the mock brokers take theirs with each rebalance."""
    sidecar = await through(relay)
    topics = {f"{topic}-{kind.__name__}": kind for kind in MEMBERS}
    relay.topics += [each.encode() for each in topics]
    sent = await asyncio.gather(
        *(two_members(sidecar, kind, each) for each, kind in topics.items())
    )
    for each, count in zip(topics, sent, strict=True):
        await assert_spans_name_the_group(collector, each, count)


async def two_members(sidecar: Sidecar, kind: type[Member], topic: str) -> int:
    """They join one after the other, and leave; returns how many messages there were."""
    group = Group(sidecar.address, topic)
    first, second = kind(group), kind(group)
    sent: set[bytes | None] = set()

    async def send(number: int) -> None:
        messages = wave(number)
        await LIBRDKAFKA.produce(sidecar.address, topic, messages)
        sent.update(each.value for each in messages)

    async def until_all_is_seen() -> None:
        await group.until(lambda: group.all_seen == sent, "all messages")

    await send(1)
    first.join()
    await group.until(lambda: group.partitions[first] == ALL, "first has all")
    await until_all_is_seen()
    second.join()
    await group.until(
        lambda: len(group.partitions[first]) == len(group.partitions[second]) == 2, "they share"
    )
    assert group.partitions[first] | group.partitions[second] == ALL
    await send(2)
    await until_all_is_seen()
    assert group.seen[second]
    await first.leave()
    await group.until(lambda: group.partitions[second] == ALL, "second has all")
    await send(3)
    await until_all_is_seen()
    await second.leave()
    return len(sent)


async def assert_spans_name_the_group(collector: Collector, topic: str, count: int) -> None:
    polls = f"poll {topic}"
    await until(collector, lambda: sum(map(size, named(collector, polls))) >= count)
    for span in named(collector, polls):
        assert values(span)["messaging.consumer.group.name"] == group_of(topic)
        assert "meshproxy.gap" not in values(span)
