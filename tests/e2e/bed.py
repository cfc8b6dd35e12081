"""One service behind a sidecar, all in the test's event loop, so that tests say what happens when.

A request is ``/{route}/{number}``, a call that it makes ends in the same number. Each request
comes with a trace of its own, which its number tells too: so what a callee was given can be judged.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import yaml
from aiohttp import ClientSession, web
from multidict import CIMultiDict

from meshproxy.demo.processes import Ports
from tests.support.inprocess import InProcess

CROWD = 8
DESTINATIONS = ("pricing", "stock", "vendor")
Headers = Mapping[str, str]
Service = Callable[["Bed", int, Headers], Awaitable[None]]
Lay = Callable[..., Awaitable["Bed"]]


def trace_of(number: int) -> str:
    """The trace id of a request."""
    return f"{0xCAFE:08x}{number:024x}"


def caller(number: int, flags: str = "01") -> dict[str, str]:
    """What a caller that traces sends along."""
    return {
        "traceparent": f"00-{trace_of(number)}-00f067aa0ba902b7-{flags}",
        "tracestate": "a=1",
        "baggage": "user=1",
    }


class Arrival:
    """A call as its destination received it."""

    def __init__(self, destination: str, number: int, headers: Headers) -> None:
        self.destination = destination
        self.number = number
        self.headers = headers

    @property
    def trace_id(self) -> str:
        return self.headers["traceparent"][3:35]


class Bed:
    """``service`` handles each request, calls with `call`, and lets others pass with `turn`."""

    def __init__(self, directory: Path, service: Service) -> None:
        self._ports = Ports()
        self._proxy = InProcess(directory, self._ports)
        self._service = service
        self._session: ClientSession
        self._runners: list[web.AppRunner] = []
        self._barrier: asyncio.Barrier | None = None
        self._held: asyncio.Queue[None] = asyncio.Queue()
        self._release = asyncio.Event()
        self.arrivals: list[Arrival] = []

    async def start(self, config: dict[str, Any]) -> None:
        self._session = ClientSession()
        app = await self._serve(self._on_request)
        callee = await self._serve(self._on_call)
        upstreams = [{"upstream": f"127.0.0.1:{callee}", "peer": peer} for peer in DESTINATIONS]
        fixed = {
            "service": {"name": "cart"},
            "inbound": [{"upstream": f"127.0.0.1:{app}"}],
            "outbound": upstreams,
            "linking": {"process": "off"},  # all of this is one process
        }
        await self._proxy.start(fixed | config)

    async def _serve(self, handle: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> int:
        app = web.Application()
        app.router.add_get("/{tail:.*}", handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        self._runners.append(runner)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return int(runner.addresses[0][1])

    async def stop(self) -> None:
        await self._session.close()
        await self._proxy.close()
        for runner in self._runners:
            await runner.cleanup()
        self._ports.close()

    # The service's side

    async def _on_request(self, request: web.Request) -> web.Response:
        if request.path.startswith("/held/"):
            self._held.put_nowait(None)
            await self._release.wait()
        number = int(request.path.rpartition("/")[2])
        await self._service(self, number, request.headers)
        await self.turn()
        return web.Response()

    async def turn(self) -> None:
        """Go on when all requests of a crowd have come this far."""
        if self._barrier is not None:
            await self._barrier.wait()

    async def call(
        self,
        destination: str,
        number: int,
        headers: Headers | Sequence[tuple[str, str]] = (),
        path: str = "items",
    ) -> None:
        """The service, or something in it that has no request, makes a call."""
        port = self._proxy.outbound[DESTINATIONS.index(destination)]
        url = f"http://127.0.0.1:{port}/{path}/{destination}/{number}"
        async with self._session.get(url, headers=CIMultiDict(headers)) as response:
            assert response.status == 200

    async def _on_call(self, request: web.Request) -> web.Response:
        *_, destination, number = request.path.split("/")
        self.arrivals.append(Arrival(destination, int(number), request.headers))
        return web.Response()

    # The callers' side

    async def ask(self, number: int, headers: Headers | None = None, route: str = "orders") -> None:
        """One request, of a caller that traces unless ``headers`` says otherwise."""
        url = f"http://127.0.0.1:{self._proxy.inbound[0]}/{route}/{number}"
        headers = caller(number) if headers is None else headers
        async with self._session.get(url, headers=headers) as response:
            assert response.status == 200

    async def crowd(
        self,
        headers: Callable[[int], Headers] = caller,
        count: int = CROWD,
        first: int = 1,
        route: Callable[[int], str] = lambda _: "orders",
    ) -> None:
        """As many requests, all in flight from before the first call until after the last."""
        self._barrier = asyncio.Barrier(count)
        numbers = range(first, first + count)
        try:
            await asyncio.gather(
                *(self.ask(number, headers(number), route(number)) for number in numbers)
            )
        finally:
            self._barrier = None

    @asynccontextmanager
    async def in_flight(self, count: int, first: int = 101) -> AsyncIterator[None]:
        """So many requests are in flight meanwhile; they go on afterwards."""
        self._release.clear()
        numbers = range(first, first + count)
        asked = [asyncio.create_task(self.ask(number, route="held")) for number in numbers]
        try:
            for _ in asked:
                await self._held.get()
            yield
        finally:
            self._release.set()
            await asyncio.gather(*asked)

    # What came of it

    async def gaps(self) -> list[dict[str, Any]]:
        """The sidecar's report."""
        status, body = await self._proxy.get("/gaps")
        assert status == 200
        return list(json.loads(body)["gaps"])

    @property
    def admin(self) -> str:
        """The sidecar's admin address."""
        return str(self._proxy.sidecar.config.admin.listen)

    async def rename(self, service: str) -> None:
        """Let the configuration have another name for the service, and reload it."""
        path = self._proxy._path
        path.write_text(
            yaml.safe_dump(yaml.safe_load(path.read_text()) | {"service": {"name": service}})
        )
        await self._proxy.sidecar.reload()

    async def metric(self, name: str, **labels: str) -> float:
        """A metric of the sidecar."""
        return await self._proxy.metric(name, **labels)

    def at(self, destination: str) -> list[Arrival]:
        """What a destination received."""
        return [each for each in self.arrivals if each.destination == destination]

    def assert_in_their_traces(self, destination: str) -> None:
        """Whatever a destination received belongs to the trace of the request that caused it."""
        found = self.at(destination)
        assert found
        for each in found:
            assert each.trace_id == trace_of(each.number), each.number
