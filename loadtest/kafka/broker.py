"""The broker behind the proxies: Apache Kafka, or librdkafka's mock cluster."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from shutil import which

import confluent_kafka
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from loadtest.kafka.loads import MESSAGE_BYTES, PARTITIONS
from loadtest.peers.base import ROOT, first_line
from loadtest.processes import Cores, NotReadyError, Processes, run_pinned

SERVICES = ROOT / ".cache/services"
NODE_ID = 1
FORMAT_SECONDS = 60.0
READY_SECONDS = 60.0
ANSWER_SECONDS = 30.0
ONE_ANSWER_SECONDS = 1.0
KEPT_BYTES = 32 << 20
SEGMENT_BYTES = 8 << 20

PROPERTIES = """\
process.roles=broker,controller
node.id={node}
controller.quorum.voters={node}@127.0.0.1:{controller}
listeners=DIRECT://127.0.0.1:{direct},RELAYED://127.0.0.1:{relayed},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=DIRECT://127.0.0.1:{direct},RELAYED://127.0.0.1:{relay}
listener.security.protocol.map=DIRECT:PLAINTEXT,RELAYED:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=DIRECT
controller.listener.names=CONTROLLER
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
message.max.bytes={message_bytes}
log.dirs={logs}
log.retention.ms=-1
log.initial.task.delay.ms=1000
log.retention.check.interval.ms=1000
"""


@dataclass(frozen=True, slots=True)
class Broker:
    """A broker that answers."""

    kind: str
    """``kafka`` or ``mock``."""
    version: str
    direct: int
    """The port at which it says it is."""
    relayed: int
    """The port whose clients are told to go on at ``relay``; 0 where there is none."""
    relay: int
    """The port of a proxy that does not read what passes."""


def jars() -> Path | None:
    """The folder with the jars of Apache Kafka 4.x, where the tests' set-up has put it."""
    found = next(SERVICES.glob("kafka-4.*/kafka_2.13-*.jar"), None)
    return found.parent if found else None


def start_kafka(
    processes: Processes, cores: Cores, ports: Iterator[int], topics: Sequence[str]
) -> Broker:
    """Apache Kafka on the load's core, with these topics.

    Raises `NotReadyError` without Java or Kafka, or when it does not start.
    """
    folder, java = jars(), which("java")
    if folder is None or java is None:
        raise NotReadyError("no Apache Kafka here; tests/services/setup.sh gets it")
    names = ("direct", "relayed", "relay", "controller")
    numbers = {name: next(ports) for name in names}
    properties = processes.directory / "kafka.properties"
    logs = processes.directory / "kafka-logs"
    text = PROPERTIES.format(**numbers, node=NODE_ID, message_bytes=MESSAGE_BYTES, logs=logs)
    properties.write_text(text)
    command = [java, "-Xms1g", "-Xmx1g", "-cp", f"{folder}/*"]
    tool = [*command, "kafka.tools.StorageTool", "format", "-t", "AAAAAAAAAAAAAAAAAAAAAA"]
    run_pinned([*tool, "-c", properties], cores.load, FORMAT_SECONDS)
    broker = processes.start("kafka", [*command, "kafka.Kafka", properties], cores.load)
    broker.wait_ready(lambda: answers(numbers["direct"]), READY_SECONDS)
    _make(numbers["direct"], topics)
    version = next(folder.glob("kafka_2.13-*.jar")).stem.removeprefix("kafka_2.13-")
    java_version = first_line(java, "-version").split('"')[1]
    described = f"Apache Kafka {version} on Java {java_version}"
    return Broker("kafka", described, numbers["direct"], numbers["relayed"], numbers["relay"])


def start_mock(
    processes: Processes, cores: Cores, ports: Iterator[int], topics: Sequence[str]
) -> Broker:
    """librdkafka's mock cluster, with these topics. Raises `NotReadyError`."""
    command = [sys.executable, "-m", "loadtest.kafka.mock", *topics]
    cluster = processes.start("mock", command, cores.load)
    cluster.wait_ready(lambda: cluster.log.read_text().endswith("\n"))
    port = int(cluster.log.read_text().splitlines()[-1])
    return Broker(
        "mock",
        f"mock cluster of librdkafka {confluent_kafka.libversion()[0]}",
        port,
        0,
        next(ports),
    )


def answers(port: int) -> bool:
    """Whether somebody there tells where the brokers are."""
    client = AdminClient({"bootstrap.servers": f"127.0.0.1:{port}", "log_level": 0})
    try:
        return bool(client.list_topics(timeout=ONE_ANSWER_SECONDS).brokers)
    except KafkaException:
        return False


def _make(port: int, topics: Sequence[str]) -> None:
    """Make topics. What is only produced is soon forgotten; what is to be fetched stays."""
    admin = AdminClient({"bootstrap.servers": f"127.0.0.1:{port}", "log_level": 0})
    forgetful = {"retention.bytes": str(KEPT_BYTES), "segment.bytes": str(SEGMENT_BYTES)}
    new = [
        NewTopic(topic, PARTITIONS, 1, config={} if topic.startswith("fetch") else forgetful)
        for topic in topics
    ]
    try:
        for done in admin.create_topics(new, operation_timeout=ANSWER_SECONDS).values():
            done.result(ANSWER_SECONDS)
    except KafkaException as error:
        raise NotReadyError(f"topics cannot be made: {error}") from error
