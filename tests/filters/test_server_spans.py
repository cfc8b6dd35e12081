"""SERVER spans by the HTTP semantic conventions."""

from __future__ import annotations

import pytest
from opentelemetry.semconv.attributes import (
    client_attributes,
    error_attributes,
    exception_attributes,
    http_attributes,
    network_attributes,
    server_attributes,
    url_attributes,
    user_agent_attributes,
)

from meshproxy.config.model import Capture, Config, Routes
from meshproxy.filter import Failure
from meshproxy.trace.span import Kind, Status
from tests.filters.bench import MILLISECOND, PARENT, SPAN_ID, TRACE_ID, Bench, attributes


def test_a_request_becomes_a_server_span_with_the_stable_attributes() -> None:
    message = Bench().inbound(
        f"traceparent: {PARENT}",
        "User-Agent: curl/8",
        line="POST /users/42?page=2 HTTP/1.1",
        host="cart.example:8080",
    )
    span = message.span(201)
    assert attributes(span) == {
        http_attributes.HTTP_REQUEST_METHOD: "POST",
        http_attributes.HTTP_RESPONSE_STATUS_CODE: 201,
        http_attributes.HTTP_ROUTE: "/users/{id}",
        url_attributes.URL_SCHEME: "http",
        url_attributes.URL_PATH: "/users/42",
        url_attributes.URL_QUERY: "page=2",
        server_attributes.SERVER_ADDRESS: "cart.example",
        server_attributes.SERVER_PORT: 8080,
        client_attributes.CLIENT_ADDRESS: "192.0.2.7",
        network_attributes.NETWORK_PEER_ADDRESS: "192.0.2.7",
        network_attributes.NETWORK_PEER_PORT: 40123,
        network_attributes.NETWORK_PROTOCOL_VERSION: "1.1",
        user_agent_attributes.USER_AGENT_ORIGINAL: "curl/8",
        "meshproxy.propagation": "ok",
    }
    assert span.shape.kind is Kind.SERVER
    assert span.shape.name == "POST /users/{id}"
    assert span.status == Status.UNSET
    assert (span.trace_id.hex(), span.parent_id.hex()) == (TRACE_ID, SPAN_ID)
    assert span.span_id.hex() == message.span_id
    assert span.parent_remote
    assert span.end_ns - span.start_ns == 5 * MILLISECOND


@pytest.mark.parametrize(
    ("host", "scheme", "address", "port"),
    [
        ("cart", "http", "cart", 80),
        ("cart", "https", "cart", 443),
        ("cart:", "http", "cart", 80),
        ("10.1.2.3:99", "http", "10.1.2.3", 99),
        ("[2001:db8::1]:8080", "http", "2001:db8::1", 8080),
        ("[2001:db8::1]", "https", "2001:db8::1", 443),
    ],
)
def test_server_address_and_port_come_from_host(
    host: str, scheme: str, address: str, port: int
) -> None:
    found = Bench().inbound(host=host, scheme=scheme).attributes()
    assert (found["server.address"], found["server.port"]) == (address, port)
    assert found["url.scheme"] == scheme


def test_http_1_0_without_host() -> None:
    found = Bench().inbound(line="GET / HTTP/1.0", host="").attributes()
    assert found["network.protocol.version"] == "1.0"
    assert "server.address" not in found


def test_the_client_is_the_first_that_forwarded() -> None:
    found = Bench().inbound("X-Forwarded-For: 203.0.113.5 , 10.0.0.1").attributes()
    assert found["client.address"] == "203.0.113.5"
    assert found["network.peer.address"] == "192.0.2.7"


def test_an_unknown_method_is_not_part_of_the_name() -> None:
    span = Bench().inbound(line="BREW /pot HTTP/1.1").span()
    found = attributes(span)
    assert span.shape.name == "HTTP /pot"
    assert found["http.request.method"] == "_OTHER"
    assert found[http_attributes.HTTP_REQUEST_METHOD_ORIGINAL] == "BREW"


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_a_known_method_has_no_original(method: str) -> None:
    found = Bench().inbound(line=f"{method} / HTTP/1.1").attributes()
    assert found["http.request.method"] == method
    assert "http.request.method_original" not in found


def test_methods_are_case_sensitive() -> None:
    found = Bench().inbound(line="get / HTTP/1.1").attributes()
    assert found["http.request.method"] == "_OTHER"
    assert found["http.request.method_original"] == "get"


@pytest.mark.parametrize(
    ("query", "kept"),
    [
        ("a=1&sig=abc&b=2", "a=1&sig=REDACTED&b=2"),
        ("Signature=abc", "Signature=REDACTED"),
        (
            "AWSAccessKeyId=AK&X-Goog-Signature=ff",
            "AWSAccessKeyId=REDACTED&X-Goog-Signature=REDACTED",
        ),
        (
            "X-Amz-Signature=1&X-Amz-Credential=2",
            "X-Amz-Signature=REDACTED&X-Amz-Credential=REDACTED",
        ),
        ("sig=", "sig=REDACTED"),
        ("design=abc&sigma=1", "design=abc&sigma=1"),
    ],
)
def test_credentials_in_the_query_are_redacted(query: str, kept: str) -> None:
    found = Bench().inbound(line=f"GET /a?{query} HTTP/1.1").attributes()
    assert found["url.query"] == kept


def test_without_a_query_there_is_no_url_query() -> None:
    assert "url.query" not in Bench().inbound(line="GET /a? HTTP/1.1").attributes()


@pytest.mark.parametrize("status", [200, 301, 404, 499])
def test_below_500_is_no_error_of_the_server(status: int) -> None:
    span = Bench().inbound().span(status)
    assert span.status == Status.UNSET
    assert error_attributes.ERROR_TYPE not in attributes(span)


@pytest.mark.parametrize("status", [500, 503, 599])
def test_5xx_is_an_error_without_an_exception(status: int) -> None:
    span = Bench().inbound().span(status)
    assert span.status == Status.ERROR
    assert attributes(span)[error_attributes.ERROR_TYPE] == str(status)
    assert not span.events
    assert span.status_message == ""


def test_a_failure_of_the_proxy_is_an_error_with_an_exception_event() -> None:
    message = Bench().inbound()
    span = message.end(
        502, failure=Failure("connect_refused", "127.0.0.1:8080 refused."), answered=False
    )
    assert span is not None
    found = attributes(span)
    assert found["error.type"] == "connect_refused"
    assert found["http.response.status_code"] == 502
    assert (span.status, span.status_message) == (Status.ERROR, "127.0.0.1:8080 refused.")
    (event,) = span.events
    assert event.name == "exception"
    assert event.time_ns == span.end_ns
    assert dict(event.attributes) == {
        exception_attributes.EXCEPTION_TYPE: "connect_refused",
        exception_attributes.EXCEPTION_MESSAGE: "127.0.0.1:8080 refused.",
    }


def test_a_client_that_left_before_the_answer_has_no_status_code() -> None:
    span = Bench().inbound().end(0, failure=Failure("client_gone", "The client left."))
    assert span is not None
    assert "http.response.status_code" not in attributes(span)
    assert attributes(span)["error.type"] == "client_gone"


def test_configured_headers_are_lists_under_lower_case_names() -> None:
    config = Config(
        capture=Capture(
            request_headers=("X-Tenant", "Accept", "X-Absent"), response_headers=("Content-Type",)
        )
    )
    found = (
        Bench(config)
        .inbound("x-tenant: blue", "ACCEPT: a/b", "Accept: c/d", "X-Secret: no")
        .attributes(200, "content-type: text/plain", "X-Other: no")
    )
    headers = {key: value for key, value in found.items() if ".header." in key}
    assert headers == {
        "http.request.header.x-tenant": ["blue"],
        "http.request.header.accept": ["a/b", "c/d"],
        "http.response.header.content-type": ["text/plain"],
    }


def test_nothing_of_baggage_becomes_an_attribute_unless_configured() -> None:
    headers = ("baggage: user=al%20ice,tenant=blue;p=1",)
    assert not [key for key in Bench().inbound(*headers).attributes() if "baggage" in key]
    config = Config(capture=Capture(baggage=("user", "absent")))
    found = Bench(config).inbound(*headers).attributes()
    assert {k: v for k, v in found.items() if k.startswith("baggage")} == {"baggage.user": "al ice"}


OLD = {
    "http.method": "POST",
    "http.status_code": 200,
    "http.scheme": "http",
    "http.target": "/a?b=1",
    "http.user_agent": "curl/8",
    "http.flavor": "1.1",
    "http.client_ip": "192.0.2.7",
    "net.host.name": "cart",
    "net.host.port": 8080,
    "net.sock.peer.addr": "192.0.2.7",
    "net.sock.peer.port": 40123,
}


@pytest.mark.parametrize("opt_in", ["http/dup", "database/dup, http/dup"])
def test_old_names_stand_beside_the_new_on_request(opt_in: str) -> None:
    bench = Bench(environ={"OTEL_SEMCONV_STABILITY_OPT_IN": opt_in})
    found = bench.inbound("User-Agent: curl/8", line="POST /a?b=1 HTTP/1.1").attributes()
    assert OLD.items() <= found.items()
    assert found["http.request.method"] == "POST"


@pytest.mark.parametrize("opt_in", ["", "http", "database/dup"])
def test_otherwise_there_are_no_old_names(opt_in: str) -> None:
    bench = Bench(environ={"OTEL_SEMCONV_STABILITY_OPT_IN": opt_in})
    assert not OLD.keys() & bench.inbound("User-Agent: curl/8").attributes().keys()


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/", "/"),
        ("/users/42", "/users/{id}"),
        ("/users/42/orders/7", "/users/{id}/orders/{id}"),
        ("/u/8f14e45f-ceea-467f-a8e8-1c4f0b5ab0d6", "/u/{id}"),
        ("/c/5d41402abc4b2a76b9719d911017c592", "/c/{id}"),
        ("/days/2026-01-31", "/days/{id}"),
        ("/mail/bob@example.org", "/mail/{id}"),
        ("/search/red%20shoes", "/search/{id}"),
        ("/orders/ORD-1234", "/orders/{id}"),
        ("/t/eyJhbGciOiJIUzI1NiJ9.x.y", "/t/{id}"),
        ("/v1/items", "/v1/items"),
        ("/api/v2/deadbeef", "/api/v2/deadbeef"),
        ("/static/app-bundle.js", "/static/app-bundle.js"),
        ("/internationalisation-of-everything", "/internationalisation-of-everything"),
        ("/1/2/3/4/5/6/7/8/9/10/11/12/13/14", "/" + "/".join(["{id}"] * 12) + "/*"),
    ],
)
def test_paths_become_routes_of_low_cardinality(path: str, route: str) -> None:
    span = Bench().inbound(line=f"GET {path} HTTP/1.1").span()
    assert attributes(span)["http.route"] == route
    assert span.shape.name == f"GET {route}"


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/shops/berlin/items", "/shops/{town}/items"),
        ("/shops/berlin/items/3", "/shops/berlin/items/{id}"),
        ("/files/a/b/c", "/files/*"),
        ("/files", "/files"),
        ("/a.b/c", "/a.b/{x}"),
        ("/aXb/c", "/aXb/c"),
    ],
)
def test_configured_templates_come_first(path: str, route: str) -> None:
    config = Config(routes=Routes(templates=("/shops/{town}/items", "/files/*", "/a.b/{x}")))
    assert Bench(config).inbound(line=f"GET {path} HTTP/1.1").attributes()["http.route"] == route


def test_the_number_of_routes_is_bounded() -> None:
    bench = Bench(Config(routes=Routes(templates=("/known/{id}",), limit=3)))
    names = {bench.inbound(line=f"GET /p{n}x HTTP/1.1").span().shape.name for n in range(50)}
    assert names == {"GET /p0x", "GET /p1x", "GET"}
    overflowing = bench.inbound(line="GET /p0x HTTP/1.1").attributes()
    assert overflowing["http.route"] == "/p0x"
    assert bench.inbound(line="GET /known/3 HTTP/1.1").attributes()["http.route"] == "/known/{id}"
    assert "http.route" not in bench.inbound(line="GET /new HTTP/1.1").attributes()


@pytest.mark.parametrize(
    ("line", "path", "query"),
    [
        ("GET http://cart/a/b?c=d HTTP/1.1", "/a/b", "c=d"),
        ("GET http://cart HTTP/1.1", "/", None),
        ("GET http://cart?c=d HTTP/1.1", "/", "c=d"),
        ("GET /a?b?c HTTP/1.1", "/a", "b?c"),
        ("OPTIONS * HTTP/1.1", "*", None),
    ],
)
def test_targets_of_all_forms(line: str, path: str, query: str | None) -> None:
    found = Bench().inbound(line=line).attributes()
    assert (found["url.path"], found.get("url.query")) == (path, query)


def test_requests_are_counted_by_route_and_status() -> None:
    bench = Bench()
    for number in range(3):
        bench.inbound(line=f"GET /users/{number} HTTP/1.1").end(200, after_ms=30)
    bench.inbound(line="BREW /users/1 HTTP/1.1").end(500)
    bench.inbound().end(0, failure=Failure("client_gone", ""))
    series = bench.stats.series
    assert {key: each.count for key, each in series.items()} == {
        ("inbound", "GET", "/users/{id}", "200"): 3,
        ("inbound", "_OTHER", "/users/{id}", "500"): 1,
        ("inbound", "GET", "/orders", "none"): 1,
    }
    assert series["inbound", "GET", "/users/{id}", "200"].total == pytest.approx(0.09)


def test_spans_that_differ_in_what_they_share_stay_apart() -> None:
    """Shapes are remembered; a remembered one must not stand for another request."""
    bench = Bench()
    seen = [
        bench.inbound("User-Agent: a").attributes(200),
        bench.inbound("User-Agent: b").attributes(200),
        bench.inbound("User-Agent: a").attributes(404),
        bench.inbound("User-Agent: a", host="other").attributes(200),
        bench.inbound("User-Agent: a", scheme="https").attributes(200),
        bench.inbound("User-Agent: a", line="GET /orders HTTP/1.0").attributes(200),
        bench.inbound("User-Agent: a").attributes(200),
    ]
    shared = ["user_agent.original", "http.response.status_code", "server.address", "url.scheme",
              "network.protocol.version"]  # fmt: skip
    assert [[each[key] for key in shared] for each in seen] == [
        ["a", 200, "cart", "http", "1.1"],
        ["b", 200, "cart", "http", "1.1"],
        ["a", 404, "cart", "http", "1.1"],
        ["a", 200, "other", "http", "1.1"],
        ["a", 200, "cart", "https", "1.1"],
        ["a", 200, "cart", "http", "1.0"],
        ["a", 200, "cart", "http", "1.1"],
    ]


def test_shapes_stay_right_when_there_are_more_than_are_remembered() -> None:
    bench = Bench()
    for number in range(2500):
        found = bench.inbound(f"User-Agent: agent {number}").attributes()
        assert found["user_agent.original"] == f"agent {number}"
