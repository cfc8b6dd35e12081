"""What netlink and /proc tell of sockets, processes and threads."""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from meshproxy.linking.ownership import BUSY, ELSEWHERE, QUEUED, UNKNOWN, NoLookup, OwnerError
from meshproxy.linking.sockets import Socket
from meshproxy.sidecar.owners import ProcLookup, lookup_for
from meshproxy.sidecar.owners.descriptors import Descriptors
from meshproxy.sidecar.owners.netlink import SockDiag
from meshproxy.sidecar.owners.threads import Threads
from meshproxy.transport.runtime import plain_host

FOREVER = 60.0


class Pair:
    """A listener, and a connection to it."""

    def __init__(self, host: str = "127.0.0.1", to: str = "") -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.listener = socket.create_server((host, 0), family=family, dualstack_ipv6=host == "::")
        self.client = socket.create_connection((to or host, self.listener.getsockname()[1]))
        self.service = Socket(
            plain_host(self.client.getpeername()), plain_host(self.client.getsockname())
        )
        self.accepted: socket.socket | None = None

    def accept(self) -> socket.socket:
        self.accepted = self.listener.accept()[0]
        return self.accepted

    def close(self) -> None:
        for each in (self.listener, self.client, self.accepted):
            if each is not None:
                each.close()


@pytest.fixture
def pair() -> Iterator[Pair]:
    made = Pair()
    yield made
    made.close()


@pytest.fixture
def diag() -> Iterator[SockDiag]:
    made = SockDiag()
    yield made
    made.close()


@pytest.mark.parametrize(
    ("host", "to"), [("127.0.0.1", ""), ("::1", ""), ("::", "127.0.0.1"), ("::", "::1")]
)
def test_the_inode_of_a_connection(diag: SockDiag, host: str, to: str) -> None:
    pair = Pair(host, to)
    try:
        assert diag.look([pair.service]) == [(QUEUED, 0)]
        accepted = pair.accept()
        pair.client.sendall(b"12345")
        inode = os.fstat(accepted.fileno()).st_ino
        assert diag.look([pair.service]) == [(inode, 5)]
        accepted.recv(3)
        assert diag.look([pair.service]) == [(inode, 2)]
    finally:
        pair.close()


def test_connections_that_are_not_there(diag: SockDiag, pair: Pair) -> None:
    inode = os.fstat(pair.accept().fileno()).st_ino
    address = pair.listener.getsockname()
    stranger = Socket(address, ("127.0.0.1", 1))  # for this the kernel offers the listener
    nobody = Socket(("127.0.0.1", 1), ("127.0.0.1", 2))
    named = Socket(("localhost", 1), ("localhost", 2))
    found = diag.look([stranger, pair.service, nobody, named])
    assert [each[0] for each in found] == [UNKNOWN, inode, UNKNOWN, UNKNOWN]


def test_many_connections_at_once(diag: SockDiag, pair: Pair) -> None:
    inode = os.fstat(pair.accept().fileno()).st_ino
    assert diag.look([pair.service] * 200) == [(inode, 0)] * 200


def test_a_connection_that_the_service_has_closed(diag: SockDiag, pair: Pair) -> None:
    pair.accept().close()
    assert diag.look([pair.service]) == [(UNKNOWN, 0)]


# Processes


@pytest.fixture
def child() -> Iterator[Callable[[Callable[[], object]], int]]:
    """``child(act)`` forks a process that acts, says so, and then holds still."""
    children: list[int] = []

    def fork(act: Callable[[], object]) -> int:
        done, say = os.pipe()
        process = os.fork()
        if process == 0:
            act()
            os.write(say, b"x")
            threading.Event().wait(FOREVER)
            os._exit(0)
        children.append(process)
        os.read(done, 1)
        os.close(done)
        os.close(say)
        return process

    yield fork
    for process in children:
        os.kill(process, 9)
        os.waitpid(process, 0)


def found_by(descriptors: Descriptors, inode: int) -> list[int]:
    return sorted(process for process, _ in descriptors.holders([inode], 10.0).get(inode, []))


def test_the_process_that_holds_a_socket(
    pair: Pair, child: Callable[[Callable[[], object]], int]
) -> None:
    inode = os.fstat(pair.accept().fileno()).st_ino
    process = child(lambda: None)
    descriptors = Descriptors()
    holders = descriptors.holders([inode], 10.0)
    assert [holder for holder, _ in holders[inode]] == [process]  # and not the one that asks
    number = holders[inode][0][1]
    assert descriptors.holds(process, number, inode)
    assert not descriptors.holds(process, number, inode + 1)
    assert not descriptors.holds(process, 9999, inode)


def found_holder(
    pair: Pair, child: Callable[[Callable[[], object]], int]
) -> tuple[Descriptors, int, int]:
    """A process that holds a connection and was found: who knows it, the inode, the process."""
    inode = os.fstat(pair.accept().fileno()).st_ino
    process = child(lambda: None)
    descriptors = Descriptors()
    assert found_by(descriptors, inode) == [process]
    return descriptors, inode, process


def test_processes_that_share_a_socket_by_inheritance(
    pair: Pair, child: Callable[[Callable[[], object]], int]
) -> None:
    descriptors, inode, first = found_holder(pair, child)
    met = descriptors.generation
    other = Pair()
    other_inode = os.fstat(other.accept().fileno()).st_ino
    second = child(lambda: None)
    assert found_by(descriptors, other_inode) == [second]
    assert descriptors.generation > met
    assert found_by(descriptors, inode) == sorted([first, second])
    other.close()


def test_a_process_that_has_ended_is_forgotten(
    pair: Pair, child: Callable[[Callable[[], object]], int]
) -> None:
    descriptors, inode, first = found_holder(pair, child)
    os.kill(first, 9)
    os.waitid(os.P_PID, first, os.WEXITED | os.WNOWAIT)
    second = child(lambda: None)
    assert found_by(descriptors, inode) == [second]


def test_no_process_is_visible(
    tmp_path: Path, pair: Pair, capfd: pytest.CaptureFixture[str]
) -> None:
    pair.accept()
    lookup = ProcLookup(str(tmp_path))
    inode = lookup.look([pair.service])[0][0]
    failures: list[str] = []
    while len(failures) < 2:  # between two searches it finds nobody without complaining
        try:
            assert lookup.holders([inode], 1.0) == {}
        except OwnerError as error:
            failures.append(error.reason)
    assert failures == ["not_visible", "not_visible"]
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines() if "{" in line]
    assert [line["reason"] for line in lines] == ["not_visible"]
    assert "shareProcessNamespace" in lines[0]["advice"]


STRANGER = """
import os, sys
from meshproxy.linking.ownership import OwnerError
from meshproxy.sidecar.owners import ProcLookup
lookup = ProcLookup()
os.setgid(12345)
os.setuid(12345)
try:
    print(lookup.holders([int(sys.argv[1])], 10.0))
except OwnerError as error:
    print(error.reason)
try:
    print(lookup.awaited(int(sys.argv[2]), int(sys.argv[2]), 0.0))
except OwnerError as error:
    print(error.reason)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
def test_another_user_is_denied(pair: Pair, child: Callable[[Callable[[], object]], int]) -> None:
    inode = os.fstat(pair.accept().fileno()).st_ino
    process = child(lambda: None)
    done = subprocess.run(
        [sys.executable, "-c", STRANGER, str(inode), str(process)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["denied", "threads_denied"]
    assert "CAP_SYS_PTRACE" in done.stderr


# Threads


def blocked(act: Callable[[], object]) -> tuple[threading.Thread, int]:
    thread = threading.Thread(target=act, daemon=True)
    thread.start()
    assert thread.native_id is not None
    return thread, thread.native_id


def settles(look: Callable[[], int], value: int) -> bool:
    """Whether a look gives this value soon; a thread takes a moment to get where it waits."""
    return any(look() == value for _ in range(200_000))


WAITS: dict[str, Callable[[socket.socket], object]] = {
    "recv": lambda each: each.recv(1),
    "recvmsg": lambda each: each.recvmsg(1),
    "read": lambda each: os.read(each.fileno(), 1),
    "poll before recv": lambda each: (each.settimeout(FOREVER), each.recv(1)),
    "select": lambda each: select.select([each], [], []),
}


@pytest.mark.parametrize("kind", WAITS)
def test_the_descriptor_that_a_thread_waits_for(pair: Pair, kind: str) -> None:
    accepted = pair.accept()
    number = accepted.fileno()
    thread, tid = blocked(lambda: WAITS[kind](accepted))
    threads = Threads()
    assert settles(lambda: threads.awaited(os.getpid(), tid, 0.0), number)
    assert tid in threads.of(os.getpid())
    pair.client.sendall(b"x")
    thread.join(FOREVER)
    assert settles(lambda: threads.awaited(os.getpid(), tid, 0.0), ELSEWHERE)
    threads.close()


TIMED: dict[str, Callable[[socket.socket, float], object]] = {
    "poll": lambda each, limit: (each.settimeout(limit), each.recv(1)),
    "select": lambda each, limit: select.select([each], [], [], limit),
}


@pytest.mark.parametrize("kind", TIMED)
@pytest.mark.parametrize("limit", [FOREVER, 2 * FOREVER])
def test_how_long_a_thread_is_ready_to_wait(pair: Pair, kind: str, limit: float) -> None:
    accepted = pair.accept()
    thread, tid = blocked(lambda: TIMED[kind](accepted, limit))
    threads = Threads()
    me = os.getpid()
    number = accepted.fileno()
    assert settles(lambda: threads.awaited(me, tid, 0.0), number)
    expected = number if limit > FOREVER else ELSEWHERE
    assert threads.awaited(me, tid, FOREVER * 1.5) == expected
    pair.client.sendall(b"x")
    thread.join(FOREVER)
    threads.close()


def test_a_thread_that_waits_for_several_things(pair: Pair) -> None:
    accepted = pair.accept()
    poll = select.epoll()
    poll.register(accepted, select.EPOLLIN)
    threads = Threads()
    for wait in (lambda: select.select([accepted, pair.listener], [], []), poll.poll):
        pair.client.sendall(b"x")
        accepted.recv(1)
        thread, tid = blocked(wait)
        assert settles(partial(threads.awaited, os.getpid(), tid, 0.0), ELSEWHERE)
        looks = {threads.awaited(os.getpid(), tid, 0.0) for _ in range(2000)}
        assert looks <= {BUSY, ELSEWHERE}
        pair.client.sendall(b"x")
        thread.join(FOREVER)
        accepted.recv(1)
    threads.close()
    poll.close()


def test_processes_that_are_not_there() -> None:
    threads = Threads()
    assert threads.of(2**22 + 1) == []
    assert threads.awaited(2**22 + 1, 2**22 + 1, 0.0) == ELSEWHERE


def test_the_setting() -> None:
    assert isinstance(lookup_for("auto"), ProcLookup)
    assert isinstance(lookup_for("off"), NoLookup)
