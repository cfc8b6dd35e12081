"""Records of Kafka topics: what is sent, and what is there."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition

PATIENCE = 60.0
ADDED = frozenset({"traceparent", "tracestate", "baggage"})
"""Headers that a sidecar adds."""

Headers = tuple[tuple[str, bytes | None], ...]


class Message(NamedTuple):
    """What an application sends; ``timestamp`` in milliseconds."""

    partition: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    timestamp: int = 1_700_000_000_000


class Record(NamedTuple):
    """A message in a topic."""

    offset: int
    message: Message

    @property
    def context(self) -> str:
        """The value of its one traceparent."""
        (found,) = [value for name, value in self.message.headers if name == "traceparent"]
        assert found is not None
        return found.decode()


def messages(count: int, partitions: int = 1, seed: int = 7) -> list[Message]:
    """Messages of all shapes: no key, no value, empty ones, headers twice and without a value."""
    chance = random.Random(seed)
    found = []
    for number in range(count):
        key = (None, b"", f"key-{number}".encode(), chance.randbytes(40))[number % 4]
        value = (None, b"", b"a" * 300, chance.randbytes(chance.randrange(900)))[number % 5 % 4]
        headers: Headers = (
            (),
            (("number", str(number).encode()), ("empty", b""), ("null", None)),
            (("twice", b"\xff\x00"), ("twice", b"2"), ("ключ", chance.randbytes(200))),
        )[number % 3]
        stamp = 1_700_000_000_000 + number * 37
        found.append(Message(number % partitions, key, value, headers, stamp))
    return found


def numbered(count: int, partitions: int = 1, size: int = 100) -> list[Message]:
    """Messages that can be told apart by their values."""
    return [
        Message(number % partitions, None, str(number).encode().ljust(size, b"."))
        for number in range(count)
    ]


def produce(bootstrap: str, topic: str, sent: Iterable[Message], **config: Any) -> None:
    """Send with librdkafka; every message must be acknowledged."""
    producer = Producer({"bootstrap.servers": bootstrap} | dotted(config))
    refused: list[object] = []
    for each in sent:
        enqueue(producer, topic, each, refused)
        producer.poll(0)
    assert producer.flush(PATIENCE) == 0
    assert not refused


def enqueue(producer: Producer, topic: str, message: Message, refused: list[object]) -> None:
    """Hand over one message; ``refused`` gets the error if there is one."""

    def done(error: object, _: object) -> None:
        if error is not None:
            refused.append(error)

    producer.produce(
        topic,
        value=message.value,
        key=message.key,
        partition=message.partition,
        headers=list(message.headers),
        timestamp=message.timestamp,
        on_delivery=done,
    )


def read(bootstrap: str, topic: str, **config: Any) -> list[Record]:
    """All that is in a topic, by partition and offset, with librdkafka and no group."""
    options: dict[str, Any] = {
        "bootstrap.servers": bootstrap,
        "group.id": "not-used",
        "enable.auto.commit": False,
        "enable.partition.eof": True,
        "fetch.wait.max.ms": 100,
    }
    consumer = Consumer(options | dotted(config))
    try:
        partitions = consumer.list_topics(topic, timeout=PATIENCE).topics[topic].partitions
        consumer.assign([TopicPartition(topic, number, 0) for number in partitions])
        found = _until_the_ends(consumer, len(partitions))
    finally:
        consumer.close()
    return sorted(found, key=lambda each: each.message.partition)


def _until_the_ends(consumer: Consumer, partitions: int) -> list[Record]:
    found: list[Record] = []
    ended: set[int] = set()
    while len(ended) < partitions:
        polled = consumer.poll(PATIENCE)
        assert polled is not None, f"nothing more after {len(found)} records"
        error = polled.error()
        if error is None:
            found.append(record(polled))
        else:
            assert error.code() == KafkaError._PARTITION_EOF, error
            ended.add(polled.partition())
    return found


def record(polled: Any) -> Record:
    """What librdkafka's consumer gave, as a record."""
    message = Message(
        polled.partition(),
        polled.key(),
        polled.value(),
        tuple(polled.headers() or ()),
        polled.timestamp()[1],
    )
    return Record(polled.offset(), message)


def as_sent(records: Iterable[Record]) -> dict[int, list[Message]]:
    """Messages by partition without what a sidecar has added."""
    return by_partition(
        each.message._replace(headers=tuple(p for p in each.message.headers if p[0] not in ADDED))
        for each in records
    )


def by_partition(sent: Iterable[Message]) -> dict[int, list[Message]]:
    """Messages by partition, in order."""
    found: dict[int, list[Message]] = defaultdict(list)
    for each in sent:
        found[each.partition].append(each)
    return found


def dotted(config: dict[str, Any]) -> dict[str, Any]:
    """``acks_all=1`` as librdkafka wants it: ``acks.all``."""
    return {name.replace("_", "."): value for name, value in config.items()}


def values(records: Sequence[Record]) -> dict[int, list[bytes | None]]:
    """The values by partition, in order."""
    return {number: [each.value for each in found] for number, found in as_sent(records).items()}
