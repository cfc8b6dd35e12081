"""One thread reads all connections, and workers take requests from a queue: ``pool SETTINGS``.

Which thread serves a request has nothing to do with its connection, and the connections of calls
are shared by all workers.
"""

from __future__ import annotations

import json
import selectors
import socket
import sys
import threading
from queue import SimpleQueue

from loadtest.linking.live.services.behaviour import SERVICE_HEADERS, item_of, request_of
from loadtest.linking.live.services.blocking import Shared, Work
from loadtest.linking.live.services.settings import Settings

READ_BYTES = 65536


class Incoming:
    """A connection, and what has come of its next request; a client waits for its answer."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self._received = b""

    def read(self) -> tuple[str, dict[str, str], bytes] | None:
        """The target, headers and body when a request is complete.

        Raises `EOFError` when the connection is closed.
        """
        data = self.connection.recv(READ_BYTES)
        if not data:
            raise EOFError
        self._received += data
        head, blank, body = self._received.partition(b"\r\n\r\n")
        if not blank:
            return None
        line, *fields = head.decode("latin-1").split("\r\n")
        pairs = (field.partition(":") for field in fields)
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        if len(body) < int(headers.get("content-length", 0)):
            return None
        self._received = b""
        return line.split(" ")[1], {k: headers[k] for k in SERVICE_HEADERS if k in headers}, body


Job = tuple[socket.socket, str, dict[str, str], bytes]


def work_off(jobs: SimpleQueue[Job], work: Work) -> None:
    """A worker: one request after the other, of any connection."""
    while True:
        connection, target, headers, body = jobs.get()
        request = request_of(target, headers, body)
        late = work.answer(request)
        answer = json.dumps({"item": item_of(target)}).encode()
        connection.sendall(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
            % (len(answer), answer)
        )
        work.finish_elsewhere(request, late)


def read_all(listening: socket.socket, jobs: SimpleQueue[Job]) -> None:
    """Accept, read, and hand complete requests over."""
    selector = selectors.DefaultSelector()
    selector.register(listening, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.fileobj is listening:
                connection, _ = listening.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                selector.register(connection, selectors.EVENT_READ, Incoming(connection))
                continue
            incoming: Incoming = key.data
            try:
                request = incoming.read()
            except (EOFError, OSError):
                selector.unregister(incoming.connection)
                incoming.connection.close()
                continue
            if request is not None:
                jobs.put((incoming.connection, *request))


def main(path: str) -> None:
    settings = Settings.read(path)
    work = Work(settings, Shared)
    jobs: SimpleQueue[Job] = SimpleQueue()
    for _ in range(settings.workers):
        threading.Thread(target=work_off, args=(jobs, work), daemon=True).start()
    work.start_background()
    read_all(socket.create_server(("127.0.0.1", settings.port), backlog=512), jobs)


if __name__ == "__main__":
    main(*sys.argv[1:])
