"""What is counted of requests."""

from __future__ import annotations

import pytest

from meshproxy.stats import BOUNDS, MAX_SERIES, OTHER, Series, Stats


@pytest.mark.parametrize(
    ("seconds", "bucket"),
    [(0.0, 0), (0.001, 0), (0.0011, 1), (30.0, len(BOUNDS) - 1), (31.0, len(BOUNDS))],
)
def test_a_duration_counts_up_to_and_with_its_bound(seconds: float, bucket: int) -> None:
    series = Series()
    series.observe(seconds)
    assert [index for index, count in enumerate(series.buckets) if count] == [bucket]
    assert (series.count, series.total) == (1, seconds)


def test_the_same_labels_give_the_same_series() -> None:
    stats = Stats()
    one = stats.requests("inbound", "GET", "/a", "200")
    assert stats.requests("inbound", "GET", "/a", "200") is one
    assert stats.requests("inbound", "GET", "/a", "500") is not one


def test_past_the_limit_routes_share_a_series() -> None:
    stats = Stats()
    for number in range(MAX_SERIES):
        stats.requests("inbound", "GET", f"/{number}", "200")
    for number in range(MAX_SERIES, 3 * MAX_SERIES):
        stats.requests("inbound", "GET", f"/{number}", "200").observe(0.1)
    assert len(stats.series) == MAX_SERIES + 1
    assert stats.series["inbound", "GET", OTHER, "200"].count == 2 * MAX_SERIES
    assert (
        stats.requests("inbound", "GET", "/0", "200") is stats.series["inbound", "GET", "/0", "200"]
    )
