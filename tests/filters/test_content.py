"""What of an HTTP message counts as content, and what does not."""

from __future__ import annotations

import base64
import gzip
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filters.http import HttpTracing
from filters.http.content import PEEK, body_tokens, request_tokens, response_tokens
from meshproxy.linking.tokens import MOST_TOKENS, Tokens
from meshproxy.wire.fields import FieldTable
from meshproxy.wire.http1 import Request, Response, read_request, read_response

TOKENS = Tokens(b"0123456789abcdef")
NOW_NS = 1_760_000_000_000_000_000
UUID = "7f3d9a52-1c4e-4b8a-9f00-2a6c1d3e5b77"
OTHER = "1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed"
JSON = "Content-Type: application/json"


def table() -> FieldTable:
    return FieldTable(HttpTracing.marked, HttpTracing.prefixes, HttpTracing.fleeting)


def request(*lines: str, line: str = "POST / HTTP/1.1", length: int = 0) -> Request:
    head = [line, "Host: a", *lines, *([f"Content-Length: {length}"] if length else [])]
    return read_request("\r\n".join(head).encode("latin-1"), table(), 100)


def response(*lines: str) -> Response:
    head = "\r\n".join(["HTTP/1.1 201 Created", *lines])
    return read_response(head.encode(), table(), 100, b"POST")


def own(text: str) -> list[int]:
    return TOKENS.read(text.encode(), NOW_NS)


def users(text: str) -> list[int]:
    return TOKENS.read(text.encode(), NOW_NS, user=True)


def found(*lines: str, line: str = "POST / HTTP/1.1", body: bytes = b"") -> list[int]:
    return request_tokens(TOKENS, request(*lines, line=line, length=len(body)), body, NOW_NS)


@pytest.mark.parametrize(
    "target",
    [
        f"/orders/{UUID}/items",
        f"/orders?id={UUID}&expand=items",
        f"http://shop/orders/{UUID}",
        f"/orders/%7B{UUID}%7D",
        f"/orders?id=%22{UUID.replace('-', '%2D')}%22",
    ],
)
def test_path_and_query_are_read(target: str) -> None:
    assert found(line=f"GET {target} HTTP/1.1") == own(UUID)


@pytest.mark.parametrize("name", ["Idempotency-Key", "X-Order-Id", "X-Cart", "Reservation-Id"])
def test_fields_of_the_application_are_read(name: str) -> None:
    assert found(f"{name}: {UUID}") == own(UUID)


@pytest.mark.parametrize(
    "line",
    [
        f"Cookie: theme=dark; session={UUID}",
        f"X-Session-Id: {UUID}",
        f"X-Api-Key: {UUID}",
        f"X-Tenant-Id: {UUID}",
        f"Authorization: Bearer {UUID}",
    ],
)
def test_what_belongs_to_a_user_is_marked_as_such(line: str) -> None:
    assert found(line) == users(UUID)


@pytest.mark.parametrize(
    "line",
    [
        f"User-Agent: probe/{UUID}",
        f"X-Request-Id: {UUID}",
        f"X-Correlation-Id: {UUID}",
        "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "X-B3-TraceId: 4bf92f3577b34da6a3ce929d0e0e4736",
        "X-Amzn-Trace-Id: Root=1-67891233-abcdef012345678912345678",
        "X-Forwarded-For: 203.0.113.195",
        "X-Forwarded-Host: node-1234567",
        f"If-None-Match: {UUID}",
        "Date: Tue, 15 Nov 2024 12:45:26 GMT",
        "X-Client-Version: 20231105-1234567",
        "X-Request-Start: t=1460000123456",
    ],
)
def test_fields_of_transport_and_tracing_are_not_read(line: str) -> None:
    assert found(line) == []


def test_of_a_json_web_token_its_id_is_the_requests_and_its_subject_the_users() -> None:
    claims = json.dumps({"sub": "customer-8812345", "iat": 1760000000, "jti": UUID})
    payload = base64.urlsafe_b64encode(claims.encode()).rstrip(b"=").decode()
    tokens = found(f"Authorization: Bearer eyJhbGciOiJIUzI1NiJ9.{payload}.c2lnbmF0dXJlMTIzNDU2")
    assert set(own(UUID)) <= set(tokens)
    assert set(users("customer-8812345")) <= set(tokens)
    assert set(users(payload)) <= set(tokens)
    assert not set(own(payload)) & set(tokens)


@pytest.mark.parametrize("value", ["Bearer a.b", "Bearer a.!.c", "Bearer ..", "", "Bearer a.e30.c"])
def test_what_is_no_json_web_token_harms_nobody(value: str) -> None:
    assert found(f"Authorization: {value}", line=f"GET /{UUID} HTTP/1.1") == own(UUID)


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/json; charset=utf-8", f'{{"order": {{"id": "{UUID}"}}}}'),
        ("application/problem+json", f'["{UUID}"]'),
        ("application/x-www-form-urlencoded", f"a=b&id=%22{UUID}%22"),
        ("application/soap+xml", f"<order id='{UUID}'/>"),
        ("text/plain", UUID),
    ],
)
def test_bodies_of_text_are_read(kind: str, body: str) -> None:
    assert found(f"Content-Type: {kind}", body=body.encode()) == own(UUID)


def test_a_body_of_no_named_type_is_read() -> None:
    assert found(body=UUID.encode()) == own(UUID)


@pytest.mark.parametrize(
    "lines",
    [
        [JSON, "Content-Encoding: gzip"],
        ["Content-Encoding: br"],
        ["Content-Type: application/octet-stream"],
        ["Content-Type: multipart/form-data; boundary=json"],
        ["Content-Type: image/png"],
    ],
)
def test_bodies_that_are_no_plain_text_are_not_read(lines: list[str]) -> None:
    line = f"POST /{OTHER} HTTP/1.1"
    assert found(*lines, line=line, body=UUID.encode()) == own(OTHER)
    assert body_tokens(TOKENS, request(*lines, length=9), UUID.encode(), NOW_NS) == []


def test_a_body_that_comes_later_is_read_alike() -> None:
    body = f'{{"id": "{UUID}"}}'.encode()
    head = request(JSON, length=len(body))
    assert request_tokens(TOKENS, head, b"", NOW_NS) == []
    assert body_tokens(TOKENS, head, body, NOW_NS) == own(UUID)


def test_a_word_that_is_cut_off_with_the_body_is_no_token() -> None:
    body = f'{{"id": "{UUID}", "next": "{OTHER}"}}'.encode()
    head = request(JSON, length=len(body))
    assert request_tokens(TOKENS, head, body[:-10], NOW_NS) == own(UUID)
    long = b"x" * (PEEK - 10) + b" " + UUID.encode()
    assert found(JSON, line=f"POST /{OTHER} HTTP/1.1", body=long) == own(OTHER)


def test_of_a_message_only_so_much_is_read() -> None:
    body = json.dumps([f"{number:08x}{UUID[8:]}" for number in range(1000)]).encode()
    assert 0 < len(found(JSON, body=body)) <= PEEK // 36
    assert len(found(line=f"GET /{'7f' * 500_000} HTTP/1.1")) <= 1
    assert len(found(*(f"X-Id-{number}: {number:08}-a1b2" for number in range(90)))) == MOST_TOKENS


def test_an_answer_gives_its_location_its_fields_and_its_body() -> None:
    body = f'{{"total": 12, "id": "{UUID}"}}'.encode()
    head = response(JSON, f"Location: /orders/{OTHER}", "X-Shipment: SHP-991234", 'ETag: "123456"')
    assert set(response_tokens(TOKENS, head, body, NOW_NS)) == set(
        own(f"{UUID} {OTHER} SHP-991234")
    )


def test_cookies_that_an_answer_sets_are_not_read() -> None:
    assert response_tokens(TOKENS, response(f"Set-Cookie: session={UUID}"), b"", NOW_NS) == []


def test_a_call_that_repeats_a_token_elsewhere_has_the_same_token() -> None:
    came = found(JSON, body=f'{{"orderId": "{UUID.upper()}"}}'.encode())
    assert found(line=f"GET /stock?order={UUID} HTTP/1.1") == came
    assert found(f"X-Order-Id: {UUID.replace('-', '')}") == came


@given(
    st.binary(max_size=3000), st.sampled_from(["application/json", "text/plain", "a/urlencoded"])
)
def test_any_body_can_be_read(body: bytes, kind: str) -> None:
    for data in (body, gzip.compress(body)):
        tokens = found(f"Content-Type: {kind}", body=data)
        assert len(tokens) <= MOST_TOKENS
        assert tokens == found(f"Content-Type: {kind}", body=data)


@given(st.binary(max_size=300))
def test_any_credentials_can_be_read(payload: bytes) -> None:
    encoded = base64.urlsafe_b64encode(payload).decode()
    assert len(found(f"Authorization: Bearer a.{encoded}.c")) <= 2 * MOST_TOKENS
