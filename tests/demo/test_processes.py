"""No child outlives the demo, and no port is lost to somebody else."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psutil
import pytest

from meshproxy.demo.processes import Child, DemoError, Ports, plain_environment, stop_all

SLEEPER = ["-c", "import time; print('up'); time.sleep(600)"]

PARENT = """
import asyncio
from meshproxy.demo.processes import Child

async def main():
    up = asyncio.Event()
    child = await Child.start("c", ["-c", "import time; print('up'); time.sleep(600)"], {},
                              lambda line: up.set())
    await up.wait()
    print(child.pid, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@contextmanager
def watching(pid: int) -> Iterator[Callable[[], bool]]:
    """Whether a process that is not our child ends soon, reaped by its new parent or not."""
    handle = os.pidfd_open(pid)
    try:
        yield lambda: bool(select.select([handle], [], [], 5)[0])
    finally:
        os.close(handle)


async def start(arguments: list[str]) -> tuple[Child, asyncio.Queue[str]]:
    lines: asyncio.Queue[str] = asyncio.Queue()
    return await Child.start("child", arguments, {}, lines.put_nowait), lines


def test_reserved_ports_differ_and_a_server_can_listen_on_them() -> None:
    ports = Ports()
    numbers = [ports.take() for _ in range(20)]
    assert len(set(numbers)) == 20
    address = ("127.0.0.1", numbers[0])
    with socket.create_server(address) as server, socket.create_connection(address, 5):
        server.accept()[0].close()
    ports.close()


def test_a_reserved_port_cannot_be_taken_by_chance() -> None:
    ports = Ports()
    number = ports.take()
    with socket.socket() as stranger, pytest.raises(OSError, match="in use"):
        stranger.bind(("127.0.0.1", number))
    ports.close()


def test_children_see_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    environment = plain_environment({"ORDERS_URL": "x"})
    assert not [key for key in environment if key.lower().endswith("_proxy")]
    assert environment["ORDERS_URL"] == "x"


async def test_a_child_that_dies_is_told_with_its_log() -> None:
    child, _ = await start(["-c", "print('so far so good'); raise SystemExit('no such port')"])
    with pytest.raises(DemoError) as told:
        await child.fail_when_dead()
    message = str(told.value)
    assert "child ended with exit code 1" in message
    assert "so far so good" in message
    assert "no such port" in message


async def test_a_child_that_ignores_sigterm_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meshproxy.demo.processes.STOP_TIMEOUT", 0.05)
    stubborn = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + SLEEPER[1]
    child, lines = await start(["-c", stubborn])
    await lines.get()
    await stop_all([child])
    assert not psutil.pid_exists(child.pid)


async def test_what_a_child_has_started_goes_with_it() -> None:
    nested = (
        "import subprocess, sys, time; "
        "print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']).pid); "
        "time.sleep(600)"
    )
    child, lines = await start(["-c", nested])
    with watching(int(await lines.get())) as ended:
        await stop_all([child])
        assert ended()


def test_children_die_with_a_parent_that_had_no_time_to_clean_up() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        with watching(int(parent.stdout.readline())) as ended:
            parent.send_signal(signal.SIGKILL)
            parent.wait()
            assert ended()
