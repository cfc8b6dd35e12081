"""One sidecar: made of a configuration, started, reloaded, drained."""

from __future__ import annotations

import asyncio
import os
import socket
import time

from meshproxy import __version__, logs
from meshproxy.config.checks import warnings
from meshproxy.config.loader import load_file
from meshproxy.config.model import Config, Linking
from meshproxy.config.problems import ConfigError
from meshproxy.export.exporter import ExporterSettingsError
from meshproxy.export.resource import resource_attributes
from meshproxy.export.telemetry import Telemetry
from meshproxy.filter import Environment
from meshproxy.linking.gaps import GapReport
from meshproxy.linking.inflight import CAUSE_BYTES, InFlight
from meshproxy.linking.judge import Knowledge
from meshproxy.linking.linker import Linker
from meshproxy.linking.owners import OwnerEvidence
from meshproxy.sidecar.access import access_log
from meshproxy.sidecar.admin import Admin, Site
from meshproxy.sidecar.files import within_files
from meshproxy.sidecar.filters import FilterError, check_spoken, load_filters
from meshproxy.sidecar.listeners import ListenError, Listeners
from meshproxy.sidecar.memory import keep_freed
from meshproxy.sidecar.metrics import COMPILED, Metrics
from meshproxy.sidecar.owners import lookup_for
from meshproxy.stats import Stats
from meshproxy.trace.span import Attributes
from meshproxy.transport.destinations import Destinations
from meshproxy.transport.pipeline import Pipeline
from meshproxy.transport.runtime import Runtime
from meshproxy.transport.ticker import Ticker, interval_for

EXPORT_DRAIN = 5.0
"""Seconds that exporters get to send what is queued, after the traffic has drained."""

DEFAULT_HEALTH = "0.0.0.0:15021"

log = logs.get(__name__)


class StartError(Exception):
    """The sidecar cannot run with this configuration, here and now."""


class Sidecar:
    """All parts of the process, and how they come and go. Belongs to one event loop.

    Raises `StartError` for exporters that cannot work.
    """

    def __init__(self, path: str, config: Config) -> None:
        self._path = path
        self.config = config
        self.state = "starting"
        self.stats = Stats()
        memory = config.linking.memory
        self.inflight = InFlight(memory // 4 // CAUSE_BYTES)
        self._knowledge = Knowledge(os.urandom(32), memory * 3 // 4)
        self._owners: dict[str, OwnerEvidence] = {}
        self._kept: dict[str, object] = {}
        self.gaps = GapReport()
        loop = asyncio.get_running_loop()
        self._ticker = Ticker(loop, interval_for(config.limits))
        self._runtime = Runtime(loop, self._ticker, self.stats)
        self._destinations = Destinations(self._runtime, config.limits)
        self._listeners = Listeners(self._runtime, self._destinations)
        self._pipeline: Pipeline | None = None
        self._ticker.each_tick(self._listeners.check_certificates)
        self._ticker.each_tick(self._tick)
        try:
            self.telemetry = Telemetry(config.export, _resource(config))
        except ExporterSettingsError as error:
            raise StartError(str(error)) from error
        self.metrics = Metrics(
            self.stats, self.inflight, self._knowledge.content, self.gaps, self.telemetry
        )
        admin = Admin(self)
        self._admin = Site(admin.full)
        self._health = Site(admin.health)
        self._stop = asyncio.Event()
        self._reloading = asyncio.Lock()

    async def start(self) -> None:
        """Listen and export; raises `StartError`."""
        self._ticker.start()
        try:
            await self.telemetry.start()
            pipeline = self._make_pipeline(self.config)
            await self._listeners.apply(self.config, pipeline)
            self._adopt(self.config, pipeline)
            await self._admin.move(self.config.admin.listen)
            await self._serve_health(self.config)
        except (OSError, ListenError, FilterError) as error:
            raise StartError(_text(error)) from error
        self.state = "ready"
        log.info(
            "ready",
            service=self.config.service.name,
            version=__version__,
            compiled=COMPILED,
            admin=self.config.admin.listen,
            exporters=[stats.name for stats in self.telemetry.stats()],
        )
        for warning in warnings(self.config):
            log.warning(warning)
        if not self.config.export:
            log.warning("no exporter is configured: spans are only shown at /spans")

    async def _serve_health(self, config: Config) -> None:
        """The default port is a convenience: several sidecars on one host may want it."""
        if config.health is not None:
            await self._health.move(config.health.listen)
            return
        try:
            await self._health.move(DEFAULT_HEALTH)
        except OSError as error:
            log.warning("no health port; /healthz is on the admin port", error=_text(error))

    def _make_pipeline(self, config: Config) -> Pipeline:
        environment = Environment(
            config,
            dict(os.environ),
            os.urandom,
            time.monotonic,
            self.telemetry.offer,
            self.inflight,
            self._linker(config.linking),
            self.gaps,
            self.stats,
            self._kept,
        )
        filters = load_filters(environment)
        check_spoken(config, filters)
        limits = within_files(config.limits)
        return Pipeline(filters, limits, self.stats, access_log(config.log.access))

    def _linker(self, settings: Linking) -> Linker:
        owners = self._owners.get(settings.process)
        if owners is None:
            lookup = lookup_for(settings.process)
            owners = OwnerEvidence(lookup, time.monotonic, time.thread_time)
            owners.stats = self.stats.lookups
            self._owners[settings.process] = owners
        return Linker(self.inflight, self._knowledge, owners, settings.threshold)

    def _adopt(self, config: Config, pipeline: Pipeline) -> None:
        """Go by it; threads are told apart by what they do when the service is sent a request."""
        self._pipeline = pipeline
        if any(each.protocol == "kafka" for each in config.outbound):
            keep_freed()
        watched = config.linking.process == "auto"
        self._runtime.watch = self._owners["auto"].sending if watched else None

    def _tick(self, _now: float) -> None:
        if self._pipeline is not None:
            self._pipeline.tick()

    async def reload(self) -> None:
        """Read the file again. A bad one changes nothing, and that is said."""
        async with self._reloading:
            if self.state != "ready":
                return
            try:
                config = load_file(self._path, os.environ)
                await self._apply(config)
            except (
                ConfigError, ListenError, FilterError, ExporterSettingsError, OSError
            ) as error:  # fmt: skip
                self.stats.reloads["failed"] += 1
                log.error("configuration not reloaded; the old one stays", error=_text(error))
                return
            self.stats.reloads["ok"] += 1
            log.info("configuration reloaded", path=self._path)

    async def _apply(self, config: Config) -> None:
        pipeline = self._make_pipeline(config)
        try:
            await self._move(config)
            await self._listeners.apply(config, pipeline)
        except Exception:
            await self._move(self.config)
            raise
        self._adopt(config, pipeline)
        self._destinations.limits = config.limits
        self._ticker.interval = interval_for(config.limits)
        logs.configure(config.log.level)
        self.config = config

    async def _move(self, config: Config) -> None:
        """What can be undone by moving back."""
        await self._admin.move(config.admin.listen)
        await self._serve_health(config)
        await self.telemetry.reconfigure(config.export, _resource(config))

    def request_stop(self) -> None:
        """Ask for the end; `run_until_stopped` drains. Asked again, it drains no longer."""
        if self._stop.is_set():
            for member in self._ticker.members():
                member.abort()
        self._stop.set()

    async def run_until_stopped(self) -> None:
        """Wait for `request_stop`, then drain within the limit and close."""
        await self._stop.wait()
        self.state = "draining"
        limit = self.config.limits.drain
        log.info("draining", connections=self._runtime.connections, limit=limit)
        await self._drain(limit)
        await self.telemetry.close(EXPORT_DRAIN)
        await self._health.close()
        await self._admin.close()
        self._ticker.stop()
        self._runtime.workers.stop()
        self.state = "stopped"
        log.info("stopped")

    async def _drain(self, limit: float) -> None:
        """No new requests; those in flight, and the calls that they still make, may finish."""
        runtime = self._runtime
        deadline = runtime.loop.time() + limit
        runtime.draining = True
        self._listeners.stop(inbound=True)
        self._destinations.close()
        self._check_connections()
        await runtime.drained(True, deadline)
        self._listeners.stop(inbound=False)
        self._check_connections()
        if not await runtime.drained(False, deadline):
            log.warning("drain limit reached; connections are cut", connections=runtime.connections)
            for member in self._ticker.members():
                member.abort()
            await runtime.drained(False, runtime.loop.time() + 1.0)

    def _check_connections(self) -> None:
        for member in self._ticker.members():
            member.check(self._ticker.now)


def _resource(config: Config) -> Attributes:
    host = socket.gethostname()
    return resource_attributes(
        config.service,
        instance=f"{host}-{os.getpid()}",
        version=__version__,
        detected={"host.name": host},
    )


def _text(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error)
