"""Connections that pass unread: a CLIENT span each, from opening to closing."""

from __future__ import annotations

from filters.http.context import Tracing
from filters.shared import Pairs, candidate_links, linked, linked_to, tell_failure
from meshproxy.filter import Passage
from meshproxy.linking.call import Call, Decision
from meshproxy.trace.context import SpanContext
from meshproxy.trace.sampling import Action
from meshproxy.trace.span import Kind, Span, SpanShape

State = tuple[SpanContext, Action, Decision]


class Passages:
    """Spans for outbound TLS and TCP connections. What is inside cannot be seen, nor mended."""

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = tracing
        self._environment = tracing.environment

    def on_open(self, passage: Passage) -> State | None:
        """Find the request that the connection was opened for."""
        if passage.scope.inbound:
            return None
        host, port = passage.destination
        call = Call(
            now_ns=passage.start_ns,
            destination=passage.peer or f"{host}:{port}",
            operation=passage.protocol,
            socket=passage.socket,
        )
        decision = self._environment.linker.link(call)
        decision.gap = None  # what is inside may carry its context all the same
        context, action = self._tracing.contexts.of_call(decision, None)
        return context, action, decision

    def on_close(self, passage: Passage, state: State | None) -> None:
        """Make the span, if the trace is sampled or the connection failed."""
        if state is None:
            return
        context, action, decision = state
        self._environment.linker.answered(decision, passage.end_ns)
        if self._tracing.contexts.keeps(action, passage.failure is not None):
            self._environment.emit(_span(passage, context, decision))


def _span(passage: Passage, context: SpanContext, decision: Decision) -> Span:
    host = passage.destination[0]
    where = passage.peer or passage.server_name or host
    shape = SpanShape(f"{passage.protocol} {where}", Kind.CLIENT, _attributes(passage, decision))
    pairs: Pairs = [("meshproxy.bytes.sent", passage.sent)]
    pairs.append(("meshproxy.bytes.received", passage.received))
    pairs += linked_to(decision)
    if passage.connected_to is not None:
        pairs.append(("network.peer.address", passage.connected_to[0]))
        pairs.append(("network.peer.port", passage.connected_to[1]))
    parent_id = decision.parent.span_id if decision.parent is not None else b""
    span = Span(
        shape,
        context,
        parent_id,
        passage.start_ns,
        passage.end_ns,
        pairs,
        parent_remote=False,
        links=candidate_links(decision),
    )
    if passage.failure is not None:
        tell_failure(span, passage.failure)
    return span


def _attributes(passage: Passage, decision: Decision) -> Pairs:
    host, port = passage.destination
    pairs: Pairs = [
        ("server.address", passage.server_name or host),
        ("server.port", port),
        ("network.transport", "tcp"),
        ("network.protocol.name", passage.protocol),
        *linked(decision),
    ]
    if passage.server_name:
        pairs.append(("tls.client.server_name", passage.server_name))
    if passage.peer:
        pairs.append(("peer.service", passage.peer))
    if passage.failure is not None:
        pairs.append(("error.type", passage.failure.kind))
    return pairs
