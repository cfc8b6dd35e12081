"""Where the real programs are. What is missing fails the test that needs it: nothing is skipped."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

CACHE = Path(__file__).parents[3] / ".cache" / "services"
KAFKA = "4.3.1"
OLDER_KAFKA = "3.9.2"
SEARCH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))


def program(name: str) -> str:
    """The path of a program that the operating system has."""
    return _or_fail(shutil.which(name, path=SEARCH), name)


def envoy() -> str:
    """The path of Envoy's binary."""
    found = sorted((CACHE / "envoy").glob("lib/python*/site-packages/envoy/_bin/envoy"))
    return _or_fail(str(found[0]) if found else None, "envoy")


def jaeger() -> str:
    """The path of Jaeger's binary."""
    file = CACHE / "jaeger"
    return _or_fail(str(file) if file.exists() else None, "jaeger")


def sdk(name: str) -> str:
    """The path of a program in the environment that has the OpenTelemetry SDK."""
    return _or_fail(shutil.which(name, path=str(CACHE / "sdk" / "bin")), f"{name} (the SDK)")


def kafka202(name: str) -> str:
    """The path of a program in the environment that has kafka-python 2.0.2."""
    found = shutil.which(name, path=str(CACHE / "kafka202" / "bin"))
    return _or_fail(found, f"{name} (kafka-python 2.0.2)")


def kafka_jars(version: str) -> str:
    """The class path of Apache Kafka's brokers and tools."""
    stamp = CACHE / f"kafka-{version}.stamp"
    _or_fail(str(stamp) if stamp.exists() else None, f"kafka {version}")
    return f"{CACHE / f'kafka-{version}'}/*"


def _or_fail(path: str | None, name: str) -> str:
    if path is None:
        pytest.fail(f"not run: {name} is not here, and tests/services/setup.sh could not get it")
    return path
