"""The Kafka filter without a proxy around it: bytes in, bytes and spans out, all by hand."""

from __future__ import annotations

import random
from collections.abc import Sequence

from filters.kafka.tracing import KafkaTracing
from meshproxy.config.model import Config, Kafka
from meshproxy.filter import Conversation, Environment, Passage, Places, Scope
from meshproxy.linking.call import Call, Decision
from meshproxy.linking.gaps import GapReport
from meshproxy.linking.inflight import Cause, InFlight
from meshproxy.linking.judge import Knowledge
from meshproxy.linking.linker import Linker
from meshproxy.linking.owners import OwnerEvidence
from meshproxy.linking.ownership import NoLookup
from meshproxy.stats import Stats
from meshproxy.trace.context import SpanContext
from meshproxy.trace.span import Span

START_NS = 1_700_000_000_000_000_000
MILLISECOND = 1_000_000
BROKER = ("10.0.0.9", 9092)


class Ports(Places):
    """Node 7 is found at port 20007, and so on; those in ``closed`` are not."""

    def __init__(self) -> None:
        self.closed: set[int] = set()
        self.named: dict[int, tuple[str, int]] = {}

    def local(self, server: int, destination: tuple[str, int]) -> tuple[str, int]:
        if server in self.closed:
            raise OSError(24, "Too many open files")
        self.named[server] = destination
        return "127.0.0.1", 20_000 + server


class Connection:
    """One connection through the filter. The test is client and broker at once.

    ``upstream`` and ``client`` are all bytes that came out at each end. With ``threads`` off, work
    is left undone until `finish_work`.
    """

    def __init__(self, bench: Bench, passage: Passage) -> None:
        self._bench = bench
        self.passage = passage
        self.talk: Conversation = bench.filter.converse(passage, bench.ports)
        self._upstream = bytearray()
        self._client = bytearray()
        self.threads = True
        self.worked = 0

    @property
    def upstream(self) -> bytes:
        return bytes(self._upstream)

    @property
    def client(self) -> bytes:
        return bytes(self._client)

    def forget(self) -> None:
        """Drop what came out so far."""
        self._upstream.clear()
        self._client.clear()

    def say(self, data: bytes, size: int = 0) -> bytes:
        """The client sends, in reads of ``size`` bytes if that is given; what the broker hears."""
        before = len(self._upstream)
        for piece in split(data, size):
            self.talk.from_client(piece, self._bench.now_ns)
            self._turn()
        return bytes(self._upstream[before:])

    def hear(self, data: bytes, size: int = 0) -> bytes:
        """The broker sends; what the client hears."""
        before = len(self._client)
        for piece in split(data, size):
            self.talk.from_upstream(piece, self._bench.now_ns)
            self._turn()
        return bytes(self._client[before:])

    def ask(self, request: bytes, response: bytes) -> bytes:
        """A request and its answer; what the broker hears."""
        sent = self.say(request)
        self.hear(response)
        return sent

    def _turn(self) -> None:
        """What the transport does after each step."""
        self._take()
        self.talk.passed(self._bench.now_ns)
        self._notice()
        if self.threads:
            while self.talk.work is not None:
                self._work()

    def _take(self) -> None:
        self._upstream += b"".join(self.talk.to_upstream)
        self._client += b"".join(self.talk.to_client)
        self.talk.to_upstream.clear()
        self.talk.to_client.clear()

    def _work(self) -> None:
        work = self.talk.work
        assert work is not None
        try:
            work.run()
        except Exception as error:
            self._bench.broken([error])
        self.worked += 1
        self.talk.work = None
        self.talk.resume(self._bench.now_ns)
        self._take()
        self.talk.passed(self._bench.now_ns)
        self._notice()

    def _notice(self) -> None:
        """What the filter raised on the way, which harms no traffic."""
        errors = self.talk.errors.copy()
        self.talk.errors.clear()
        self._bench.broken(errors)

    def finish_work(self) -> None:
        """Do what is due in threads, also what comes of it."""
        while self.talk.work is not None:
            self._work()

    def end_client(self) -> None:
        self.talk.client_ended(self._bench.now_ns)
        self._turn()

    def end_upstream(self) -> None:
        self.talk.upstream_ended(self._bench.now_ns)
        self._turn()

    def close(self) -> None:
        self.talk.close(self._bench.now_ns)
        self._notice()


def split(data: bytes, size: int) -> list[bytes]:
    """Pieces of that size; all in one for 0."""
    if not size:
        return [data]
    return [data[at : at + size] for at in range(0, len(data), size)]


class Bench:
    """One sidecar's Kafka filter with everything that it works with. Time passes by `wait`.

    A mistake in the filter harms no traffic, so bytes do not tell of it: it fails the test. With
    ``random_fails`` or ``fails`` mistakes are what is asked for, and are kept in ``errors``.
    """

    def __init__(
        self,
        kafka: Kafka | None = None,
        config: Config | None = None,
        *,
        trust: str = "mesh",
    ) -> None:
        self.config = config or Config()
        self.kafka = kafka
        self.trust = trust
        self.now_ns = START_NS
        self.spans: list[Span] = []
        self.errors: list[Exception] = []
        self.inflight = InFlight()
        self.linker = Linker(
            self.inflight,
            Knowledge(bytes(16), 2**22),
            OwnerEvidence(NoLookup(), self._clock),
            self.config.linking.threshold,
        )
        self.gaps = GapReport()
        self.stats = Stats()
        self.ports = Ports()
        self._random = random.Random(7)
        self.random_fails = False
        self.fails = False
        self._kept: dict[str, object] = {}
        self._causes = 0
        self.filter = self._filter()

    def _filter(self) -> KafkaTracing:
        return KafkaTracing(
            Environment(
                self.config,
                {},
                self._random_bytes,
                self._clock,
                self.spans.append,
                self.inflight,
                self.linker,
                self.gaps,
                self.stats,
                self._kept,
            )
        )

    def _random_bytes(self, count: int) -> bytes:
        if self.random_fails:
            raise OSError("no random bytes")
        return self._random.randbytes(count)

    def reload(self, config: Config) -> None:
        """The filter is made anew with another configuration, as a sidecar does it."""
        self.config = config
        self.filter = self._filter()

    def broken(self, errors: Sequence[Exception]) -> None:
        """The filter has raised these on a connection."""
        self.errors += errors
        if errors and not (self.fails or self.random_fails):
            raise errors[0]

    def _clock(self) -> float:
        return self.now_ns / 1e9

    @property
    def now_ms(self) -> int:
        """What a producer writes as the time of a record that it makes now."""
        return self.now_ns // MILLISECOND

    def wait(self, milliseconds: int) -> None:
        self.now_ns += milliseconds * MILLISECOND

    def tick(self) -> None:
        self.filter.on_tick(self.now_ns)

    def connect(self, destination: tuple[str, int] = BROKER, peer: str = "") -> Connection:
        scope = Scope(False, "127.0.0.1:9092", "http", self.trust, self.kafka)
        passage = Passage(scope, ("127.0.0.1", 40200), destination, peer, self.now_ns)
        return Connection(self, passage)

    # The service

    def request(
        self, route: str = "POST /orders", *, tracestate: str = "", baggage: bytes = b"",
        sampled: bool = True,
    ) -> Cause:  # fmt: skip
        """The service is given a request."""
        self._causes += 1
        context = numbered(self._causes, sampled=sampled, tracestate=tracestate)
        cause = Cause(context, route, self.now_ns, b"", baggage)
        self.linker.begin(cause, self.now_ns)
        return cause

    def end(self, cause: Cause) -> None:
        self.linker.end(cause, self.now_ns)

    def call(self, destination: str = "pricing", *, ids: Sequence[bytes] = ()) -> Decision:
        """The service makes a call by HTTP, without context."""
        call = Call(request_ids=ids, now_ns=self.now_ns, destination=destination, operation="GET /")
        return self.linker.link(call)

    # What became of it

    def span(self) -> Span:
        """The only span there is."""
        (span,) = self.spans
        return span

    def events(self) -> dict[tuple[str, str], int]:
        """What was counted about the protocol."""
        return dict(self.stats.kafka)

    def gap_counts(self) -> dict[tuple[str, str, str], int]:
        """Gaps by kind, route and destination."""
        return {(kind.value, *place): n for (kind, *place), n in self.gaps.counts().items()}  # type: ignore[misc]


def numbered(number: int, *, sampled: bool = True, tracestate: str = "") -> SpanContext:
    """A context made up."""
    trace_id = (0xABC0000 + number).to_bytes(16, "big")
    return SpanContext(trace_id, (0xDEF0000 + number).to_bytes(8, "big"), int(sampled), tracestate)


def traceparent(context: SpanContext) -> bytes:
    return b"00-%s-%s-%02x" % (
        context.trace_id.hex().encode(),
        context.span_id.hex().encode(),
        context.flags,
    )


def linked_contexts(span: Span) -> list[tuple[bytes, bytes]]:
    """Trace id and span id of what a span links to."""
    return [(link.context.trace_id, link.context.span_id) for link in span.links]


def ids(*contexts: SpanContext) -> list[tuple[bytes, bytes]]:
    return [(context.trace_id, context.span_id) for context in contexts]
