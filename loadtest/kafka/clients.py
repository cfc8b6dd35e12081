"""Real clients as fast as they go: ``clients aiokafka|confluent TASK``.

Time counts from the second request on, so that what a client does once is not in it. A consumer
that has read everything begins again.
"""

from __future__ import annotations

import asyncio
import sys
import time
from itertools import count

import confluent_kafka
import msgspec
import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from loadtest.kafka.loads import MESSAGE_BYTES, PARTITIONS, Done, Task, values

LINGER_MS = 5
CHUNK = 1000
"""Records that are produced between two looks at the clock."""
IN_FLIGHT_BATCHES = 40
FIRST_SECONDS = 15.0
FLUSH_SECONDS = 15.0
NOT_CHECKED = {"check.crcs": "false"}


def produce_confluent(task: Task) -> Done:
    """Through librdkafka, whose batches are full while it is kept busy."""
    failures: list[str] = []
    producer = confluent_kafka.Producer(
        {
            "bootstrap.servers": f"127.0.0.1:{task.port}",
            "compression.type": task.load.codec,
            "batch.num.messages": task.load.records,
            "batch.size": MESSAGE_BYTES // 2,
            "message.max.bytes": MESSAGE_BYTES,
            "queue.buffering.max.messages": IN_FLIGHT_BATCHES * max(CHUNK, task.load.records),
            "linger.ms": LINGER_MS,
            "acks": 1,
            "error_cb": lambda error: failures.append(str(error)),
        }
    )
    chunk = [{"value": value} for value in values(task.load, CHUNK)]
    producer.produce(task.topic, chunk[0]["value"], partition=0)
    if producer.flush(FIRST_SECONDS):
        raise TimeoutError(f"not delivered: {failures}")
    most = IN_FLIGHT_BATCHES * max(CHUNK, task.load.records) - CHUNK
    sent = 0
    start = time.monotonic()
    for turn in count():
        if time.monotonic() - start >= task.seconds:
            break
        if len(producer) > most:
            producer.poll(0.001)
            continue
        # The client writes into what it is given when something fails.
        sent += producer.produce_batch(task.topic, chunk, partition=turn % PARTITIONS)
        producer.poll(0)
    if producer.flush(FLUSH_SECONDS):
        raise TimeoutError(f"not delivered: {failures}")
    return _done(task, sent, start)


def consume_confluent(task: Task) -> Done:
    """All partitions at once, without a group."""
    consumer = confluent_kafka.Consumer(
        {
            "bootstrap.servers": f"127.0.0.1:{task.port}",
            "group.id": "bench",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
            **NOT_CHECKED,
        }
    )
    beginning = [confluent_kafka.TopicPartition(task.topic, p, 0) for p in range(PARTITIONS)]
    consumer.assign(beginning)
    deadline = time.monotonic() + FIRST_SECONDS
    while not consumer.consume(1, 0.1):
        if time.monotonic() > deadline:
            raise TimeoutError("no record came")
    records = 0
    start = time.monotonic()
    while time.monotonic() - start < task.seconds:
        for message in consumer.consume(CHUNK, 0.1):
            error = message.error()
            if error is None:
                records += 1
            elif error.code() == confluent_kafka.KafkaError._PARTITION_EOF:
                consumer.seek(beginning[message.partition() or 0])
            else:
                raise RuntimeError(str(error))
    done = _done(task, records, start)
    consumer.close()
    return done


async def produce_aiokafka(task: Task) -> Done:
    """One coroutine that sends, and waits when the client's buffer is full."""
    producer = AIOKafkaProducer(
        bootstrap_servers=f"127.0.0.1:{task.port}",
        compression_type=None if task.load.codec == "none" else task.load.codec,
        max_batch_size=task.load.batch_bytes,
        max_request_size=MESSAGE_BYTES,
        linger_ms=LINGER_MS,
        acks=1,
    )
    try:
        await producer.start()
        chunk = values(task.load, CHUNK)
        await producer.send_and_wait(task.topic, chunk[0], partition=0)
        sent = 0
        start = time.monotonic()
        delivered = []
        while time.monotonic() - start < task.seconds:
            for index, value in enumerate(chunk):
                delivered.append(await producer.send(task.topic, value, partition=index & 3))
            sent += len(chunk)
        await producer.flush()
        done = _done(task, sent, start)
        # Raises where one was not delivered.
        await asyncio.gather(*delivered)
        return done
    finally:
        await producer.stop()


async def consume_aiokafka(task: Task) -> Done:
    """All partitions at once, without a group."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=f"127.0.0.1:{task.port}",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        check_crcs=False,
    )
    try:
        await consumer.start()
        partitions = [TopicPartition(task.topic, p) for p in range(PARTITIONS)]
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        await consumer.seek_to_beginning(*partitions)
        async with asyncio.timeout(FIRST_SECONDS):
            while not await _read(consumer, ends):
                pass
        records = 0
        start = time.monotonic()
        while time.monotonic() - start < task.seconds:
            records += await _read(consumer, ends)
        return _done(task, records, start)
    finally:
        await consumer.stop()


async def _read(consumer: AIOKafkaConsumer, ends: dict[TopicPartition, int]) -> int:
    """How many records came; a partition that is at its end begins again."""
    records = 0
    for partition, messages in (await consumer.getmany(timeout_ms=100)).items():
        records += len(messages)
        if messages[-1].offset + 1 >= ends[partition]:
            consumer.seek(partition, 0)
    return records


def _done(task: Task, records: int, start: float) -> Done:
    return Done(records, records // task.load.records, time.monotonic() - start)


def main(client: str, task: Task) -> Done:
    if client == "confluent":
        return (produce_confluent if task.direction == "produce" else consume_confluent)(task)
    run = produce_aiokafka if task.direction == "produce" else consume_aiokafka
    return uvloop.run(run(task))


if __name__ == "__main__":
    done = main(sys.argv[1], msgspec.json.decode(sys.argv[2], type=Task))
    sys.stdout.write(msgspec.json.encode(done).decode())
