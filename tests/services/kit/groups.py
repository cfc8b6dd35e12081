"""Members of a consumer group, each in a thread of its own."""

from __future__ import annotations

import threading
from typing import Any, Self

from confluent_kafka import Consumer, TopicPartition

from tests.support.kafka_records import Record, record

PATIENCE = 60.0


class Member:
    """A consumer that reads and keeps everything it is given, until it is left.

    ``records`` is what it got, ``held`` the partitions that it has now.
    """

    def __init__(self, bootstrap: str, topic: str, group: str, **config: Any) -> None:
        self.records: list[Record] = []
        self.held: set[int] = set()
        self._topic = topic
        self._read_to: dict[int, int] = {}
        self._changed = threading.Condition()
        self._leaving = threading.Event()
        self._failure = ""
        options: dict[str, Any] = {
            "bootstrap.servers": bootstrap,
            "group.id": group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "log_level": 0,
        }
        self._consumer = Consumer(options | config)
        self._consumer.subscribe([topic], on_assign=self._assigned, on_revoke=self._revoked)
        self._thread = threading.Thread(target=self._read, daemon=True)

    def start(self) -> Self:
        self._thread.start()
        return self

    def _read(self) -> None:
        while not self._leaving.is_set():
            polled = self._consumer.poll(0.1)
            if polled is None:
                continue
            with self._changed:
                error = polled.error()
                if error is None:
                    self.records.append(record(polled))
                    self._read_to[polled.partition()] = polled.offset() + 1
                elif not error.retriable():
                    self._failure = str(error)
                self._changed.notify_all()
        self._commit()
        self._consumer.close()

    def _commit(self) -> None:
        topic, read_to = self._topic, self._read_to
        if read_to:
            offsets = [TopicPartition(topic, each, offset) for each, offset in read_to.items()]
            self._consumer.commit(offsets=offsets, asynchronous=False)
            read_to.clear()

    def _assigned(self, _: Consumer, partitions: list[Any]) -> None:
        with self._changed:
            self.held |= {each.partition for each in partitions}
            self._changed.notify_all()

    def _revoked(self, _: Consumer, partitions: list[Any]) -> None:
        """Commit what was read: whoever has the partitions next goes on from there."""
        self._commit()
        with self._changed:
            self.held -= {each.partition for each in partitions}
            self._changed.notify_all()

    def wait(self, *, held: int | None = None, records: int = 0) -> None:
        """Until it holds so many partitions, and has so many records."""
        with self._changed:
            done = self._changed.wait_for(
                lambda: (
                    self._failure
                    or (held in (None, len(self.held)) and len(self.records) >= records)
                ),
                PATIENCE,
            )
            assert not self._failure, self._failure
            assert done, f"{len(self.held)} partitions, {len(self.records)} records"

    def leave(self) -> None:
        """Commit, and leave the group."""
        self._leaving.set()
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()
