"""What is learnt of a cluster from the traffic with it. It outlives connections and reloads."""

from __future__ import annotations

from collections import deque
from typing import Final

from filters.kafka.batches import Batch, Identity
from meshproxy.linking.inflight import Cause

MOST_TOPICS: Final = 10_000
MOST_CLIENTS: Final = 1000
MOST_BATCHES: Final = 2048
"""How many are remembered, at most."""

HANDLED_NS: Final = 10_000_000_000
"""How long a message counts as worked on if its consumer does not commit: twice the interval in
which consumers commit by themselves."""

RETRY_NS: Final = 30_000_000_000
"""How long the span of a batch that failed waits for the client to send it again."""


class Handled:
    """Messages that a consumer was given, and what they count as: the last offset, the cause.

    ``group`` is the consumer's, empty if it is not known.
    """

    __slots__ = ("at_ns", "cause", "group", "offset")

    def __init__(self, group: str, offset: int, cause: Cause, at_ns: int) -> None:
        self.group = group
        self.offset = offset
        self.cause = cause
        self.at_ns = at_ns


Partition = tuple[str, int]
"""Topic and partition."""
GroupPartition = tuple[str, str, int]
"""Consumer group, topic and partition."""


class Cluster:
    """One cluster, as seen through one listener. Times are Unix nanoseconds."""

    def __init__(self) -> None:
        self._topics: dict[bytes, str] = {}
        self._groups: dict[str, str] = {}
        self._batches: dict[Identity, Batch] = {}
        self._failed: dict[Batch, int] = {}
        self._handled: dict[GroupPartition, deque[Handled]] = {}
        self._rewound: set[GroupPartition] = set()
        self._limits: dict[str, int] = {}

    # Names

    def name_topics(self, found: list[tuple[bytes, str]]) -> None:
        """Topics have these ids."""
        new = [pair for pair in found if pair[0] not in self._topics]
        if len(self._topics) + len(new) > MOST_TOPICS:
            self._topics.clear()
            new = found[:MOST_TOPICS]
        self._topics.update(new)

    def topic(self, name: str, topic_id: bytes) -> str:
        """The name of a topic that goes by name or id; the id itself if that is not known."""
        return name or self._topics.get(topic_id) or topic_id.hex()

    def join(self, client_id: str, group: str) -> None:
        """A client with this id works for a consumer group."""
        known = self._groups.get(client_id)
        if known == group:
            return
        if known is not None:
            group = ""  # several use the same client id
        elif len(self._groups) >= MOST_CLIENTS:
            self._groups.clear()
        self._groups[client_id] = group

    def group(self, client_id: str) -> str:
        """The consumer group of a client; empty when it is not known for sure."""
        return self._groups.get(client_id, "")

    # Record batches on their way

    def sent(self, batch: Batch) -> None:
        """A batch is sent; a client may send it again."""
        batches = self._batches
        if len(batches) >= MOST_BATCHES:
            del batches[next(iter(batches))]
        batches[batch.identity] = batch

    def sent_before(self, identity: Identity) -> Batch | None:
        """The batch that a client sends again, if that is what it does.

        Without a producer id, a batch equal to one that has not failed is another one.
        """
        batch = self._batches.get(identity)
        if batch is None or (batch not in self._failed and not batch.is_idempotent):
            return None
        self._failed.pop(batch, None)
        return batch

    def refused(self, batch: Batch) -> None:
        """A batch was too large for the broker: others are not made as large from now on."""
        if len(self._limits) < MOST_TOPICS:
            self._limits[batch.topic] = self.limit(batch.topic, batch.size - 1)

    def limit(self, topic: str, configured: int) -> int:
        """How large a batch may be made, in bytes."""
        return min(configured, self._limits.get(topic, configured))

    def failed(self, batch: Batch, now_ns: int) -> None:
        """A batch failed in a way after which clients try again."""
        self._failed[batch] = now_ns + RETRY_NS

    def given_up(self, now_ns: int) -> list[Batch]:
        """Batches that were not sent again in time, or are too many; each is given once."""
        found: list[Batch] = []
        for batch, until_ns in self._failed.items():
            if until_ns > now_ns and len(self._failed) - len(found) <= MOST_BATCHES:
                break
            found.append(batch)
        for batch in found:
            del self._failed[batch]
        return found

    # Messages that consumers work on

    def handle(self, partition: Partition, handled: Handled) -> None:
        """A consumer was given messages."""
        key = (handled.group, *partition)
        waiting = self._handled.get(key)
        if waiting is None:
            waiting = self._handled[key] = deque()
        if waiting and waiting[-1].offset > handled.offset:
            self._rewound.add(key)
        waiting.append(handled)

    def committed(self, group: str, partition: Partition, offset: int) -> list[Cause]:
        """What a group is done with, now that it committed everything before ``offset``."""
        found = self._done((group, *partition), offset)
        if group:
            found += self._done(("", *partition), offset)
        return found

    def _done(self, key: GroupPartition, offset: int) -> list[Cause]:
        found: list[Cause] = []
        waiting = self._handled.get(key)
        if waiting is None:
            return found
        if key in self._rewound:  # not in order of their offsets
            found += [each.cause for each in waiting if each.offset < offset]
            self._handled[key] = deque([each for each in waiting if each.offset >= offset])
            return found
        while waiting and waiting[0].offset < offset:
            found.append(waiting.popleft().cause)
        return found

    def long_handled(self, now_ns: int) -> list[Cause]:
        """What was given to consumers so long ago that it counts as done with."""
        found: list[Cause] = []
        for key, waiting in tuple(self._handled.items()):
            while waiting and waiting[0].at_ns <= now_ns - HANDLED_NS:
                found.append(waiting.popleft().cause)
            if not waiting:
                del self._handled[key]
                self._rewound.discard(key)
        return found
