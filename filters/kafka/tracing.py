"""The filter itself: one conversation for each connection, and what they all share."""

from __future__ import annotations

from typing import ClassVar, Final, cast

from filters.kafka.cluster import Cluster
from filters.kafka.conversation import KafkaConversation
from filters.kafka.messaging import Line
from filters.kafka.parts import Speaker
from meshproxy.config.model import Kafka
from meshproxy.filter import Conversation, Environment, Passage, Places

MOST_CLUSTERS: Final = 64
"""Clusters that are remembered over reloads."""


class KafkaTracing(Speaker):
    """PRODUCER spans for what is sent, receive and CONSUMER spans for what is fetched."""

    name: ClassVar[str] = "kafka"
    protocol: ClassVar[str] = "kafka"

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        kept = environment.kept.setdefault(self.name, {})
        self._clusters = cast("dict[str, Cluster]", kept)

    def converse(self, passage: Passage, places: Places) -> Conversation:
        """A client has connected to a broker."""
        self.environment.linker.remember(passage.start_ns)
        line = Line(passage, self._cluster(passage.scope.listen), passage.scope.kafka or Kafka())
        return KafkaConversation(line, places, self.parts)

    def _cluster(self, listen: str) -> Cluster:
        cluster = self._clusters.get(listen)
        if cluster is None:
            if len(self._clusters) >= MOST_CLUSTERS:
                self._clusters.clear()
            cluster = self._clusters[listen] = Cluster()
        return cluster

    def on_tick(self, now_ns: int) -> None:
        """Let go of what nothing more will be heard of."""
        for cluster in self._clusters.values():
            self.parts.receiving.done(cluster.long_handled(now_ns), now_ns)
            for batch in cluster.given_up(now_ns):
                self.parts.producing.give_up(batch)
