"""In front of the service: SERVER spans, and the context that the service is given."""

from __future__ import annotations

from binascii import hexlify
from typing import Final

from filters.http import attributes as names
from filters.http.context import OTHER_IDS, REQUEST_ID, Fields, Tracing
from filters.http.reader import Reader
from filters.http.routes import Routes, Target
from filters.http.spans import Peers, Shapes, finished
from filters.shared import Pairs
from meshproxy.filter import Exchange
from meshproxy.linking.gaps import Gap
from meshproxy.linking.inflight import Cause
from meshproxy.trace import baggage
from meshproxy.trace.context import RANDOM, SpanContext
from meshproxy.trace.propagator import Extracted
from meshproxy.trace.sampling import Action
from meshproxy.trace.span import Link

UNANSWERED: Final = frozenset({"client_gone", "response_timeout", "stream_timeout", "bad_request"})
"""Failures after which the service may go on with a request that is over."""


PROBES: Final = (
    b"kube-probe/", b"GoogleHC/", b"ELB-HealthChecker/", b"Consul Health Check", b"Envoy/HC",
)  # fmt: skip
"""Beginnings of User-Agent fields of health checks."""


class Received:
    """What is known of a request in flight until its span is finished."""

    __slots__ = ("action", "cause", "extracted", "gap", "outside", "parent", "propagation",
                 "target")  # fmt: skip

    def __init__(
        self,
        cause: Cause,
        action: Action,
        target: Target,
        extracted: Extracted | None,
        outside: Extracted | None,
        parent: SpanContext | None,
    ) -> None:
        self.cause = cause
        self.action = action
        self.target = target
        self.extracted = extracted
        self.outside = outside
        self.parent = parent
        self.propagation = "root" if parent is None else "ok"
        self.gap: Gap | None = None


class Inbound:
    """Continues or starts a trace for each request, and registers it as in flight."""

    def __init__(self, tracing: Tracing, routes: Routes, shapes: Shapes, reader: Reader) -> None:
        self._tracing = tracing
        self._reader = reader
        self._linker = tracing.environment.linker
        self._routes = routes
        self._shapes = shapes
        self._peers = Peers(tracing.old_names)
        environment = tracing.environment
        self._environment = environment
        capture = environment.config.capture
        self._request_headers = tuple(n.lower().encode() for n in capture.request_headers)
        self._response_headers = tuple(n.lower().encode() for n in capture.response_headers)
        self._baggage_keys = capture.baggage

    def on_request(self, exchange: Exchange) -> Received:
        """Read what came in, and put our span in its place."""
        tracing = self._tracing
        request = exchange.request
        extracted: Extracted | None = None
        outside: Extracted | None = None
        gap: Gap | None = None
        request_id = b""
        correlation_ids: tuple[bytes, ...] = ()
        if request.marked:
            fields = tracing.marked(request)
            ids = fields.pop(REQUEST_ID, None)
            if ids:
                request_id = ids[0]
                if not request_id:
                    request.drop(REQUEST_ID)  # ours takes its place
            if not OTHER_IDS.isdisjoint(fields):
                correlation_ids = _correlation_ids(fields, request_id)
            if fields:
                extracted = tracing.propagator.extract(fields)
                if exchange.scope.trust == "edge":
                    outside = extracted
                    extracted = None
                elif extracted.context is None:
                    gap = tracing.broken(fields, extracted)
        target = self._routes.target(request.line)
        received = self._decide(exchange, target, extracted, outside, request_id)
        if correlation_ids:
            received.cause.correlation_ids = correlation_ids
        if gap is not None:
            received.gap = gap
            received.propagation = "unlinked"
        received.cause.carrier = exchange
        self._linker.begin(received.cause, exchange.start_ns)
        self._reader.received(exchange, received.cause)
        return received

    def on_request_body(self, exchange: Exchange, received: Received, data: bytes) -> None:
        """The beginning of the body, which came after the head."""
        self._reader.received_body(exchange, received.cause, data)

    def _decide(
        self,
        exchange: Exchange,
        target: Target,
        extracted: Extracted | None,
        outside: Extracted | None,
        request_id: bytes,
    ) -> Received:
        tracing = self._tracing
        request = exchange.request
        parent = extracted.context if extracted is not None else None
        if parent is not None:
            trace_id, random = parent.trace_id, parent.flags & RANDOM
        elif extracted is not None and extracted.trace_id:
            trace_id, random = extracted.trace_id, 0
        else:
            trace_id, random = tracing.ids.trace_id(), RANDOM
        decision = tracing.sampler.sample(
            tracing.sampling_request(request, target.path, target.route),
            extracted,
            trace_id,
            self._environment.clock(),
        )
        if decision.action is Action.DROP and parent is not None:
            context = parent  # no span of ours stands between the caller and the service
        else:
            sampled = decision.action is Action.SAMPLE
            context = SpanContext(
                trace_id, tracing.ids.span_id(), random | sampled, decision.tracestate
            )
        tracing.inject(request, context, extracted)
        if not request_id:
            request_id = hexlify(tracing.ids.take(16))
            request.added.append(b"X-Request-Id: " + request_id)
        cause = Cause(
            context,
            target.name,
            exchange.start_ns,
            request_id,
            extracted.baggage if extracted is not None else b"",
        )
        cause.probe = decision.action is Action.DROP or (
            parent is None and request.agent.startswith(PROBES)
        )
        received = Received(cause, decision.action, target, extracted, outside, parent)
        if decision.action is not Action.DROP:
            exchange.trace = context
        return received

    def on_end(self, exchange: Exchange, received: Received) -> None:
        """The response has ended: count it, and make the span."""
        environment = self._environment
        failure = exchange.failure
        if failure is None or failure.kind not in UNANSWERED:
            self._linker.end(received.cause, exchange.end_ns)
        else:
            self._linker.abandon(received.cause, exchange.end_ns)
        environment.stats.propagation["inbound", received.propagation] += 1
        request = exchange.request
        target = received.target
        key = (
            target.name,
            exchange.status,
            names.bounded(request.host),
            names.bounded(request.agent),
            received.propagation,
            received.gap,
            failure.kind if failure is not None else None,
            exchange.scope.scheme,
            request.line.minor,
        )
        shape = self._shapes.get(key)
        if shape is None:
            verdict = _verdict(received)
            shape = self._shapes.server(key, exchange, target.route, verdict)
        shape.series.observe((exchange.end_ns - exchange.start_ns) / 1e9)
        if not self._tracing.contexts.keeps(received.action, shape.error):
            return
        parent_id = received.parent.span_id if received.parent is not None else b""
        pairs = self._pairs(exchange, received)
        links = self._links(received) if received.extracted or received.outside else ()
        shared = self._peers.of(exchange.client, None if request.forwarded else exchange.client[0])
        environment.emit(
            finished(exchange, shape, received.cause.context, parent_id, pairs, links, True, shared)
        )

    def _pairs(self, exchange: Exchange, received: Received) -> Pairs:
        target = received.target
        pairs: Pairs = [("url.path", target.path)]
        if exchange.request.forwarded:
            pairs.append(("client.address", names.client_address(exchange)))
        if target.query:
            pairs.append(("url.query", names.redacted(target.query)))
        if received.extracted is not None:
            pairs += received.extracted.attributes
            pairs += self._baggage(received.extracted.baggage)
        if self._request_headers or self._response_headers:
            pairs += names.captured(exchange, self._request_headers, self._response_headers)
        if self._tracing.old_names:
            pairs = names.with_old_names(pairs, names.OLD_NAMES)
            query = f"?{names.redacted(target.query)}" if target.query else ""
            pairs.append(("http.target", target.path + query))
        return pairs

    def _baggage(self, value: bytes) -> Pairs:
        """Only the entries that the configuration names: baggage can hold personal data."""
        found = ((key, baggage.get(value, key)) for key in self._baggage_keys)
        return [(f"baggage.{key}", text) for key, text in found if text is not None]

    def _links(self, received: Received) -> tuple[Link, ...]:
        """Contexts that came in and are not the parent."""
        contexts = list(received.extracted.disagreeing) if received.extracted else []
        outside = received.outside
        if outside is not None:
            contexts += [outside.context] if outside.context is not None else []
            contexts += outside.disagreeing
        return tuple(Link(context) for context in contexts)


def _verdict(received: Received) -> Pairs:
    """What was made of the context that came in."""
    pairs: Pairs = [("meshproxy.propagation", received.propagation)]
    if received.gap is not None:
        pairs.append(("meshproxy.gap", received.gap.value))
    return pairs


def _correlation_ids(fields: Fields, request_id: bytes) -> tuple[bytes, ...]:
    """Take the ids out by which the service may call this request, beside ``request_id``."""
    found = {value: None for name in OTHER_IDS for value in fields.pop(name, ())}
    return tuple(value for value in found if value and value != request_id)
