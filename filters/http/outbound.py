"""Behind the service: CLIENT spans, linked to the request that caused them."""

from __future__ import annotations

from filters.http import attributes as names
from filters.http.context import CORRELATION_IDS, Fields, Tracing
from filters.http.reader import Reader
from filters.http.routes import Routes, Target
from filters.http.spans import Peers, Shape, Shapes, finished
from filters.shared import Pairs, candidate_links, carried_link, linked, linked_to, occurrence
from filters.third_parties import ThirdParties
from meshproxy.filter import Exchange
from meshproxy.linking.call import Call, Decision
from meshproxy.trace.context import SpanContext
from meshproxy.trace.propagator import Extracted
from meshproxy.trace.sampling import Action, SamplingRequest
from meshproxy.trace.span import Link


class Sent:
    """What is known of a call until its span is finished."""

    __slots__ = (
        "action",
        "attempt",
        "context",
        "decision",
        "destination",
        "extracted",
        "key",
        "target",
    )

    def __init__(
        self,
        context: SpanContext,
        decision: Decision,
        extracted: Extracted | None,
        action: Action,
        target: Target,
        destination: str,
    ) -> None:
        self.destination = destination
        self.context = context
        self.decision = decision
        self.extracted = extracted
        self.action = action
        self.target = target
        self.key: tuple[bytes, ...] = ()
        self.attempt = 0


class Outbound:
    """Links each call to its cause, and gives it exactly one context."""

    def __init__(self, tracing: Tracing, routes: Routes, shapes: Shapes, reader: Reader) -> None:
        self._tracing = tracing
        self._reader = reader
        self._routes = routes
        self._shapes = shapes
        self._peers = Peers(tracing.old_names)
        environment = tracing.environment
        self._environment = environment
        self._linker = environment.linker
        self._inflight = environment.inflight
        self._third_parties = ThirdParties(environment.config.propagation.strip)
        capture = environment.config.capture
        self._request_headers = tuple(n.lower().encode() for n in capture.request_headers)
        self._response_headers = tuple(n.lower().encode() for n in capture.response_headers)

    def on_request(self, exchange: Exchange) -> Sent:
        """Find out which request caused this call, and say so in its headers."""
        tracing = self._tracing
        request = exchange.request
        fields = tracing.marked(request) if request.marked else {}
        extracted = tracing.propagator.extract(fields) if fields else None
        target = self._routes.target(request.line)
        host, port = exchange.destination
        destination = exchange.peer or f"{host}:{port}"
        call = _call(fields, extracted, tracing)
        call.now_ns = exchange.start_ns
        call.destination = destination
        call.operation = target.name
        call.socket = exchange.socket
        context = call.context
        unsure = context is None or not self._inflight.of_trace(context.trace_id)
        call.tokens = self._reader.sending(exchange, unsure)
        decision = self._linker.link(call)
        if decision.cause is not None and call.tokens is not None:
            self._reader.sent(decision.cause, call.tokens())
        # What goes through a tunnel carries its own context, if any; third parties get none.
        leaves = request.line.method == b"CONNECT" or self._is_third_party(exchange)
        sent = self._continue(exchange, decision, extracted, target, destination)
        exchange.trace = sent.context
        if leaves:
            decision.gap = None  # so the service broke nothing by not passing a context on
        else:
            self._inject(exchange, sent)
        self._count(sent, exchange.start_ns)
        return sent

    def _continue(
        self,
        exchange: Exchange,
        decision: Decision,
        extracted: Extracted | None,
        target: Target,
        destination: str,
    ) -> Sent:
        """The context of the call's own span."""
        request: SamplingRequest | None = None
        if decision.parent is None:
            request = self._tracing.sampling_request(exchange.request, target.path, target.route)
        context, action = self._tracing.contexts.of_call(decision, request)
        sent = Sent(context, decision, extracted, action, target, destination)
        cause = decision.cause
        if cause is not None:
            line = exchange.request.line
            sent.key = (line.method, destination.encode(), line.target)
            sent.attempt = cause.resend_count(sent.key)
        return sent

    def _is_third_party(self, exchange: Exchange) -> bool:
        return exchange.scope.trust == "edge" or self._third_parties.has(
            exchange.authority, exchange.destination
        )

    def _inject(self, exchange: Exchange, sent: Sent) -> None:
        request = exchange.request
        cause = sent.decision.cause
        extracted = sent.extracted
        self._tracing.inject(request, sent.context, extracted)
        if cause is not None and cause.baggage and not (extracted and extracted.baggage):
            request.added.append(b"baggage: " + cause.baggage)

    def _count(self, sent: Sent, at_ns: int) -> None:
        environment = self._environment
        decision = sent.decision
        route = decision.cause.route if decision.cause is not None else ""
        carried = sent.extracted.context if sent.extracted is not None else None
        found = occurrence(decision, sent.context, carried, at_ns)
        environment.gaps.call(route, sent.destination, found)
        result = decision.evidence or decision.propagation
        environment.stats.links["contradiction" if decision.contradiction else result] += 1
        environment.stats.propagation["outbound", decision.propagation] += 1

    def on_response_body(self, exchange: Exchange, sent: Sent, data: bytes) -> None:
        """The beginning of the answer's body."""
        self._reader.answered(exchange, sent.decision, data)

    def on_end(self, exchange: Exchange, sent: Sent) -> None:
        """The response has ended: count it, and make the span."""
        decision = sent.decision
        self._linker.answered(decision, exchange.end_ns)
        if exchange.peek:
            self._reader.answered(exchange, decision, b"")
        shape = self._shape(exchange, sent)
        shape.series.observe((exchange.end_ns - exchange.start_ns) / 1e9)
        if decision.cause is not None:
            if shape.error:
                decision.cause.failed(sent.key, sent.attempt)
            else:
                decision.cause.succeeded(sent.key)
        if not self._tracing.contexts.keeps(sent.action, shape.error):
            return
        parent_id = decision.parent.span_id if decision.parent is not None else b""
        # The span of a mended call hangs below our own SERVER span, in this very process.
        remote = decision.cause is None or decision.parent is not decision.cause.context
        self._environment.emit(
            finished(
                exchange,
                shape,
                sent.context,
                parent_id,
                self._pairs(exchange, sent),
                _links(sent) if decision.candidates or sent.extracted is not None else (),
                remote,
                self._peers.of(exchange.connected_to, None),
            )
        )

    def _shape(self, exchange: Exchange, sent: Sent) -> Shape:
        """What the span has in common with those of other calls."""
        request = exchange.request
        decision = sent.decision
        failure = exchange.failure
        route = "" if request.line.method == b"CONNECT" else sent.target.route
        key = (
            request.line.method,
            route,
            exchange.status,
            names.bounded(exchange.authority),
            exchange.destination,
            failure and (failure.kind, exchange.response is None),
            decision.propagation,
            decision.gap,
            decision.evidence,
            request.line.minor,
            exchange.tls,
        )
        shape = self._shapes.get(key)
        if shape is None:
            shape = self._shapes.client(key, exchange, route, linked(decision))
        return shape

    def _pairs(self, exchange: Exchange, sent: Sent) -> Pairs:
        pairs: Pairs = []
        if exchange.request.line.method != b"CONNECT":
            pairs.append(("url.full", _url(exchange, sent.target)))
        # What the proxy itself sent again has failed within its cause before, if that is known.
        resent = max(sent.attempt, exchange.attempt)
        if resent:
            pairs.append(("http.request.resend_count", resent))
        if sent.decision.cause is not None:
            pairs += linked_to(sent.decision)
        if sent.extracted is not None:
            pairs += sent.extracted.attributes
        if self._request_headers or self._response_headers:
            pairs += names.captured(exchange, self._request_headers, self._response_headers)
        if self._tracing.old_names:
            pairs = names.with_old_names(pairs, names.OLD_NAMES)
        return pairs


def _call(fields: Fields, extracted: Extracted | None, tracing: Tracing) -> Call:
    """What the linker is told of a call."""
    if not fields:
        return Call()
    ids = [value for name in CORRELATION_IDS for value in fields.get(name, ())]
    if extracted is None:
        return Call(request_ids=ids)
    return Call(
        extracted.context,
        gap=tracing.broken(fields, extracted) if extracted.context is None else None,
        w3c=extracted.w3c,
        request_ids=ids,
        baggage=extracted.baggage,
    )


def _links(sent: Sent) -> tuple[Link, ...]:
    """The candidates, and the contexts that the call carried and that were not continued."""
    links = candidate_links(sent.decision)
    extracted = sent.extracted
    if extracted is not None:
        links += carried_link(sent.decision, extracted.context)
        links += [Link(context) for context in extracted.disagreeing]
    return tuple(links)


def _url(exchange: Exchange, target: Target) -> str:
    """url.full, without credentials."""
    scheme = "https" if exchange.tls else "http"
    host, port = exchange.destination
    authority = exchange.authority or f"{host}:{port}".encode("latin-1")
    query = f"?{names.redacted(target.query)}" if target.query else ""
    path = "" if target.path == "*" else target.path  # RFC 9112 section 3.2.4
    return f"{scheme}://{authority.decode('latin-1')}{path}{query}"
