"""What a client sends without measure does not fill the memory by way of spans."""

from __future__ import annotations

from filters.http.attributes import LONGEST_NAME, LONGEST_TARGET
from tests.filters.bench import Bench

LONG = "a" * 50_000


def test_long_names_are_cut() -> None:
    bench = Bench()
    message = bench.inbound(f"User-Agent: {LONG}", f"X-Forwarded-For: {LONG}")
    found = message.attributes()
    assert found["user_agent.original"] == LONG[:LONGEST_NAME]
    assert found["client.address"] == LONG[:LONGEST_NAME]


def test_long_targets_are_cut() -> None:
    bench = Bench()
    found = bench.inbound(line=f"GET /{LONG}?{LONG} HTTP/1.1").attributes()
    assert found["url.path"] == f"/{LONG}"[:LONGEST_TARGET]
    assert found["url.query"] == LONG[:LONGEST_TARGET]
    assert found["http.route"] == "/{id}"


def test_long_targets_of_calls_are_cut() -> None:
    bench = Bench()
    found = bench.outbound(line=f"GET /x?{LONG} HTTP/1.1").attributes()
    assert len(str(found["url.full"])) < LONGEST_TARGET + 100
