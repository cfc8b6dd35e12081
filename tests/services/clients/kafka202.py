"""kafka-python 2.0.2: produces, then consumes as a group, and prints what it got as JSON."""

import json
import sys

from kafka import KafkaConsumer, KafkaProducer

COUNT = 100
PATIENCE = 60000


def produce(bootstrap: str, topic: str, codec: str) -> list:
    producer = KafkaProducer(
        bootstrap_servers=bootstrap,
        acks="all",
        compression_type=codec if codec != "none" else None,
        linger_ms=20,
    )
    sent = [
        producer.send(
            topic,
            value=f"value {number} ".encode() * 20,
            key=f"key {number}".encode(),
            headers=[("number", str(number).encode())],
            partition=number % 2,
        )
        for number in range(COUNT)
    ]
    offsets = [each.get(PATIENCE / 1000).offset for each in sent]
    producer.close()
    return offsets


def consume(bootstrap: str, topic: str) -> list:
    consumer = KafkaConsumer(
        topic,
        bootstrap_servers=bootstrap,
        group_id=topic,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        consumer_timeout_ms=PATIENCE,
    )
    found = []
    for record in consumer:
        found.append(
            {
                "partition": record.partition,
                "offset": record.offset,
                "key": record.key.decode(),
                "value": record.value.decode(),
                "headers": [name for name, _ in record.headers],
            }
        )
        if len(found) == COUNT:
            break
    consumer.commit()
    consumer.close()
    return found


if __name__ == "__main__":
    bootstrap, topic, codec = sys.argv[1:]
    offsets = produce(bootstrap, topic, codec)
    json.dump({"offsets": offsets, "found": consume(bootstrap, topic)}, sys.stdout)
