"""Run a Kafka broker: ``python -m meshproxy.demo.broker TOPIC``.

It is librdkafka's mock cluster, a broker in memory that lives as long as this process. Its address
is told on standard output.
"""

from __future__ import annotations

import json
import signal
import sys

from confluent_kafka import Producer

START_TIMEOUT = 30.0


def main(arguments: list[str]) -> int:
    """Serve until killed, with one topic."""
    if len(arguments) != 1:
        print("usage: python -m meshproxy.demo.broker TOPIC")
        return 2
    cluster = Producer({"bootstrap.servers": "none", "test.mock.num.brokers": 1})
    # The mock makes each topic that it is asked for.
    (broker,) = cluster.list_topics(arguments[0], timeout=START_TIMEOUT).brokers.values()
    sys.stdout.write(json.dumps({"event": "broker", "address": f"{broker.host}:{broker.port}"}))
    sys.stdout.write("\n")
    sys.stdout.flush()
    while True:
        signal.pause()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
