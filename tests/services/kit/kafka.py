"""Apache Kafka in KRaft mode: brokers that are controllers too, each with all its listeners.

What runs here is shared by many tests, which run in event loops of their own; so it is synchronous.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import trustme
from confluent_kafka.admin import (
    AdminClient,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from confluent_kafka.cimpl import NewTopic
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from kafka import TopicPartition
from kafka.admin import KafkaAdminClient

from meshproxy.demo.processes import Ports, plain_environment
from tests.services.kit.programs import kafka_jars, program

PATIENCE: Final = 60.0
POLL: Final = 0.05
STOP_PATIENCE: Final = 15.0

CLUSTER_ID: Final = "bWVzaHByb3h5LXRlc3RzLQ"
USER: Final = "alice"
PASSWORD: Final = "alice-secret"
CLIENT_LISTENERS: Final = ("PLAINTEXT", "SASL_PLAINTEXT", "SASL_SSL", "SSL")

LIGHT: Final = ("-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData")
"""Options of a Java that starts soon and shares two cores with others."""

SETTINGS: Final = """\
process.roles=broker,controller
node.id={node}
controller.quorum.voters={voters}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listeners={listeners}
advertised.listeners={advertised}
listener.security.protocol.map=CONTROLLER:PLAINTEXT,{protocols}
log.dirs={storage}
num.network.threads=2
num.io.threads=2
auto.create.topics.enable=false
auto.leader.rebalance.enable=false
broker.heartbeat.interval.ms=500
broker.session.timeout.ms=3000
default.replication.factor={copies}
offsets.topic.replication.factor={copies}
offsets.topic.num.partitions=3
transaction.state.log.replication.factor={copies}
transaction.state.log.num.partitions=3
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor={copies}
share.coordinator.state.topic.num.partitions=3
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
group.consumer.min.heartbeat.interval.ms=500
group.consumer.heartbeat.interval.ms=500
group.min.session.timeout.ms=1000
ssl.keystore.type=PEM
ssl.keystore.location={certificate}
"""

SASL: Final = """\
listener.name.{name}.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,OAUTHBEARER
listener.name.{name}.plain.sasl.jaas.config={jaas}.plain.PlainLoginModule required \
user_{user}="{password}";
listener.name.{name}.scram-sha-256.sasl.jaas.config={jaas}.scram.ScramLoginModule required;
listener.name.{name}.oauthbearer.sasl.jaas.config={jaas}.oauthbearer.OAuthBearerLoginModule \
required unsecuredLoginStringClaim_sub="{user}";
"""


class Broker:
    """One broker, on ports that it keeps over restarts. ``log`` is the file of what it prints."""

    def __init__(self, node: int, folder: Path, java: list[str], ports: dict[str, int]) -> None:
        self.node = node
        self.ports = ports
        self.folder = folder
        self.log = folder / "log"
        self._java = java
        self._settings = str(folder / "server.properties")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def storage(self) -> Path:
        """The folder of its data."""
        return self.folder / "data"

    def format(self) -> None:
        """Prepare its storage by Kafka's own tool."""
        tool = ["kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", self._settings]
        self._run([*self._java, *tool])
        assert self._process is not None
        assert self._process.wait(PATIENCE) == 0, self.tail()

    def format_like(self, other: Broker) -> None:
        """Prepare its storage as the tool did for another: a Java less to start."""
        shutil.copytree(other.storage, self.storage)
        (self.storage / "meta.properties").write_text(
            f"version=1\ncluster.id={CLUSTER_ID}\nnode.id={self.node}\n"
        )

    def start(self) -> None:
        """Begin to start; `accepts` tells when it is up."""
        self._run([*self._java, "kafka.Kafka", self._settings])

    def _run(self, command: list[str]) -> None:
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=plain_environment({}),
                start_new_session=True,
            )

    def accepts(self) -> bool:
        """Whether it accepts connections of clients."""
        assert self._process is not None
        assert self._process.poll() is None, f"broker {self.node} ended: {self.tail()}"
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", self.ports["PLAINTEXT"])) == 0

    def kill(self) -> None:
        """End it with no chance to say good-bye."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it in order: it gives away its partitions first."""
        self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        try:
            process.wait(STOP_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def tail(self) -> str:
        """The end of what it printed."""
        return self.log.read_text(errors="replace")[-2000:]


class Kafka:
    """A cluster, its nodes numbered from 1; ``ca`` is the file of the authority it trusts in."""

    def __init__(self, folder: Path, version: str, brokers: int) -> None:
        self.version = version
        self.folder = folder
        self.ca = folder / "ca.pem"
        self.brokers: dict[int, Broker] = {}
        self._ports = Ports()
        self._admin: AdminClient | None = None
        java = [
            program("java"),
            *LIGHT,
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
            *("-cp", kafka_jars(version)),
        ]
        names = ("CONTROLLER", *CLIENT_LISTENERS)
        for node in range(1, brokers + 1):
            home = folder / f"broker-{node}"
            home.mkdir()
            ports = {name: self._ports.take() for name in names}
            self.brokers[node] = Broker(node, home, java, ports)
        certificate = self._certificate()
        for broker in self.brokers.values():
            (broker.folder / "server.properties").write_text(self._settings(broker, certificate))

    def _certificate(self) -> Path:
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(self.ca))
        issued = authority.issue_cert("localhost")
        # Java reads keys in PKCS #8 only.
        key = load_pem_private_key(issued.private_key_pem.bytes(), None)
        path = self.folder / "server.pem"
        path.write_bytes(
            key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            + b"".join(blob.bytes() for blob in issued.cert_chain_pems)
        )
        return path

    def _settings(self, broker: Broker, certificate: Path) -> str:
        ports = broker.ports
        addresses = [f"{name}://localhost:{ports[name]}" for name in CLIENT_LISTENERS]
        text = SETTINGS.format(
            node=broker.node,
            voters=",".join(
                f"{each.node}@localhost:{each.ports['CONTROLLER']}"
                for each in self.brokers.values()
            ),
            listeners=",".join([*addresses, f"CONTROLLER://localhost:{ports['CONTROLLER']}"]),
            advertised=",".join(addresses),
            protocols=",".join(f"{name}:{name}" for name in CLIENT_LISTENERS),
            storage=broker.storage,
            copies=len(self.brokers),
            certificate=certificate,
        )
        jaas = "org.apache.kafka.common.security"
        for name in ("sasl_plaintext", "sasl_ssl"):
            text += SASL.format(name=name, jaas=jaas, user=USER, password=PASSWORD)
        return text

    # Its life

    def start(self) -> None:
        """Start all brokers at once, and wait until they know each other."""
        first, *others = self.brokers.values()
        first.format()
        for broker in others:
            broker.format_like(first)
        for broker in self.brokers.values():
            broker.start()
        for broker in self.brokers.values():
            until(broker.accepts)
        self._admin = AdminClient({"bootstrap.servers": self.bootstrap(), "log_level": 0})
        until(lambda: len(self.admin.list_topics(timeout=PATIENCE).brokers) == len(self.brokers))
        self._add_user()

    def _add_user(self) -> None:
        credentials = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_256, 4096)
        change = UserScramCredentialUpsertion(USER, credentials, PASSWORD.encode())
        settle(self.admin.alter_user_scram_credentials([change]))

    def close(self) -> None:
        """End all."""
        for broker in self.brokers.values():
            broker.kill()
        self._ports.close()

    # What it knows

    @property
    def admin(self) -> AdminClient:
        """A client that talks to the brokers directly."""
        assert self._admin is not None
        return self._admin

    def address(self, node: int = 1, listener: str = "PLAINTEXT") -> str:
        """Where a broker is."""
        return f"localhost:{self.brokers[node].ports[listener]}"

    def bootstrap(self) -> str:
        """All brokers, for clients that talk to them directly."""
        return ",".join(self.address(node) for node in self.brokers)

    def node_at(self, port: int) -> int:
        """Which broker listens on a port."""
        return next(n for n, each in self.brokers.items() if port in each.ports.values())

    def topic(self, name: str, partitions: int = 1, **config: str) -> str:
        """Make a topic, replicated to all brokers, and wait until it can be written to."""
        new = NewTopic(name, partitions, len(self.brokers), config=config)
        settle(self.admin.create_topics([new]))
        until(lambda: all(self.leader(name, number) > 0 for number in range(partitions)))
        return name

    def leader(self, topic: str, partition: int) -> int:
        """The node that leads a partition; below 0 if none does."""
        found = self.admin.list_topics(topic, timeout=PATIENCE).topics[topic].partitions
        return int(found[partition].leader) if partition in found else -1

    def in_sync(self, topic: str, partition: int) -> int:
        """How many brokers have all of a partition."""
        found = self.admin.list_topics(topic, timeout=PATIENCE).topics[topic].partitions
        return len(found[partition].isrs)

    # What can happen to it

    def move_leader(self, topic: str, partition: int, node: int) -> None:
        """Have another broker lead a partition."""
        others = [each for each in self.brokers if each != node]
        client = KafkaAdminClient(bootstrap_servers=self.bootstrap())
        try:
            client.alter_partition_reassignments(
                {TopicPartition(topic, partition): [node, *others]}
            )
            until(lambda: not client.list_partition_reassignments())
            client.elect_leaders(0, {topic: [partition]})
        finally:
            client.close()
        until(lambda: self.leader(topic, partition) == node)

    def restart(self, node: int, topic: str, *, kill: bool) -> None:
        """End a broker, have others lead its part of ``topic``, and have it back in sync."""
        broker = self.brokers[node]
        (broker.kill if kill else broker.stop)()
        partitions = range(len(self.admin.list_topics(topic).topics[topic].partitions))
        until(lambda: all(self.leader(topic, each) not in (node, -1) for each in partitions))
        broker.start()
        until(broker.accepts)
        everywhere = len(self.brokers)
        until(lambda: all(self.in_sync(topic, each) == everywhere for each in partitions))


def running(folder: Path, version: str, brokers: int) -> Iterator[Kafka]:
    """A cluster for as long as a fixture lives."""
    cluster = Kafka(folder, version, brokers)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.close()


def settle(changes: Mapping[str, Future[Any]]) -> None:
    """Wait until all that an AdminClient was asked for is done."""
    for name, change in changes.items():
        error = change.exception(PATIENCE)
        # Not raised as it is: pytest fails on the context of librdkafka's exceptions.
        assert error is None, f"{name}: {error}"


def until(true: Callable[[], bool]) -> None:
    """Wait for something that can only be asked for."""
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, f"not in {PATIENCE} s: {true}"
        time.sleep(POLL)
