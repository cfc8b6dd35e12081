"""The report of where chains break."""

from __future__ import annotations

from meshproxy.linking.gaps import ADVICE, MAX_ROWS, OTHER, Gap, GapReport

TRACE = bytes(15) + b"\x07"


def test_a_row_says_where_how_often_and_what_to_do() -> None:
    report = GapReport("cart")
    for _ in range(5):
        report.call("GET /orders", "pricing")
    report.gap("GET /orders", "pricing", Gap.DROPPED, "only_in_flight", bytes(15) + b"\x01")
    report.gap("GET /orders", "pricing", Gap.DROPPED, "none", TRACE)
    assert report.rows() == [
        {
            "service": "cart",
            "route": "GET /orders",
            "destination": "pricing",
            "kind": "dropped",
            "count": 2,
            "calls": 5,
            "evidence": {"only_in_flight": 1, "none": 1},
            "example_trace_id": TRACE.hex(),
            "advice": ADVICE[Gap.DROPPED],
        }
    ]


def test_the_most_frequent_comes_first() -> None:
    report = GapReport("cart")
    for kind, count in ((Gap.STALE, 1), (Gap.DROPPED, 3), (Gap.FORMAT, 2)):
        for _ in range(count):
            report.gap("GET /", "pricing", kind, "none", TRACE)
    assert [row["kind"] for row in report.rows()] == ["dropped", "format", "stale"]


def test_kinds_are_counted_over_all_places() -> None:
    report = GapReport("cart")
    report.gap("GET /a", "one", Gap.STALE, "none", TRACE)
    report.gap("GET /b", "two", Gap.STALE, "none", TRACE)
    counts = report.counts()
    assert counts[Gap.STALE] == 2
    assert set(counts) == set(Gap), "also those that did not happen"
    assert sum(counts.values()) == 2


def test_calls_without_a_gap_make_no_row() -> None:
    report = GapReport("cart")
    report.call("GET /", "pricing")
    assert report.rows() == []


def test_the_report_is_bounded_and_loses_no_count() -> None:
    report = GapReport("cart")
    for number in range(MAX_ROWS + 500):
        report.call(f"GET /{number}", "pricing")
        report.gap(f"GET /{number}", "pricing", Gap.STALE, "none", TRACE)
    rows = report.rows()
    assert len(rows) == MAX_ROWS + 1
    assert (rows[0]["route"], rows[0]["destination"]) == (OTHER, OTHER)
    assert rows[0]["count"] == rows[0]["calls"] == 500
    assert report.counts()[Gap.STALE] == MAX_ROWS + 500
    for kind in Gap:
        report.gap("GET /new", "new", kind, "none", TRACE)
    assert len(report.rows()) <= MAX_ROWS + len(Gap)
