"""Connections that pass unread have a CLIENT span each, from opening to closing."""

from __future__ import annotations

from typing import Any

from meshproxy.config.model import Config, Sampling
from meshproxy.filter import Failure, Passage
from meshproxy.trace.span import Kind, Span, Status
from tests.filters.bench import MILLISECOND, PARENT, Bench, attributes


class Opened:
    def __init__(self, bench: Bench, passage: Passage, **facts: Any) -> None:
        self._bench = bench
        self._passage = passage
        for name, value in facts.items():
            setattr(passage, name, value)
        self._state = bench.filter.on_open(passage)

    def close(self, **facts: Any) -> Span | None:
        for name, value in facts.items():
            setattr(self._passage, name, value)
        self._passage.end_ns = self._passage.start_ns + MILLISECOND
        before = len(self._bench.spans)
        self._bench.filter.on_close(self._passage, self._state)
        new = self._bench.spans[before:]
        assert len(new) <= 1
        return new[0] if new else None

    def span(self, **facts: Any) -> Span:
        span = self.close(**facts)
        assert span is not None
        return span


def test_an_opaque_connection() -> None:
    bench = Bench()
    request = bench.inbound(f"traceparent: {PARENT}", "tracestate: a=1")
    span = Opened(bench, bench.passage()).span(
        sent=10, received=20, connected_to=("10.0.0.5", 5432)
    )
    assert span.shape.kind is Kind.CLIENT
    assert span.shape.name == "opaque db"
    assert (span.trace_id.hex(), span.parent_id.hex()) == (request.trace_id, request.span_id)
    assert span.tracestate == "a=1"
    assert span.end_ns - span.start_ns == MILLISECOND
    assert attributes(span) == {
        "server.address": "db",
        "server.port": 5432,
        "network.transport": "tcp",
        "network.protocol.name": "opaque",
        "network.peer.address": "10.0.0.5",
        "network.peer.port": 5432,
        "meshproxy.bytes.sent": 10,
        "meshproxy.bytes.received": 20,
        "meshproxy.propagation": "repaired",
        "meshproxy.link.evidence": "only_in_flight",
        "meshproxy.link.confidence": 0.998,
        "meshproxy.inbound.span_id": request.span_id,
    }


def test_tls_is_named_by_whom_it_asks_for() -> None:
    bench = Bench()
    passage = bench.passage(("93.184.216.34", 443))
    span = Opened(bench, passage, protocol="tls", server_name="api.example").span()
    found = attributes(span)
    assert span.shape.name == "tls api.example"
    assert found["server.address"] == found["tls.client.server_name"] == "api.example"


def test_a_configured_peer_names_it() -> None:
    bench = Bench()
    span = Opened(bench, bench.passage(), peer="orders-db").span()
    assert span.shape.name == "opaque orders-db"
    assert attributes(span)["peer.service"] == "orders-db"


def test_a_failure_is_an_error_with_an_exception_event() -> None:
    bench = Bench()
    span = Opened(bench, bench.passage()).span(failure=Failure("connect_refused", "db refused."))
    assert (span.status, span.status_message) == (Status.ERROR, "db refused.")
    assert attributes(span)["error.type"] == "connect_refused"
    (event,) = span.events
    assert dict(event.attributes) == {
        "exception.type": "connect_refused",
        "exception.message": "db refused.",
    }


def test_between_several_requests_nothing_is_guessed() -> None:
    bench = Bench()
    requests = [bench.inbound(), bench.inbound()]
    span = Opened(bench, bench.passage()).span()
    assert span.parent_id == b""
    assert span.trace_id.hex() not in {request.trace_id for request in requests}
    assert {link.context.span_id.hex() for link in span.links} == {r.span_id for r in requests}


def test_what_cannot_carry_a_context_is_no_gap() -> None:
    bench = Bench()
    bench.inbound()
    Opened(bench, bench.passage()).span()
    assert bench.gap_kinds() == {}


def test_it_is_sampled_as_its_cause_is() -> None:
    bench = Bench(Config(sampling=Sampling(default=0.0)))
    assert Opened(bench, bench.passage()).close() is None
    bench.inbound(f"traceparent: {PARENT}")
    assert Opened(bench, bench.passage()).close() is not None


def test_a_failed_one_is_exported_although_not_sampled() -> None:
    failure = Failure("reset", "")
    always = Bench(Config(sampling=Sampling(default=0.0)))
    assert Opened(always, always.passage()).close(failure=failure) is not None
    sampled = Bench(Config(sampling=Sampling(default=0.0, errors="sampled")))
    assert Opened(sampled, sampled.passage()).close(failure=failure) is None


def test_a_root_tells_its_threshold() -> None:
    bench = Bench(Config(sampling=Sampling(default=0.5)))
    spans = [Opened(bench, bench.passage()).close() for _ in range(40)]
    kept = [span for span in spans if span is not None]
    assert 0 < len(kept) < 40
    assert {span.tracestate for span in kept} == {"ot=th:8"}


def test_inbound_connections_have_no_span() -> None:
    bench = Bench()
    assert Opened(bench, bench.passage(inbound=True)).close() is None
