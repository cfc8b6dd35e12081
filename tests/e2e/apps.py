"""Legacy services, thread-based and asyncio, that treat trace context in every way people do.

The path of a request is ``/{manners}/{number}``. ``manners`` says how the service treats trace
context in the call it makes, which goes to the next service under the same path. So the number
tells, to a test, which request a call belongs to; nothing else does.
"""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol

from aiohttp import ClientSession, web
from multidict import CIMultiDict

from tests.e2e.sdk import Instrumented

Headers = Sequence[tuple[str, str]]

FOREIGN = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
"""A context that has nothing to do with any request."""

PROPAGATED = ("traceparent", "tracestate", "baggage")


class Manners:
    """What a service makes of the headers that came in; remembers what it should not."""

    def __init__(self, sdk: Instrumented) -> None:
        self._sdk = sdk
        self._first: dict[str, str] = {}

    def __call__(self, path: str, came: Headers) -> Headers:
        """The headers of the call."""
        lower = {name.lower(): value for name, value in came}
        known = [(name, lower[name]) for name in PROPAGATED if name in lower]
        parent = lower.get("traceparent", "")
        return {
            "nothing": list,
            "copies": lambda: known,
            "echoes": lambda: [("X-Request-Id", lower["x-request-id"])],
            "stale": lambda: [("traceparent", self._first.setdefault("stale", parent))],
            "restarts": lambda: [("traceparent", FOREIGN)],
            "malforms": lambda: [("traceparent", parent.upper() + ".")],
            "doubles": lambda: [*known, ("Traceparent", FOREIGN)],
            "b3": lambda: [("b3", f"{parent[3:35]}-{parent[36:52]}-1")],
            "no-tracestate": lambda: [pair for pair in known if pair[0] != "tracestate"],
            "no-baggage": lambda: [pair for pair in known if pair[0] != "baggage"],
            "unsamples": lambda: [("traceparent", parent[:-2] + "00"), *known[1:]],
            "sdk": lambda: self._sdk(path, lower),
        }[path.split("/")[1]]()


class Gate(Protocol):
    """Where all of so many requests wait for one another."""

    def wait(self) -> Any: ...


class Threaded:
    """A thread a connection, blocking calls on connections of their own."""

    def __init__(self, next_port: Callable[[], int] | None, sdk: Instrumented) -> None:
        self.gate: threading.Barrier | None = None
        manners = Manners(sdk)
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1

            def do_GET(self) -> None:
                came = [(name, value) for name, value in self.headers.items()]
                if next_port is not None:
                    service.pass_gate()
                    _call(next_port(), self.path, manners(self.path, came))
                    service.pass_gate()
                body = json.dumps(came).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            request_queue_size = 64
            daemon_threads = True

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), daemon=True
        )

    def pass_gate(self) -> None:
        if self.gate is not None:
            self.gate.wait(timeout=5)

    async def start(self) -> None:
        self._thread.start()

    async def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _call(port: int, path: str, headers: Headers) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.putrequest("GET", path)
        for name, value in headers:
            connection.putheader(name, value)
        connection.endheaders()
        connection.getresponse().read()
    finally:
        connection.close()


class Asyncio:
    """One thread, an event loop, pooled connections."""

    def __init__(self, next_port: Callable[[], int] | None, sdk: Instrumented) -> None:
        self.gate: Any = None
        self.port = 0
        self._next_port = next_port
        self._manners = Manners(sdk)
        self._session: ClientSession
        app = web.Application()
        app.router.add_get("/{manners}/{number}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)

    async def start(self) -> None:
        self._session = ClientSession()
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        await self._session.close()
        await self._runner.cleanup()

    async def _handle(self, request: web.Request) -> web.Response:
        came = [(name.decode(), value.decode()) for name, value in request.raw_headers]
        if self._next_port is not None:
            await self._pass_gate()
            headers = CIMultiDict(self._manners(request.path, came))
            url = f"http://127.0.0.1:{self._next_port()}{request.path}"
            async with self._session.get(url, headers=headers) as response:
                await response.read()
            await self._pass_gate()
        return web.json_response(came)

    async def _pass_gate(self) -> None:
        if self.gate is not None:
            await self.gate.wait()
