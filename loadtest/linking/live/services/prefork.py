"""Worker processes that accept on one socket, one request at a time: ``prefork SETTINGS KEPT``.

``keep``: a worker belongs to a connection until that is closed. ``close``: a connection for each
request, so that a few workers serve many clients. A call after the answer is made before the worker
takes its next request, as by PHP's ``fastcgi_finish_request``.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys
from http.server import HTTPServer

from loadtest.linking.live.services.blocking import Fresh, PerThread, Work
from loadtest.linking.live.services.handling import Handler
from loadtest.linking.live.services.settings import Settings
from loadtest.processes import PR_SET_PDEATHSIG


class Keeping(Handler):
    protocol_version = "HTTP/1.1"
    finishes_elsewhere = False


class Closing(Keeping):
    closes = True


def serve_worker(listening: socket.socket, settings: Settings, keeps: bool) -> None:
    """Serve for ever; every worker makes its part of the background calls."""
    Handler.work = Work(settings, PerThread if keeps else Fresh)
    Handler.work.start_background(1 / settings.workers)
    handler = Keeping if keeps else Closing
    server = HTTPServer(("127.0.0.1", settings.port), handler, bind_and_activate=False)
    server.socket = listening
    while True:
        server.handle_request()


def main(path: str, kept: str) -> None:
    settings = Settings.read(path)
    listening = socket.create_server(("127.0.0.1", settings.port), backlog=512)
    for _ in range(settings.workers):
        if os.fork() == 0:
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
            serve_worker(listening, settings, kept == "keep")
    signal.pause()


if __name__ == "__main__":
    main(*sys.argv[1:])
