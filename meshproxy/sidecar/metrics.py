"""The metrics of a sidecar, made from the plain counters when somebody asks."""

from __future__ import annotations

import platform

from meshproxy import __version__
from meshproxy.export.telemetry import Telemetry
from meshproxy.linking.content import Content
from meshproxy.linking.gaps import GapReport
from meshproxy.linking.inflight import InFlight
from meshproxy.sidecar.exposition import Exposition
from meshproxy.stats import BOUNDS, Series, Stats
from meshproxy.wire import http1

COMPILED = not http1.__file__.endswith(".py")
"""Whether the data path runs compiled (setup.py)."""


class Metrics:
    """All metrics of a sidecar; names begin with ``meshproxy_``."""

    def __init__(
        self,
        stats: Stats,
        inflight: InFlight,
        content: Content,
        gaps: GapReport,
        telemetry: Telemetry,
    ) -> None:
        self._stats = stats
        self._inflight = inflight
        self._content = content
        self._gaps = gaps
        self._telemetry = telemetry

    def render(self) -> bytes:
        """All families in the text exposition format."""
        page = Exposition()
        self._requests(page)
        self._connections(page)
        self._links(page)
        self._messages(page)
        self._spans(page)
        self._process(page)
        return page.text()

    def _requests(self, page: Exposition) -> None:
        series = self._stats.series
        page.counter(
            "meshproxy_requests",
            "Requests answered.",
            ("direction", "method", "route", "status"),
            ((key, each.count) for key, each in series.items()),
        )
        merged: dict[tuple[str, str, str], Series] = {}
        for (direction, method, route, _), each in series.items():
            _merge(merged.setdefault((direction, method, route), Series()), each)
        page.histogram(
            "meshproxy_request_duration_seconds",
            "From the head of the request to the end of the response.",
            ("direction", "method", "route"),
            BOUNDS,
            ((key, each.buckets, each.total) for key, each in merged.items()),
        )
        messages = self._stats.messages_in_flight
        in_flight = len(self._inflight) + self._inflight.unregistered - messages
        page.gauge(
            "meshproxy_requests_in_flight", "Inbound requests in flight.", (), [((), in_flight)]
        )
        page.gauge(
            "meshproxy_messages_in_flight",
            "Consumed messages that are not known to be done with.",
            (),
            [((), messages)],
        )

    def _connections(self, page: Exposition) -> None:
        stats = self._stats
        page.gauge(
            "meshproxy_connections",
            "Client connections open.",
            ("listener",),
            (((name,), count) for name, count in stats.connections.items()),
        )
        page.counter(
            "meshproxy_connections_accepted",
            "Client connections accepted.",
            ("listener",),
            (((name,), count) for name, count in stats.accepted.items()),
        )
        page.counter(
            "meshproxy_connections_passed",
            "Connections passed on unread.",
            ("listener", "protocol"),
            stats.passed.items(),
        )
        page.counter(
            "meshproxy_refused",
            "Requests and connections refused (status 0: without an answer).",
            ("listener", "status", "reason"),
            (((name, str(status), why), n) for (name, status, why), n in stats.refused.items()),
        )
        page.counter(
            "meshproxy_upstream_errors",
            "Failures of upstreams.",
            ("destination", "kind"),
            stats.upstream_errors.items(),
        )
        page.counter(
            "meshproxy_upstream_connections",
            "Connections to upstreams.",
            ("event",),
            (((event,), count) for event, count in stats.upstream_connections.items()),
        )

    def _links(self, page: Exposition) -> None:
        page.counter(
            "meshproxy_links",
            "Calls by the evidence they were linked with.",
            ("evidence",),
            (((evidence,), count) for evidence, count in self._stats.links.items()),
        )
        page.counter(
            "meshproxy_link_lookups",
            "Looks at the service's processes and threads, by what came of them.",
            ("result",),
            (((result,), count) for result, count in self._stats.lookups.items()),
        )
        content = self._content
        page.counter(
            "meshproxy_link_content",
            "Requests whose tokens had to make room (given_up), tokens not kept (refused).",
            ("event",),
            ((("given_up",), content.given_up), (("refused",), content.refused)),
        )
        page.counter(
            "meshproxy_propagation",
            "Messages by what was made of their context.",
            ("direction", "result"),
            self._stats.propagation.items(),
        )
        page.counter(
            "meshproxy_gaps",
            "Breaks in propagation.",
            ("kind", "route", "destination"),
            (
                ((kind.value, *place), count)
                for (kind, *place), count in self._gaps.counts().items()
            ),
        )

    def _messages(self, page: Exposition) -> None:
        page.counter(
            "meshproxy_messages",
            "Messages by what was made of their context.",
            ("operation", "destination", "result"),
            self._stats.messages.items(),
        )
        page.counter(
            "meshproxy_kafka_events",
            "What Kafka connections were seen to do.",
            ("event", "detail"),
            self._stats.kafka.items(),
        )

    def _spans(self, page: Exposition) -> None:
        page.counter(
            "meshproxy_spans",
            "Spans: made (sampled), error (kept as an error), not_sampled.",
            ("result",),
            (((name,), count) for name, count in self._stats.spans.items()),
        )
        exporters = self._telemetry.stats()
        page.counter(
            "meshproxy_spans_sent",
            "Spans that a backend took.",
            ("exporter",),
            (((each.name,), each.sent) for each in exporters),
        )
        page.counter(
            "meshproxy_spans_dropped",
            "Spans lost, and why.",
            ("exporter", "reason"),
            (
                ((each.name, reason), count)
                for each in exporters
                for reason, count in each.dropped.items()
            ),
        )
        page.counter(
            "meshproxy_export_failures",
            "Failed attempts to send a batch.",
            ("exporter",),
            (((each.name,), each.failures) for each in exporters),
        )
        page.gauge(
            "meshproxy_spans_queued",
            "Spans waiting to be sent.",
            ("exporter",),
            (((each.name,), each.queued) for each in exporters),
        )

    def _process(self, page: Exposition) -> None:
        page.counter(
            "meshproxy_filter_errors",
            "Exceptions in filters.",
            ("filter",),
            (((name,), count) for name, count in self._stats.filter_errors.items()),
        )
        page.counter(
            "meshproxy_config_reloads",
            "Reloads of the configuration.",
            ("result",),
            (((name,), count) for name, count in self._stats.reloads.items()),
        )
        facts = (__version__, platform.python_version(), str(COMPILED).lower())
        page.gauge(
            "meshproxy_build_info", "What is running.", ("version", "python", "compiled"),
            [(facts, 1)],
        )  # fmt: skip


def _merge(into: Series, series: Series) -> None:
    into.count += series.count
    into.total += series.total
    into.buckets = [one + other for one, other in zip(into.buckets, series.buckets, strict=True)]
