"""A thread for each connection: ``threads SETTINGS KEPT POOL``.

``keep`` is HTTP/1.1, ``close`` HTTP/1.0 with a connection for each call. The connections of calls
are each thread's ``own``, or all in one ``shared`` pool.
"""

from __future__ import annotations

import sys
from http.server import ThreadingHTTPServer

from loadtest.linking.live.services.blocking import Fresh, PerThread, Shared, Work
from loadtest.linking.live.services.handling import Handler
from loadtest.linking.live.services.settings import Settings

POOLS: dict[str, type[PerThread | Shared]] = {"own": PerThread, "shared": Shared}


class Keeping(Handler):
    protocol_version = "HTTP/1.1"


class Closing(Handler):
    protocol_version = "HTTP/1.0"


class Server(ThreadingHTTPServer):
    request_queue_size = 512


def main(path: str, kept: str, pool: str) -> None:
    settings = Settings.read(path)
    Handler.work = Work(settings, POOLS[pool] if kept == "keep" else Fresh)
    Handler.work.start_background()
    handler = Keeping if kept == "keep" else Closing
    Server(("127.0.0.1", settings.port), handler).serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
