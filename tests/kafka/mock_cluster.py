"""A cluster of librdkafka's mock brokers in a process of its own.

Run as a script it is that process: it prints the address of each broker by node id, and ends when
its standard input does.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Self

BROKERS = 3

PARTITIONS = 4
"""Of each topic, as librdkafka has it."""


class MockCluster:
    """``brokers`` are the addresses by node id; topics come to be when they are asked for."""

    def __init__(self) -> None:
        self.brokers: dict[int, str] = {}
        self._process: subprocess.Popen[bytes]

    def start(self) -> Self:
        self._process = subprocess.Popen(
            (sys.executable, __file__),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert self._process.stdout is not None
        told = json.loads(self._process.stdout.readline())
        self.brokers = {int(node): address for node, address in told.items()}
        return self

    @property
    def bootstrap(self) -> str:
        """All brokers, for clients that do not go through a sidecar."""
        return ",".join(self.brokers.values())

    @property
    def broker(self) -> str:
        """One of them, for a sidecar."""
        return self.brokers[1]

    def stop(self) -> None:
        self._process.kill()
        self._process.communicate()


def main() -> None:
    import confluent_kafka

    cluster = confluent_kafka.Producer(
        {"bootstrap.servers": "none", "test.mock.num.brokers": BROKERS}
    )
    found = cluster.list_topics(timeout=30).brokers
    brokers = {node: f"{broker.host}:{broker.port}" for node, broker in found.items()}
    print(json.dumps(brokers), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
