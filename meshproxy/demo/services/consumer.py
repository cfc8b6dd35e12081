"""A service that nobody calls: a loop over the messages of a topic, one after another."""

from __future__ import annotations

import time

from confluent_kafka import Consumer, Message, TopicPartition

from meshproxy.demo.services.common import TOPIC, announce, bootstrap, neighbour, record_access
from meshproxy.demo.services.threaded import fetch

START_TIMEOUT = 30.0
FETCH_WAIT_MS = 50
"""The mock broker answers a fetch when this is over, even if a message comes in meanwhile."""

RECONNECT_MS = 100
POLL = 1.0


def ship(message: Message) -> None:
    """Have a carrier print the label. Raises OSError if none can be reached."""
    fetch("POST", f"{neighbour('carriers')}/labels/{_order(message)}")


def _order(message: Message) -> str:
    return _text(message.key())


def _text(value: str | bytes | None) -> str:
    return value.decode() if isinstance(value, bytes) else value or ""


def _record(name: str, message: Message, started: float) -> None:
    received = dict(message.headers() or {})
    headers = {key.lower(): _text(value) for key, value in received.items()}
    record_access(name, "RECEIVE", f"{TOPIC}/{_order(message)}", None, started, headers)


def _assigned() -> Consumer:
    """A consumer of the whole topic, as soon as the broker answers.

    It joins no group, which takes the mock broker three seconds, but keeps its place as one.
    """
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap(),
            "group.id": "shipping",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "fetch.wait.max.ms": FETCH_WAIT_MS,
            "reconnect.backoff.ms": RECONNECT_MS,
            "reconnect.backoff.max.ms": RECONNECT_MS,
        }
    )
    topic = consumer.list_topics(TOPIC, timeout=START_TIMEOUT).topics[TOPIC]
    consumer.assign([TopicPartition(TOPIC, partition) for partition in topic.partitions])
    return consumer


def serve(name: str, port: int) -> None:
    """Handle messages until the process is killed; each is committed when it is done."""
    del port  # nobody calls
    consumer = _assigned()
    announce(name)
    while True:
        message = consumer.poll(POLL)
        if message is None or message.error():
            continue
        started = time.time()
        ship(message)
        consumer.commit(message=message, asynchronous=False)
        _record(name, message, started)
