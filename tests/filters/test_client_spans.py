"""CLIENT spans by the HTTP semantic conventions, and what third parties are told."""

from __future__ import annotations

import pytest
from opentelemetry.semconv._incubating.attributes import peer_attributes
from opentelemetry.semconv._incubating.attributes import url_attributes as incubating_url
from opentelemetry.semconv.attributes import (
    http_attributes,
    network_attributes,
    server_attributes,
    url_attributes,
)

from meshproxy.config.model import Capture, Config, Propagation
from meshproxy.filter import Failure
from meshproxy.trace.span import Kind, Status
from tests.filters.bench import OTHER_PARENT, PARENT, Bench, attributes


def test_a_call_becomes_a_client_span_with_the_stable_attributes() -> None:
    bench = Bench()
    request = bench.inbound(f"traceparent: {PARENT}")
    call = bench.outbound(line="PUT /prices/7?c=eur HTTP/1.1", peer="pricing")
    call.exchange.connected_to = ("10.0.0.9", 8080)
    span = call.span(204)
    assert attributes(span) == {
        http_attributes.HTTP_REQUEST_METHOD: "PUT",
        http_attributes.HTTP_RESPONSE_STATUS_CODE: 204,
        url_attributes.URL_FULL: "http://pricing:8080/prices/7?c=eur",
        incubating_url.URL_TEMPLATE: "/prices/{id}",
        server_attributes.SERVER_ADDRESS: "pricing",
        server_attributes.SERVER_PORT: 8080,
        network_attributes.NETWORK_PEER_ADDRESS: "10.0.0.9",
        network_attributes.NETWORK_PEER_PORT: 8080,
        network_attributes.NETWORK_PROTOCOL_VERSION: "1.1",
        peer_attributes.PEER_SERVICE: "pricing",
        "meshproxy.propagation": "repaired",
        "meshproxy.gap": "dropped",
        "meshproxy.link.evidence": "only_in_flight",
        "meshproxy.link.confidence": 0.998,
        "meshproxy.inbound.span_id": request.span_id,
    }
    assert span.shape.kind is Kind.CLIENT
    assert span.shape.name == "PUT /prices/{id}"
    assert (span.trace_id.hex(), span.parent_id.hex()) == (request.trace_id, request.span_id)
    assert span.span_id.hex() == call.span_id
    assert not span.parent_remote


@pytest.mark.parametrize(
    ("line", "host", "tls", "full"),
    [
        ("GET /a HTTP/1.1", "pricing", False, "http://pricing/a"),
        ("GET /a HTTP/1.1", "pricing", True, "https://pricing/a"),
        ("GET /a?sig=s3cret&b=1 HTTP/1.1", "p", False, "http://p/a?sig=REDACTED&b=1"),
        ("GET http://p/a?Signature=x HTTP/1.1", "p", False, "http://p/a?Signature=REDACTED"),
        ("OPTIONS * HTTP/1.1", "p", False, "http://p"),
        ("GET /a HTTP/1.0", "", False, "http://10.0.0.9:8080/a"),
    ],
)
def test_the_full_url(line: str, host: str, tls: bool, full: str) -> None:
    assert Bench().outbound(line=line, host=host, tls=tls).attributes()["url.full"] == full


@pytest.mark.parametrize("status", [400, 404, 429, 500])
def test_from_400_it_is_an_error_of_the_client(status: int) -> None:
    span = Bench().outbound().span(status)
    assert span.status == Status.ERROR
    assert attributes(span)["error.type"] == str(status)
    assert not span.events


@pytest.mark.parametrize("status", [200, 302, 399])
def test_below_400_it_is_none(status: int) -> None:
    span = Bench().outbound().span(status)
    assert span.status == Status.UNSET
    assert "error.type" not in attributes(span)


def test_an_answer_of_our_own_is_no_status_that_was_received() -> None:
    failure = Failure("connect_refused", "pricing refused.")
    span = Bench().outbound().end(502, failure=failure, answered=False)
    assert span is not None
    found = attributes(span)
    assert "http.response.status_code" not in found
    assert found["error.type"] == "connect_refused"
    assert [event.name for event in span.events] == ["exception"]


def test_a_status_that_was_received_stays_although_the_body_broke() -> None:
    bench = Bench()
    failure = Failure("upstream_reset", "pricing closed.")
    bench.outbound().end(502, failure=failure, answered=False)
    for status in (200, 502):
        found = attributes(bench.outbound().span(status, failure=failure))
        assert found["http.response.status_code"] == status
        assert found["error.type"] == "upstream_reset"


def test_an_unknown_method() -> None:
    span = Bench().outbound(line="BREW /pot HTTP/1.1").span()
    assert span.shape.name == "HTTP /pot"
    assert attributes(span)["http.request.method"] == "_OTHER"


def test_connect_has_no_url_and_carries_no_context() -> None:
    bench = Bench()
    bench.inbound()
    call = bench.outbound(
        f"traceparent: {OTHER_PARENT}",
        line="CONNECT api.example:443 HTTP/1.1",
        host="api.example:443",
        destination=("api.example", 443),
    )
    assert call.values("traceparent") == []
    span = call.span()
    found = attributes(span)
    assert span.shape.name == "CONNECT"
    assert (found["server.address"], found["server.port"]) == ("api.example", 443)
    assert "url.full" not in found
    assert "meshproxy.gap" not in found
    assert bench.gap_kinds() == {}


def test_configured_headers() -> None:
    config = Config(capture=Capture(request_headers=("X-T",), response_headers=("X-R",)))
    found = Bench(config).outbound("x-t: 1").attributes(200, "x-r: 2", "X-R: 3")
    assert found["http.request.header.x-t"] == ["1"]
    assert found["http.response.header.x-r"] == ["2", "3"]


def test_baggage_is_never_an_attribute_of_a_call() -> None:
    config = Config(capture=Capture(baggage=("user",)))
    found = Bench(config).outbound("baggage: user=1").attributes()
    assert not [key for key in found if "baggage" in key]


def test_old_names() -> None:
    bench = Bench(environ={"OTEL_SEMCONV_STABILITY_OPT_IN": "http/dup"})
    call = bench.outbound()
    call.exchange.connected_to = ("10.0.0.9", 8080)
    old = {
        "http.method": "GET",
        "http.status_code": 200,
        "http.url": "http://pricing:8080/prices",
        "http.flavor": "1.1",
        "net.peer.name": "pricing",
        "net.peer.port": 8080,
        "net.sock.peer.addr": "10.0.0.9",
        "net.sock.peer.port": 8080,
    }
    assert old.items() <= call.attributes().items()


# Resends


def resend(found: dict[str, object]) -> object:
    return found.get(http_attributes.HTTP_REQUEST_RESEND_COUNT)


def test_a_call_that_is_repeated_after_it_failed_is_numbered() -> None:
    bench = Bench()
    bench.inbound()
    counts = [resend(bench.outbound().attributes(503)) for _ in range(3)]
    counts.append(resend(bench.outbound().attributes(200)))
    counts.append(resend(bench.outbound().attributes(200)))
    assert counts == [None, 1, 2, 3, None]


def test_other_calls_are_no_resends() -> None:
    bench = Bench()
    bench.inbound()
    bench.outbound().end(503)
    others = [
        bench.outbound(line="GET /prices/2 HTTP/1.1"),
        bench.outbound(line="POST /prices HTTP/1.1"),
        bench.outbound(destination=("10.0.0.10", 8080)),
    ]
    assert [resend(each.attributes()) for each in others] == [None] * 3


def test_the_same_call_within_another_request_is_no_resend() -> None:
    bench = Bench()
    first = bench.inbound()
    bench.outbound().end(503)
    first.end()
    bench.inbound()
    assert resend(bench.outbound().attributes()) is None


@pytest.mark.parametrize("linked", [True, False])
def test_what_the_proxy_sends_again_counts_once(linked: bool) -> None:
    bench = Bench()
    if linked:
        bench.inbound()
    bench.outbound().end(0, failure=Failure("upstream_reset", ""))
    again = bench.outbound()
    again.exchange.attempt = 1
    assert resend(again.attributes()) == 1


def test_each_attempt_has_a_span_id_of_its_own() -> None:
    bench = Bench()
    bench.inbound()
    calls = [bench.outbound() for _ in range(3)]
    assert len({call.span_id for call in calls}) == 3
    assert len({call.trace_id for call in calls}) == 1


# Third parties

STRIPPED = ("api.stripe.com", "*.example.org", "partner:8443", "[2001:db8::5]:80")


@pytest.mark.parametrize(
    ("host", "destination", "stripped"),
    [
        ("api.stripe.com", ("1.2.3.4", 443), True),
        ("API.Stripe.com:443", ("1.2.3.4", 443), True),
        ("api.stripe.com.", ("1.2.3.4", 443), True),
        ("x.example.org", ("1.2.3.4", 80), True),
        ("a.b.example.org.:80", ("1.2.3.4", 80), True),
        ("example.org", ("1.2.3.4", 80), False),
        ("badexample.org", ("1.2.3.4", 80), False),
        ("partner:8443", ("1.2.3.4", 8443), True),
        ("partner", ("1.2.3.4", 8443), True),
        ("partner:80", ("1.2.3.4", 80), False),
        ("localhost:9101", ("api.stripe.com", 443), True),
        ("localhost:9101", ("y.example.org", 443), True),
        ("localhost:9101", ("partner", 8443), True),
        ("[2001:db8::5]", ("2001:db8::5", 80), True),
        ("pricing:8080", ("10.0.0.9", 8080), False),
    ],
)
def test_named_third_parties_get_no_context(
    host: str, destination: tuple[str, int], stripped: bool
) -> None:
    bench = Bench(Config(propagation=Propagation(strip=STRIPPED)))
    request = bench.inbound(f"traceparent: {PARENT}", "tracestate: a=1", "baggage: user=1")
    call = bench.outbound(
        f"traceparent: {request.traceparent}",
        "tracestate: a=1",
        "baggage: user=1",
        "b3: 80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1",
        "uberctx-user: 1",
        host=host,
        destination=destination,
    )
    names = ("traceparent", "tracestate", "baggage", "b3", "uberctx-user")
    found = {name for name in names if call.values(name)}
    assert found == (set() if stripped else set(names))
    assert call.span().trace_id.hex() == request.trace_id, "our own span is part of the trace"


def test_a_listener_towards_a_third_party_strips() -> None:
    bench = Bench()
    bench.inbound("baggage: user=1")
    call = bench.outbound(f"traceparent: {PARENT}", trust="edge")
    assert call.values("traceparent") == call.values("baggage") == []


def test_not_telling_a_third_party_is_no_gap() -> None:
    bench = Bench(Config(propagation=Propagation(strip=STRIPPED)))
    request = bench.inbound("baggage: user=1")
    span = bench.outbound(host="api.stripe.com").span()
    assert span.parent_id.hex() == request.span_id
    assert "meshproxy.gap" not in attributes(span)
    assert bench.gap_kinds() == {}


def test_calls_are_counted() -> None:
    bench = Bench()
    bench.outbound(line="GET /prices/1 HTTP/1.1").end(200)
    bench.outbound(line="GET /prices/2 HTTP/1.1").end(200)
    counts = {key: series.count for key, series in bench.stats.series.items()}
    assert counts == {("outbound", "GET", "/prices/{id}", "200"): 2}


def test_spans_of_both_directions_share_nothing() -> None:
    bench = Bench()
    request, call = bench.inbound(line="GET /a HTTP/1.1"), bench.outbound(line="GET /a HTTP/1.1")
    assert call.span().shape.kind is Kind.CLIENT
    assert request.span().shape.kind is Kind.SERVER
