"""Services as they are found: each answers a request after it has called somebody else.

``python owner_apps.py KIND BACKEND_HOST BACKEND_PORT [OPTION=VALUE …]`` prints its port when it
listens, and ends when its standard input does. What arrives as ``X-Truth`` goes out with the call:
the tests read it, the evidence under test cannot.
"""

from __future__ import annotations

import asyncio
import encodings.idna  # noqa: F401  (cannot be imported any more once the user id has changed)
import http.client
import os
import queue
import random
import selectors
import socket
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer, ThreadingHTTPServer
from socketserver import ForkingMixIn

OPTIONS = dict(item.partition("=")[::2] for item in sys.argv[4:])
BACKEND = (sys.argv[2], int(sys.argv[3]))
HOST = OPTIONS.get("host", "127.0.0.1")
WORKERS = int(OPTIONS.get("workers", "4"))
CALLS = int(OPTIONS.get("calls", "2"))
TIMEOUT = float(OPTIONS["timeout"]) if "timeout" in OPTIONS else None
CLIENT = OPTIONS.get("client", "new")  # new: a connection for each call; own: one to each thread;
shared_connections: queue.LifoQueue[http.client.HTTPConnection] = (
    queue.LifoQueue()
)  # shared: a pool
local = threading.local()


def take() -> http.client.HTTPConnection:
    if CLIENT == "own" and hasattr(local, "connection"):
        return local.connection
    if CLIENT == "shared":
        try:
            return shared_connections.get_nowait()
        except queue.Empty:
            pass
    connection = http.client.HTTPConnection(*BACKEND, timeout=TIMEOUT)
    if CLIENT == "own":
        local.connection = connection
    return connection


def call(truth: str) -> None:
    connection = take()
    connection.request("GET", "/", headers={"X-Truth": truth})
    connection.getresponse().read()
    if CLIENT == "new":
        connection.close()
    elif CLIENT == "shared":
        shared_connections.put(connection)


def work(truth: str) -> None:
    for _ in range(CALLS):
        time.sleep(random.random() * 0.004)
        call(truth)
    time.sleep(random.random() * 0.002)


class Handler(BaseHTTPRequestHandler):
    protocol_version = OPTIONS.get("protocol", "HTTP/1.1")
    timeout = TIMEOUT
    calls = staticmethod(work)

    def do_GET(self) -> None:
        self.calls(self.headers["X-Truth"])
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def listen() -> socket.socket:
    family = socket.AF_INET6 if ":" in HOST else socket.AF_INET
    listener = socket.create_server(
        (HOST, 0), family=family, backlog=512, dualstack_ipv6=HOST == "::"
    )
    print(listener.getsockname()[1], flush=True)
    return listener


def server_on(listener: socket.socket, kind: type[HTTPServer]) -> HTTPServer:
    server = kind(listener.getsockname()[:2], Handler, bind_and_activate=False)
    server.socket = listener
    return server


def prefork(listener: socket.socket) -> None:
    """A process for each worker, which serves its connections one request at a time."""
    for _ in range(WORKERS):
        if os.fork() == 0:
            one_at_a_time(listener)
    sys.stdin.read()


def one_at_a_time(listener: socket.socket) -> None:
    connections = selectors.DefaultSelector()
    listener.setblocking(False)
    connections.register(listener, selectors.EVENT_READ)
    while True:
        for key, _ in connections.select():
            if key.fileobj is not listener:
                connection = key.fileobj
                connections.unregister(connection)
                if answer(connection):
                    connections.register(connection, selectors.EVENT_READ)
                continue
            try:
                accepted = listener.accept()[0]
            except BlockingIOError:
                continue
            accepted.setblocking(True)
            connections.register(accepted, selectors.EVENT_READ)


def answer(connection: socket.socket, keep: bool = True) -> bool:
    """Serve one request; False if there is none any more."""
    request = connection.recv(65536).decode()
    if not request:
        connection.close()
        return False
    work(request.partition("X-Truth: ")[2].partition("\r\n")[0])
    close = b"" if keep else b"Connection: close\r\n"
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n%s\r\n" % close)
    return True


def prefork_close(listener: socket.socket) -> None:
    """Synchronous workers, a connection for each request."""
    for _ in range(WORKERS):
        if os.fork() == 0:
            while True:
                accepted = listener.accept()[0]
                answer(accepted, keep=False)
                accepted.close()
    sys.stdin.read()


def threads(listener: socket.socket) -> None:
    server_on(listener, ThreadingHTTPServer).serve_forever()


class ForkingServer(ForkingMixIn, HTTPServer):
    max_children = 64


def forks(listener: socket.socket) -> None:
    """A process for each connection."""
    server_on(listener, ForkingServer).serve_forever()


def pool(listener: socket.socket) -> None:
    """A selector, and threads that each take whatever request is there."""
    hand_out(listener, answer)


def loitering_pool(listener: socket.socket) -> None:
    """A pool whose threads stay a moment for the next request on a connection (as Puma does)."""
    hand_out(listener, loiter)


def loiter(connection: socket.socket) -> bool:
    stays = selectors.PollSelector()
    stays.register(connection, selectors.EVENT_READ)
    while answer(connection):
        if not stays.select(0.02):
            return True
    return False


def hand_out(listener: socket.socket, serve: Callable[[socket.socket], bool]) -> None:
    """A selector that lends connections to threads; ``serve`` says whether one comes back."""
    executor = ThreadPoolExecutor(WORKERS)
    connections = selectors.DefaultSelector()
    connections.register(listener, selectors.EVENT_READ)
    back: queue.SimpleQueue[socket.socket] = queue.SimpleQueue()
    woken, wake = socket.socketpair()
    connections.register(woken, selectors.EVENT_READ)

    def lend(connection: socket.socket) -> None:
        if serve(connection):
            back.put(connection)
            wake.send(b"x")

    while True:
        for key, _ in connections.select():
            if key.fileobj is listener:
                connections.register(listener.accept()[0], selectors.EVENT_READ)
            elif key.fileobj is woken:
                woken.recv(1)
                connections.register(back.get(), selectors.EVENT_READ)
            else:
                connections.unregister(key.fileobj)
                executor.submit(lend, key.fileobj)


def readers(listener: socket.socket) -> None:
    """A thread for each connection, which has others make the calls."""
    executor = ThreadPoolExecutor(WORKERS)
    Handler.calls = staticmethod(lambda truth: executor.submit(work, truth).result())
    server_on(listener, ThreadingHTTPServer).serve_forever()


def helpers(listener: socket.socket) -> None:
    """A thread for each connection, and processes that make the calls: forked while requests are
    in flight, they inherit the connections that there are."""
    idle: queue.SimpleQueue[socket.socket] = queue.SimpleQueue()
    forking = threading.Lock()
    forked: list[int] = []

    def calls(truth: str) -> None:
        with forking:
            if not forked:
                time.sleep(0.05)  # until more connections have been accepted
                forked.extend(helper(idle) for _ in range(WORKERS))
        channel = idle.get()
        channel.send(truth.encode())
        channel.recv(1)
        idle.put(channel)

    Handler.calls = staticmethod(calls)
    server_on(listener, ThreadingHTTPServer).serve_forever()


def helper(idle: queue.SimpleQueue[socket.socket]) -> int:
    ours, its = socket.socketpair()
    if process := os.fork():
        idle.put(ours)
        return process
    while True:
        work(its.recv(100).decode())
        its.send(b"x")


def tasks(listener: socket.socket) -> None:
    """asyncio."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while request := (await _until_blank(reader)).decode():
            truth = request.partition("X-Truth: ")[2].partition("\r\n")[0]
            for _ in range(CALLS):
                await asyncio.sleep(random.random() * 0.004)
                there, back = await asyncio.open_connection(*BACKEND)
                back.write(f"GET / HTTP/1.1\r\nHost: b\r\nX-Truth: {truth}\r\n\r\n".encode())
                await _until_blank(there)
                back.close()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    async def main() -> None:
        await (await asyncio.start_server(connected, sock=listener)).serve_forever()

    asyncio.run(main())


async def _until_blank(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return b""


KINDS = {
    "prefork": prefork,
    "prefork-close": prefork_close,
    "threads": threads,
    "forks": forks,
    "pool": pool,
    "loitering-pool": loitering_pool,
    "readers": readers,
    "helpers": helpers,
    "tasks": tasks,
}


def main() -> None:
    listener = listen()
    if "uid" in OPTIONS:
        os.setgid(int(OPTIONS["uid"]))
        os.setuid(int(OPTIONS["uid"]))
    os.setpgid(0, 0)
    if not sys.argv[1].startswith("prefork"):  # those fork, and have no other thread
        threading.Thread(target=end_with_input, daemon=True).start()
    KINDS[sys.argv[1]](listener)
    os.killpg(0, 9)


def end_with_input() -> None:
    sys.stdin.read()
    os.killpg(0, 9)


if __name__ == "__main__":
    main()
