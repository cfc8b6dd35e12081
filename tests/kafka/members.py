"""Members of consumer groups, by three clients: each reads and commits until it leaves."""

from __future__ import annotations

import asyncio
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

import aiokafka
import confluent_kafka
import kafka

from tests.kafka.clients import MOCK, POLL_MS

PATIENCE = 20.0
"""Seconds: the mock brokers wait three of them for the first members of a group."""

HEARTBEAT_MS = 200
SESSION_MS = 4000
"""The mock brokers need a second less for each further rebalance, and must not take longer than
this for the first."""


def group_of(topic: str) -> str:
    """The group that reads a topic; its name has not the topic's name in it, for `Relay`."""
    return topic.replace("topic", "group")


class Group:
    """What the members of a group were given: partitions, and messages by their values."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self.bootstrap = bootstrap
        self.topic = topic
        self.name = group_of(topic)
        self.partitions: dict[Member, set[int]] = defaultdict(set)
        self.seen: dict[Member, set[bytes | None]] = defaultdict(set)
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()

    @property
    def all_seen(self) -> set[bytes | None]:
        return set().union(*self.seen.values())

    def has(self, member: Member, partitions: Iterable[int]) -> None:
        """The member's partitions are these. May be called in any thread."""
        self.partitions[member] = set(partitions)
        self._loop.call_soon_threadsafe(self._changed.set)

    def saw(self, member: Member, values: Iterable[bytes | None]) -> None:
        """The member was given these. May be called in any thread."""
        self.seen[member].update(values)
        self._loop.call_soon_threadsafe(self._changed.set)

    async def until(self, enough: Callable[[], bool], what: str) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                while not enough():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            partitions = list(self.partitions.values())
            raise AssertionError(f"{self.name}: not {what}: {partitions}") from None


class Member:
    """Reads in a task of its own from `join` until `leave`."""

    def __init__(self, group: Group) -> None:
        self.group = group
        self._task: asyncio.Task[None]

    def join(self) -> None:
        self._task = asyncio.create_task(self.run())

    async def leave(self) -> None:
        self.stop()
        await self._task

    async def run(self) -> None:
        raise NotImplementedError

    def stop(self) -> None:
        raise NotImplementedError


def _options(member: Member) -> dict[str, Any]:
    """As aiokafka names them, and kafka-python too."""
    group = member.group
    return {
        "bootstrap_servers": group.bootstrap,
        "group_id": group.name,
        "client_id": f"{group.name}-{id(member)}",
        "auto_offset_reset": "earliest",
        "enable_auto_commit": False,
        "fetch_max_wait_ms": POLL_MS,
        "heartbeat_interval_ms": HEARTBEAT_MS,
        "session_timeout_ms": SESSION_MS,
    }


class _Listener(aiokafka.ConsumerRebalanceListener, kafka.ConsumerRebalanceListener):
    """Of both clients, which ask for the same methods."""

    def __init__(self, member: Member) -> None:
        self._member = member

    def on_partitions_revoked(self, revoked: Any) -> None:
        self._member.group.has(self._member, ())

    def on_partitions_assigned(self, assigned: Any) -> None:
        self._member.group.has(self._member, [each.partition for each in assigned])


class AioKafkaMember(Member):
    async def run(self) -> None:
        group = self.group
        self._stop = asyncio.Event()
        consumer = aiokafka.AIOKafkaConsumer(**_options(self))
        consumer.subscribe([group.topic], listener=_Listener(self))
        async with consumer:
            while not self._stop.is_set():
                found = await consumer.getmany(timeout_ms=POLL_MS)
                if found:
                    group.saw(self, [each.value for some in found.values() for each in some])
                    await _commit(consumer)
        group.has(self, ())

    def stop(self) -> None:
        self._stop.set()


async def _commit(consumer: aiokafka.AIOKafkaConsumer) -> None:
    with suppress(aiokafka.errors.CommitFailedError):  # others have the messages again
        await consumer.commit()


class ThreadedMember(Member):
    def __init__(self, group: Group) -> None:
        super().__init__(group)
        self._stop = threading.Event()

    async def run(self) -> None:
        await asyncio.to_thread(self.read)
        self.group.has(self, ())

    def read(self) -> None:
        raise NotImplementedError

    def stop(self) -> None:
        self._stop.set()


class LibrdkafkaMember(ThreadedMember):
    def read(self) -> None:
        group = self.group
        consumer = confluent_kafka.Consumer(
            {
                "bootstrap.servers": group.bootstrap,
                "group.id": group.name,
                "client.id": f"{group.name}-{id(self)}",
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
                "fetch.wait.max.ms": POLL_MS,
                "heartbeat.interval.ms": HEARTBEAT_MS,
                "session.timeout.ms": SESSION_MS,
            }
        )
        consumer.subscribe([group.topic], on_assign=self._assigned, on_revoke=self._revoked)
        while not self._stop.is_set():
            found = consumer.consume(100, POLL_MS / 1000)
            values = [each.value() for each in found if each.error() is None]
            if values:
                group.saw(self, values)
                self._commit(consumer)
        consumer.close()

    def _assigned(self, _: Any, assigned: Any) -> None:
        self.group.has(self, [each.partition for each in assigned])

    def _revoked(self, _: Any, revoked: Any) -> None:
        self.group.has(self, ())

    def _commit(self, consumer: confluent_kafka.Consumer) -> None:
        with suppress(confluent_kafka.KafkaException):
            consumer.commit(asynchronous=False)


class KafkaPythonMember(ThreadedMember):
    def read(self) -> None:
        group = self.group
        consumer = kafka.KafkaConsumer(api_version=MOCK, **_options(self))
        consumer.subscribe([group.topic], listener=_Listener(self))
        while not self._stop.is_set():
            found = consumer.poll(timeout_ms=POLL_MS)
            if found:
                group.saw(self, [each.value for some in found.values() for each in some])
                with suppress(kafka.errors.CommitFailedError):
                    consumer.commit()
        consumer.close()


MEMBERS = (AioKafkaMember, LibrdkafkaMember, KafkaPythonMember)
