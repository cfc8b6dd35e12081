"""The admin endpoints, on aiohttp: away from the data path."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec
from aiohttp import web

from meshproxy.config.public import to_public
from meshproxy.config.values import Address
from meshproxy.sidecar.exposition import CONTENT_TYPE
from meshproxy.sidecar.ingest import LIMIT, Ingest
from meshproxy.sidecar.views import span_view
from meshproxy.trace.span import Span

if TYPE_CHECKING:
    from meshproxy.sidecar.app import Sidecar


def _json(value: object, status: int = 200) -> web.Response:
    body = msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"
    return web.Response(body=body, status=status, content_type="application/json")


class Admin:
    """``/healthz /readyz /metrics /config /inflight /gaps /spans``, POST ``/quitquitquit``, and
    POST ``/v1/traces`` for spans of the service's own."""

    def __init__(self, sidecar: Sidecar) -> None:
        self._sidecar = sidecar

    def full(self) -> web.Application:
        """All endpoints: for loopback."""
        app = web.Application(client_max_size=LIMIT)
        self._add_health(app)
        app.router.add_get("/", self._index)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/config", self._config)
        app.router.add_get("/inflight", self._inflight)
        app.router.add_get("/gaps", self._gaps)
        app.router.add_get("/spans", self._spans)
        app.router.add_post("/v1/traces", Ingest(self._offer).handle)
        app.router.add_post("/quitquitquit", self._quit)
        return app

    def health(self) -> web.Application:
        """Only what a kubelet asks for."""
        app = web.Application()
        self._add_health(app)
        return app

    def _add_health(self, app: web.Application) -> None:
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)

    async def _index(self, request: web.Request) -> web.Response:
        paths = sorted(
            f"{route.method} {route.resource.canonical}"
            for route in request.app.router.routes()
            if route.resource is not None and route.method != "HEAD"
        )
        return web.Response(text="\n".join(paths) + "\n")

    async def _healthz(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, _: web.Request) -> web.Response:
        state = self._sidecar.state
        return web.Response(text=f"{state}\n", status=200 if state == "ready" else 503)

    async def _metrics(self, _: web.Request) -> web.Response:
        body = self._sidecar.metrics.render()
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE})

    async def _config(self, _: web.Request) -> web.Response:
        return _json(to_public(self._sidecar.config))

    async def _inflight(self, _: web.Request) -> web.Response:
        now = time.time_ns()
        rows = [
            {
                "route": cause.route,
                "trace_id": cause.context.trace_id.hex(),
                "span_id": cause.context.span_id.hex(),
                "request_id": cause.request_id.decode("latin-1"),
                "age_ms": round((now - cause.start_ns) / 1e6, 3),
            }
            for cause in self._sidecar.inflight
        ]
        return _json({"requests": rows, "unregistered": self._sidecar.inflight.unregistered})

    async def _gaps(self, _: web.Request) -> web.Response:
        service = self._sidecar.config.service.name
        return _json({"gaps": self._sidecar.gaps.rows(service)})

    async def _spans(self, _: web.Request) -> web.Response:
        telemetry = self._sidecar.telemetry
        exporters = [msgspec.to_builtins(stats) for stats in telemetry.stats()]
        spans = [span_view(span) for span in reversed(telemetry.recent())]
        return _json({"exporters": exporters, "spans": spans})

    def _offer(self, span: Span) -> None:
        self._sidecar.telemetry.offer(span)

    async def _quit(self, _: web.Request) -> web.Response:
        self._sidecar.request_stop()
        return web.Response(text="draining\n")


class Site:
    """One address on which an admin application is served; may move."""

    def __init__(self, make: Callable[[], web.Application]) -> None:
        self._make = make
        self._runner: web.AppRunner | None = None
        self.listen = ""

    async def move(self, listen: str) -> None:
        """Serve on another address; raises OSError when that is not to be had."""
        if listen == self.listen:
            return
        address = Address.parse_listen(listen)
        runner = web.AppRunner(
            self._make(),
            access_log=None,
            handle_signals=False,
            shutdown_timeout=1.0,
            auto_decompress=False,  # `Ingest` does it, within its limit
        )
        await runner.setup()
        try:
            site = web.TCPSite(runner, address.host or None, address.port)
            await site.start()
        except OSError as error:
            await runner.cleanup()
            why = os.strerror(error.errno) if error.errno else str(error)
            raise OSError(error.errno, f"cannot listen on {listen}: {why}") from error
        await self.close()
        self._runner = runner
        self.listen = listen

    async def close(self) -> None:
        """Serve no more."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
            self.listen = ""
