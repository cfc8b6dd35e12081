"""The report of where chains break."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshproxy.linking.gaps import (
    ADVICE,
    LONGEST_NAME,
    MAX_EXAMPLES,
    MAX_ROWS,
    NOT_LINKED,
    OF_MESSAGES,
    OTHER,
    TELLING,
    UNKNOWN,
    Gap,
    GapReport,
    Occurrence,
)

SPECIAL = {Gap.DROPPED, Gap.RESTARTED, Gap.STALE, Gap.UNSAMPLED}
"""Kinds whose pattern has a meaning of its own."""

START = 1_700_000_000_000_000_000


def trace(number: int) -> bytes:
    return number.to_bytes(16, "big")


def occurrence(
    kind: Gap, number: int = 7, evidence: str = "none", carried: bytes = b""
) -> Occurrence:
    return Occurrence(kind, evidence, trace(number), START + number, carried)


def rows(report: GapReport) -> list[Any]:
    return report.rows("cart")


def report_of(*calls: tuple[str, str, Occurrence | None]) -> GapReport:
    report = GapReport()
    for route, destination, found in calls:
        report.call(route, destination, found)
    return report


def test_a_row_says_where_how_often_since_when_and_what_to_do() -> None:
    report = report_of(
        *[("GET /orders", "pricing", None)] * 3,
        ("GET /orders", "pricing", occurrence(Gap.DROPPED, 1, "only_in_flight")),
        ("GET /orders", "pricing", occurrence(Gap.DROPPED, 2)),
    )
    assert report.rows("cart") == [
        {
            "service": "cart",
            "route": "GET /orders",
            "destination": "pricing",
            "kind": "dropped",
            "count": 2,
            "calls": 5,
            "share": 0.4,
            "evidence": {"only_in_flight": 1, "none": 1},
            "example_trace_ids": [trace(2).hex(), trace(1).hex()],
            "first_seen_ns": START + 1,
            "last_seen_ns": START + 2,
            "advice": ADVICE[Gap.DROPPED],
        }
    ]


def test_the_service_has_the_name_that_it_has_when_somebody_asks() -> None:
    report = report_of(("GET /", "pricing", occurrence(Gap.STALE)))
    assert [report.rows(name)[0]["service"] for name in ("cart", "basket")] == ["cart", "basket"]


def test_the_most_frequent_comes_first() -> None:
    report = GapReport()
    for kind, count in ((Gap.STALE, 1), (Gap.DROPPED, 3), (Gap.FORMAT, 2)):
        for _ in range(count):
            report.call("GET /", "pricing", occurrence(kind))
    assert [row["kind"] for row in rows(report)] == ["dropped", "format", "stale"]


def test_gaps_are_counted_by_kind_route_and_destination() -> None:
    report = report_of(
        ("GET /a", "one", occurrence(Gap.STALE)),
        ("GET /b", "two", occurrence(Gap.STALE)),
        ("", "two", occurrence(Gap.STALE)),
        ("GET /b", "two", occurrence(Gap.DROPPED)),
        ("GET /b", "two", None),
        ("GET /b", "two", occurrence(Gap.STALE)),
    )
    assert report.counts() == {
        (Gap.STALE, "GET /a", "one"): 1,
        (Gap.STALE, "GET /b", "two"): 2,
        (Gap.STALE, UNKNOWN, "two"): 1,
        (Gap.DROPPED, "GET /b", "two"): 1,
    }


def test_calls_without_a_gap_make_no_row() -> None:
    report = report_of(("GET /", "pricing", None), ("", "pricing", None))
    assert (rows(report), report.counts()) == ([], {})


@pytest.mark.parametrize("kind", Gap)
def test_every_kind_has_a_row_and_advice_of_its_own(kind: Gap) -> None:
    """A consumed message too: its route is what consumes it, its destination the topic."""
    (row,) = rows(report_of(("process orders", "kafka/orders", occurrence(kind))))
    assert (row["kind"], row["advice"]) == (kind.value, ADVICE[kind])
    assert len(set(ADVICE.values())) == len(Gap)


def test_the_advice_for_a_message_that_is_sent_speaks_of_its_headers() -> None:
    found = occurrence(Gap.DROPPED)
    found.message = True
    (row,) = rows(report_of(("POST /orders", "shipments", found)))
    assert row["advice"] == OF_MESSAGES[Gap.DROPPED]


def test_many_messages_are_counted_at_once() -> None:
    report = GapReport()
    report.call("billing", "orders", occurrence(Gap.CONSUMER_LOST), 30)
    report.call("billing", "orders", None, 70)
    (row,) = rows(report)
    assert (row["count"], row["calls"], row["share"]) == (30, 100, 0.3)


class TestExamples:
    def test_the_newest_first_and_not_too_many(self) -> None:
        report = GapReport()
        for number in range(1, 20):
            report.call("GET /", "pricing", occurrence(Gap.STALE, number))
        newest = [trace(number).hex() for number in range(19, 19 - MAX_EXAMPLES, -1)]
        assert rows(report)[0]["example_trace_ids"] == newest

    def test_each_trace_once(self) -> None:
        report = GapReport()
        for number in (1, 2, 1, 1):
            report.call("GET /", "pricing", occurrence(Gap.STALE, number))
        assert rows(report)[0]["example_trace_ids"] == [trace(1).hex(), trace(2).hex()]


class TestUnknownRoutes:
    def test_the_share_is_of_all_calls_to_the_destination(self) -> None:
        """Right calls are linked, so among those that are not there are none but broken ones."""
        report = report_of(
            *[("GET /a", "pricing", None)] * 5,
            *[("GET /b", "pricing", None)] * 2,
            *[("", "pricing", occurrence(Gap.DROPPED))] * 3,
            *[("GET /a", "stock", None)] * 90,
        )
        (row,) = rows(report)
        assert (row["route"], row["count"], row["calls"]) == (UNKNOWN, 3, 10)
        assert row["share"] == 0.3
        assert NOT_LINKED in row["advice"]


class TestAdvice:
    def advice(self, *calls: tuple[str, str, Occurrence | None], kind: Gap) -> str:
        found = [row for row in rows(report_of(*calls)) if row["kind"] == kind]
        return str(found[-1]["advice"])

    def broken(
        self, kind: Gap, count: int = TELLING, same: bool = True, route: str = "GET /"
    ) -> list[tuple[str, str, Occurrence | None]]:
        return [
            (route, "pricing", occurrence(kind, each, carried=trace(0 if same else each)))
            for each in range(count)
        ]

    right: tuple[tuple[str, str, None]] = (("GET /", "pricing", None),)

    def test_always_dropped_is_a_client_that_knows_nothing(self) -> None:
        advice = self.advice(*self.broken(Gap.DROPPED), kind=Gap.DROPPED)
        assert advice.startswith(ADVICE[Gap.DROPPED])
        assert "No call here carries" in advice

    def test_sometimes_dropped_is_a_hop_or_a_second_client(self) -> None:
        advice = self.advice(*self.broken(Gap.DROPPED), *self.right, kind=Gap.DROPPED)
        assert "a second client, or a hop to a thread pool" in advice
        assert "No call" not in advice

    def test_a_few_calls_say_nothing_of_how_often(self) -> None:
        few = self.broken(Gap.DROPPED, TELLING - 1)
        for calls in (few, [*few, *self.right]):
            assert self.advice(*calls, kind=Gap.DROPPED) == ADVICE[Gap.DROPPED]

    def test_calls_that_break_in_other_ways_are_not_called_right(self) -> None:
        calls = [*self.broken(Gap.DROPPED), *self.broken(Gap.MALFORMED)]
        for kind in (Gap.DROPPED, Gap.MALFORMED):
            assert self.advice(*calls, kind=kind) == ADVICE[kind]

    def test_calls_without_a_route_are_not_called_right(self) -> None:
        calls = [*self.broken(Gap.DROPPED, route=""), ("", "pricing", None)]
        assert self.advice(*calls, kind=Gap.DROPPED) == f"{ADVICE[Gap.DROPPED]} {NOT_LINKED}"

    def test_without_a_route_right_calls_of_other_routes_tell(self) -> None:
        calls = [*self.broken(Gap.DROPPED, route=""), *self.right]
        assert "Some calls here do carry it" in self.advice(*calls, kind=Gap.DROPPED)

    def test_always_the_same_old_context_is_kept_in_a_global(self) -> None:
        advice = self.advice(*self.broken(Gap.STALE), kind=Gap.STALE)
        assert "kept in a global" in advice
        assert "pooled threads, workers" not in advice

    def test_changing_old_contexts_are_kept_by_a_pool(self) -> None:
        advice = self.advice(*self.broken(Gap.STALE, same=False), kind=Gap.STALE)
        assert "pooled threads, workers or connections" in advice
        assert "one and the same" not in advice

    def test_one_foreign_trace_for_all_was_made_once(self) -> None:
        advice = self.advice(*self.broken(Gap.RESTARTED), kind=Gap.RESTARTED)
        assert "one and the same foreign trace" in advice

    def test_a_new_trace_for_each_call_is_the_client_library(self) -> None:
        advice = self.advice(*self.broken(Gap.RESTARTED, same=False), kind=Gap.RESTARTED)
        assert advice == ADVICE[Gap.RESTARTED]

    @pytest.mark.parametrize("kind", sorted(set(Gap) - SPECIAL))
    def test_any_other_kind_that_comes_and_goes_is_a_code_path(self, kind: Gap) -> None:
        advice = self.advice(*self.broken(kind), *self.right, kind=kind)
        assert "Other calls here are right: look for a second client or code path." in advice

    def test_sometimes_restarted_is_a_hop(self) -> None:
        broken = self.broken(Gap.RESTARTED, same=False)
        advice = self.advice(*broken, *self.right, kind=Gap.RESTARTED)
        assert "lost on a hop to a thread pool" in advice

    def test_a_sampler_that_decides_by_itself_and_one_that_is_off(self) -> None:
        broken = self.broken(Gap.UNSAMPLED)
        assert "switched off" in self.advice(*broken, kind=Gap.UNSAMPLED)
        sometimes = self.advice(*broken, *self.right, kind=Gap.UNSAMPLED)
        assert "decides by itself" in sometimes
        assert "switched off" not in sometimes


class TestBounds:
    def test_many_routes_lose_no_count(self) -> None:
        report = GapReport()
        for number in range(MAX_ROWS + 500):
            report.call(f"GET /{number}", "pricing", occurrence(Gap.STALE))
        found = rows(report)
        assert len(found) == MAX_ROWS + 1
        assert (found[0]["route"], found[0]["destination"]) == (OTHER, OTHER)
        assert found[0]["count"] == found[0]["calls"] == 500
        for kind in Gap:
            report.call("GET /new", "new", occurrence(kind))
            report.call("GET /1", "pricing", occurrence(kind))
        assert len(rows(report)) <= MAX_ROWS + len(Gap)
        assert sum(report.counts().values()) == MAX_ROWS + 500 + 2 * len(Gap)

    def test_right_calls_to_many_places_do_not_seem_broken(self) -> None:
        report = GapReport()
        for number in range(MAX_ROWS + 90):
            report.call("GET /", f"10.0.0.1:{number}")
        for _ in range(10):
            report.call("GET /", "late", occurrence(Gap.DROPPED))
        (row,) = rows(report)
        assert (row["route"], row["destination"], row["share"]) == (OTHER, OTHER, 0.1)

    def test_long_names_are_cut(self) -> None:
        report = GapReport()
        for end in ("a", "b"):
            report.call("GET /" + "x" * 5000 + end, "y" * 5000 + end, occurrence(Gap.STALE))
        (row,) = rows(report)
        assert (len(row["route"]), len(row["destination"])) == (LONGEST_NAME, LONGEST_NAME)
        assert row["count"] == 2

    @given(
        st.lists(
            st.tuples(
                st.sampled_from(["", "GET /a", "GET /b"]),
                st.sampled_from(["one", "two"]),
                st.none() | st.sampled_from(Gap),
            )
        )
    )
    def test_whatever_is_called(self, calls: list[tuple[str, str, Gap | None]]) -> None:
        """Every gap is in exactly one row; no share is above one."""
        report = GapReport()
        for number, (route, destination, kind) in enumerate(calls):
            found = None if kind is None else occurrence(kind, number)
            report.call(route, destination, found)
        broken = [kind for _, _, kind in calls if kind is not None]
        assert sum(row["count"] for row in rows(report)) == len(broken)
        assert sum(report.counts().values()) == len(broken)
        for row in rows(report):
            assert 0 < row["share"] <= 1
            assert row["count"] <= row["calls"] <= len(calls)
            assert sum(row["evidence"].values()) == row["count"]
            assert row["first_seen_ns"] <= row["last_seen_ns"]
