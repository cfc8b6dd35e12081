"""librdkafka's mock cluster in a process of its own: ``mock TOPIC…`` prints its port and stays.

It listens only at an address of its own choice, so nothing that needs another to be told to clients
can be measured with it; and it answers a Fetch with one batch, as no real broker does.
"""

from __future__ import annotations

import signal
import sys

from confluent_kafka import Producer

ANSWER_SECONDS = 5.0


def main(topics: list[str]) -> None:
    cluster = Producer({"bootstrap.servers": "mock", "test.mock.num.brokers": 1, "log_level": 0})
    for topic in topics:
        # Asking makes it, with four partitions.
        cluster.list_topics(topic, timeout=ANSWER_SECONDS)
    (broker,) = cluster.list_topics(timeout=ANSWER_SECONDS).brokers.values()
    print(broker.port, flush=True)
    signal.pause()


if __name__ == "__main__":
    main(sys.argv[1:])
