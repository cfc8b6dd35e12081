"""Prometheus metrics, made from the plain counters when somebody asks."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from meshproxy import __version__
from meshproxy.export.telemetry import Telemetry
from meshproxy.linking.gaps import GapReport
from meshproxy.linking.inflight import InFlight
from meshproxy.stats import BOUNDS, Series, Stats

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics(Collector):
    """All metrics of a sidecar; names begin with ``meshproxy_``."""

    def __init__(
        self, stats: Stats, inflight: InFlight, gaps: GapReport, telemetry: Telemetry
    ) -> None:
        self._stats = stats
        self._inflight = inflight
        self._gaps = gaps
        self._telemetry = telemetry
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def render(self) -> bytes:
        """The text exposition format."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """All metric families."""
        yield from self._requests()
        yield from self._connections()
        yield from self._links()
        yield from self._spans()
        yield _counter(
            "meshproxy_filter_errors", "Exceptions in filters.", ("filter",),
            (((name,), count) for name, count in self._stats.filter_errors.items()),
        )  # fmt: skip
        yield _counter(
            "meshproxy_config_reloads", "Reloads of the configuration.", ("result",),
            (((name,), count) for name, count in self._stats.reloads.items()),
        )  # fmt: skip
        build = GaugeMetricFamily(
            "meshproxy_build_info", "What is running.", labels=("version", "python")
        )
        build.add_metric((__version__, platform.python_version()), 1)
        yield build

    def _requests(self) -> Iterator[Metric]:
        labels = ("direction", "method", "route", "status")
        requests = CounterMetricFamily("meshproxy_requests", "Requests answered.", labels=labels)
        durations = HistogramMetricFamily(
            "meshproxy_request_duration_seconds",
            "From the head of the request to the end of the response.",
            labels=("direction", "method", "route"),
        )
        merged: dict[tuple[str, str, str], Series] = {}
        for (direction, method, route, status), series in self._stats.series.items():
            requests.add_metric((direction, method, route, status), series.count)
            _merge(merged.setdefault((direction, method, route), Series()), series)
        for key, series in merged.items():
            durations.add_metric(key, _buckets(series), series.total)
        yield requests
        yield durations
        gauge = GaugeMetricFamily("meshproxy_requests_in_flight", "Inbound requests in flight.")
        gauge.add_metric((), len(self._inflight) + self._inflight.unregistered)
        yield gauge

    def _connections(self) -> Iterator[Metric]:
        stats = self._stats
        gauge = GaugeMetricFamily(
            "meshproxy_connections", "Client connections open.", labels=("listener",)
        )
        for listener, count in stats.connections.items():
            gauge.add_metric((listener,), count)
        yield gauge
        yield _counter(
            "meshproxy_connections_accepted", "Client connections accepted.", ("listener",),
            (((name,), count) for name, count in stats.accepted.items()),
        )  # fmt: skip
        yield _counter(
            "meshproxy_connections_passed", "Connections passed on unread.",
            ("listener", "protocol"), stats.passed.items(),
        )  # fmt: skip
        yield _counter(
            "meshproxy_refused", "Requests and connections refused (status 0: without an answer).",
            ("listener", "status", "reason"),
            (((name, str(status), why), n) for (name, status, why), n in stats.refused.items()),
        )  # fmt: skip
        yield _counter(
            "meshproxy_upstream_errors", "Failures of upstreams.", ("destination", "kind"),
            stats.upstream_errors.items(),
        )  # fmt: skip
        yield _counter(
            "meshproxy_upstream_connections", "Connections to upstreams.", ("event",),
            (((event,), count) for event, count in stats.upstream_connections.items()),
        )  # fmt: skip

    def _links(self) -> Iterator[Metric]:
        yield _counter(
            "meshproxy_links", "Calls by the evidence they were linked with.", ("evidence",),
            (((evidence,), count) for evidence, count in self._stats.links.items()),
        )  # fmt: skip
        yield _counter(
            "meshproxy_propagation", "Messages by what was made of their context.",
            ("direction", "result"), self._stats.propagation.items(),
        )  # fmt: skip
        yield _counter(
            "meshproxy_gaps", "Breaks in propagation.", ("kind",),
            (((kind.value,), count) for kind, count in self._gaps.counts().items()),
        )  # fmt: skip

    def _spans(self) -> Iterator[Metric]:
        yield _counter(
            "meshproxy_spans", "Spans: made (sampled), error (kept as an error), not_sampled.",
            ("result",), (((name,), count) for name, count in self._stats.spans.items()),
        )  # fmt: skip
        exporters = self._telemetry.stats()
        yield _counter(
            "meshproxy_spans_sent", "Spans that a backend took.", ("exporter",),
            (((each.name,), each.sent) for each in exporters),
        )  # fmt: skip
        yield _counter(
            "meshproxy_spans_dropped", "Spans lost, and why.", ("exporter", "reason"),
            (
                ((each.name, reason), count)
                for each in exporters
                for reason, count in each.dropped.items()
            ),
        )  # fmt: skip
        yield _counter(
            "meshproxy_export_failures", "Failed attempts to send a batch.", ("exporter",),
            (((each.name,), each.failures) for each in exporters),
        )  # fmt: skip
        queued = GaugeMetricFamily(
            "meshproxy_spans_queued", "Spans waiting to be sent.", labels=("exporter",)
        )
        for each in exporters:
            queued.add_metric((each.name,), each.queued)
        yield queued


def _counter(
    name: str,
    help_text: str,
    labels: tuple[str, ...],
    samples: Iterable[tuple[tuple[str, ...], int]],
) -> CounterMetricFamily:
    family = CounterMetricFamily(name, help_text, labels=labels)
    for values, count in samples:
        family.add_metric(values, count)
    return family


def _merge(into: Series, series: Series) -> None:
    into.count += series.count
    into.total += series.total
    into.buckets = [one + other for one, other in zip(into.buckets, series.buckets, strict=True)]


def _buckets(series: Series) -> list[tuple[str, float]]:
    """Cumulative counts by upper bound."""
    cumulative = 0
    found: list[tuple[str, float]] = []
    for bound, count in zip((*BOUNDS, float("inf")), series.buckets, strict=True):
        cumulative += count
        found.append(("+Inf" if bound == float("inf") else f"{bound:g}", cumulative))
    return found
