"""The HTTP filter without a proxy around it: heads in, heads and spans out, all by hand."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

from filters.http import HttpTracing
from meshproxy.config.model import Config
from meshproxy.filter import Environment, Exchange, Failure, Passage, Scope
from meshproxy.linking.gaps import GapReport
from meshproxy.linking.inflight import InFlight
from meshproxy.linking.judge import Knowledge
from meshproxy.linking.linker import Linker
from meshproxy.linking.owners import OwnerEvidence
from meshproxy.linking.ownership import NoLookup
from meshproxy.stats import Stats
from meshproxy.trace.span import AttributeValue, Span
from meshproxy.wire.fields import FieldTable
from meshproxy.wire.http1 import read_request, read_response

START_NS = 1_700_000_000_000_000_000
MILLISECOND = 1_000_000
PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
UNSAMPLED_PARENT = PARENT[:-1] + "0"
TRACE_ID = PARENT[3:35]
SPAN_ID = PARENT[36:52]
OTHER_PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def attributes(span: Span) -> dict[str, AttributeValue]:
    """All attributes of a span, none of which may be there twice."""
    pairs = [*span.all_attributes()]
    found = dict(pairs)
    assert len(found) == len(pairs), f"a key stands twice in {pairs}"
    return found


class Message:
    """A request on its way through the filter."""

    def __init__(self, bench: Bench, exchange: Exchange) -> None:
        self._bench = bench
        self.exchange = exchange
        self.state = bench.filter.on_request(exchange)
        head = exchange.request.encode().decode("latin-1")
        self.lines = head.split("\r\n")[1:-2]

    def values(self, name: str) -> list[str]:
        """The values under which a header field is sent on."""
        pairs = [line.partition(":") for line in self.lines]
        return [value.strip() for key, _, value in pairs if key.lower() == name]

    def value(self, name: str) -> str:
        """The value of a header field that is sent on exactly once."""
        (value,) = self.values(name)
        return value

    @property
    def traceparent(self) -> str:
        return self.value("traceparent")

    @property
    def trace_id(self) -> str:
        return self.traceparent[3:35]

    @property
    def span_id(self) -> str:
        return self.traceparent[36:52]

    @property
    def flags(self) -> int:
        return int(self.traceparent[53:], 16)

    def end(
        self,
        status: int = 200,
        *lines: str,
        failure: Failure | None = None,
        answered: bool = True,
        after_ms: int = 5,
    ) -> Span | None:
        """Answer; gives the span if there is one. ``answered``: by the upstream, not by us."""
        exchange = self.exchange
        exchange.status = status
        if status and answered:
            block = "\r\n".join([f"HTTP/1.1 {status} X", *lines]).encode("latin-1")
            exchange.response = read_response(
                block, self._bench.table, 100, exchange.request.line.method
            )
        exchange.failure = failure
        exchange.end_ns = exchange.start_ns + after_ms * MILLISECOND
        before = len(self._bench.spans)
        self._bench.filter.on_end(exchange, self.state)
        new = self._bench.spans[before:]
        assert len(new) <= 1
        return new[0] if new else None

    def span(self, status: int = 200, *lines: str, failure: Failure | None = None) -> Span:
        """Answer, and give the span, which must be there."""
        span = self.end(status, *lines, failure=failure)
        assert span is not None
        return span

    def attributes(self, status: int = 200, *lines: str) -> dict[str, AttributeValue]:
        """Answer, and give the attributes of the span."""
        return attributes(self.span(status, *lines))


class Bench:
    """One sidecar's filter with everything that it works with."""

    def __init__(
        self,
        config: Config | None = None,
        *,
        environ: dict[str, str] | None = None,
        limit: int = 20_000,
    ) -> None:
        self.config = config or Config()
        self.spans: list[Span] = []
        self.inflight = InFlight(limit)
        self.gaps = GapReport()
        self.stats = Stats()
        self.now = 100.0
        self.filter = HttpTracing(
            Environment(
                self.config,
                environ or {},
                random.Random(7).randbytes,
                lambda: self.now,
                self.spans.append,
                self.inflight,
                Linker(
                    self.inflight,
                    Knowledge(bytes(16), 2**22),
                    OwnerEvidence(NoLookup(), lambda: self.now),
                    self.config.linking.threshold,
                ),
                self.gaps,
                self.stats,
                {},
            )
        )
        kind = type(self.filter)
        self.table = FieldTable(kind.marked, kind.prefixes, kind.fleeting)
        self._start_ns = START_NS

    def inbound(
        self,
        *lines: str,
        line: str = "GET /orders HTTP/1.1",
        host: str = "cart:8080",
        trust: str = "mesh",
        scheme: str = "http",
    ) -> Message:
        """A request from outside reaches the sidecar in front of the service."""
        scope = Scope(True, "0.0.0.0:15006", scheme, trust)
        return self._message(scope, lines, line, host, ("127.0.0.1", 8080), "", False)

    def outbound(
        self,
        *lines: str,
        line: str = "GET /prices HTTP/1.1",
        host: str = "pricing:8080",
        trust: str = "mesh",
        destination: tuple[str, int] = ("10.0.0.9", 8080),
        peer: str = "",
        tls: bool = False,
    ) -> Message:
        """The service makes a call."""
        scope = Scope(False, "127.0.0.1:15001", "http", trust)
        return self._message(scope, lines, line, host, destination, peer, tls)

    def _message(
        self,
        scope: Scope,
        lines: Sequence[str],
        line: str,
        host: str,
        destination: tuple[str, int],
        peer: str,
        tls: bool,
    ) -> Message:
        head = [line, *([f"Host: {host}"] if host else []), *lines]
        request = read_request("\r\n".join(head).encode("utf-8"), self.table, 200)
        self._start_ns += MILLISECOND
        client = ("192.0.2.7", 40123)
        return Message(
            self, Exchange(scope, request, client, destination, peer, tls, self._start_ns)
        )

    def passage(
        self, destination: tuple[str, int] = ("db", 5432), inbound: bool = False
    ) -> Passage:
        """A connection that passes unread."""
        scope = Scope(inbound, "127.0.0.1:15001", "http", "mesh")
        self._start_ns += MILLISECOND
        return Passage(scope, ("127.0.0.1", 40200), destination, "", self._start_ns)

    def pass_time(self, nanoseconds: int) -> None:
        """Let time pass before the next message."""
        self._start_ns += nanoseconds

    def gap_kinds(self) -> dict[str, int]:
        """Gaps that were counted, by kind."""
        found: Counter[str] = Counter()
        for (kind, _, _), count in self.gaps.counts().items():
            found[kind.value] += count
        return dict(found)
