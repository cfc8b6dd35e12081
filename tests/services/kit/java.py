"""The programs of Apache Kafka that are written in Java, and a client on its library."""

from __future__ import annotations

from pathlib import Path

from tests.services.kit.kafka import LIGHT
from tests.services.kit.programs import KAFKA, kafka_jars, program
from tests.services.kit.run import run

CLIENT = Path(__file__).parents[1] / "clients" / "KafkaClient.java"


async def tool(main: str, *options: str, version: str = KAFKA, feed: bytes = b"") -> str:
    """What a tool prints, such as ``org.apache.kafka.tools.ConsoleProducer``."""
    return await run(*_java(version), main, *options, feed=feed)


async def client(command: str, bootstrap: str, topic: str) -> dict[str, list[str]]:
    """What the client found: words by the first word of their line."""
    said = await run(*_java(KAFKA), str(CLIENT), command, bootstrap, topic)
    return {line.split()[0]: line.split()[1:] for line in said.splitlines()}


def _java(version: str) -> list[str]:
    silent = "-Dorg.slf4j.simpleLogger.defaultLogLevel=error"
    return [program("java"), *LIGHT, silent, "-cp", kafka_jars(version)]
