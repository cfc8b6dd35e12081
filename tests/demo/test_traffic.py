"""The demo judges its own trees strictly: it must not call a broken run a success."""

from __future__ import annotations

from dataclasses import replace

import pytest

from meshproxy.demo.traffic import Request, number_of, order_of, tree_problems, wrong_edges
from meshproxy.demo.tree import SpanRecord, Value
from meshproxy.trace.span import Kind

REQUEST = Request("/quote/7?x=1", hops=2, about="")


def whole(number: str = "7", trace_id: str = "t") -> list[SpanRecord]:
    path, url = f"/quote/{number}", f"http://127.0.0.1:4318/quotes/{number}"
    return [
        SpanRecord("a", trace_id, "1", "", "GET", Kind.SERVER, 0, 9, attributes={"url.path": path}),
        SpanRecord("a", trace_id, "2", "1", "GET", Kind.CLIENT, 1, 8, attributes={"url.full": url}),
        SpanRecord(
            "b", trace_id, "3", "2", "GET", Kind.SERVER, 2, 7, attributes={"url.path": path}
        ),
    ]


def shipped(number: str = "7", trace_id: str = "t") -> list[SpanRecord]:
    """A message of a whole tree, and what it causes."""
    key: dict[str, Value] = {"messaging.kafka.message.key": number}
    called: dict[str, Value] = {"url.full": f"http://127.0.0.1:4318/labels/{number}"}
    return [
        SpanRecord("b", trace_id, "4", "3", "send s", Kind.PRODUCER, 3, 4, attributes=key),
        SpanRecord("c", trace_id, "5", "4", "receive s", Kind.CONSUMER, 4, 4, attributes=key),
        SpanRecord("c", trace_id, "6", "5", "POST", Kind.CLIENT, 5, 6, attributes=called),
    ]


@pytest.mark.parametrize(
    ("url", "number"),
    [
        ("/a/12", "12"),
        ("/a/12?b=3", "12"),
        ("http://h:80/a/5", "5"),
        ("/a", ""),
        ("http://h:80", ""),
    ],
)
def test_the_order_number_ends_the_path(url: str, number: str) -> None:
    assert number_of(url) == number


def test_a_span_s_order_is_read_from_its_path_or_url() -> None:
    assert {order_of(span) for span in whole()} == {"7"}


def test_a_message_s_order_is_its_key() -> None:
    assert {order_of(span) for span in shipped()} == {"7"}


def test_a_whole_tree_is_no_problem_whatever_else_came_in() -> None:
    assert tree_problems([REQUEST], [*whole(), *whole("8", "u")]) == []


def test_messages_belong_to_the_tree_and_polls_do_not() -> None:
    poll: dict[str, Value] = {"messaging.operation.name": "poll"}
    apart = SpanRecord("c", "v", "9", "", "poll s", Kind.CLIENT, 0, 4, attributes=poll)
    spans = [*whole(), *shipped()[:2], apart]
    assert tree_problems([replace(REQUEST, hops=3)], spans) == []
    lost = [*whole(), *(replace(each, trace_id="u") for each in shipped()[:2]), apart]
    assert tree_problems([replace(REQUEST, hops=3)], lost) == [
        "/quote/7?x=1: 2 trees, not 1",
        "/quote/7?x=1: parent missing: send s",
    ]


def test_a_missing_span_is_a_problem() -> None:
    assert tree_problems([REQUEST], whole()[:2]) == ["/quote/7?x=1: 2 spans came in, not 3"]


def test_a_call_with_a_trace_of_its_own_is_a_problem() -> None:
    server, client, callee = whole()
    apart = [server, replace(client, trace_id="u", parent_id=""), replace(callee, trace_id="u")]
    assert tree_problems([REQUEST], apart) == ["/quote/7?x=1: 2 trees, not 1"]


def test_a_root_whose_parent_never_came_is_a_problem() -> None:
    server, client, callee = whole()
    assert tree_problems([REQUEST], [replace(server, parent_id="9"), client, callee]) == [
        "/quote/7?x=1: parent missing: GET"
    ]


def test_another_request_s_span_in_the_trace_is_a_wrong_edge() -> None:
    stray = replace(whole("8")[2], span_id="4")
    assert wrong_edges([*whole(), stray]) == ["b SERVER of 8 hangs under a CLIENT of 7"]
    assert wrong_edges(whole()) == []


def test_another_request_s_message_or_call_for_it_is_a_wrong_edge() -> None:
    producer, consumer, call = shipped()
    assert wrong_edges([*whole(), producer, consumer, call]) == []
    assert wrong_edges([*whole("8"), producer]) == ["b PRODUCER of 7 hangs under b SERVER of 8"]
    assert wrong_edges([producer, consumer, shipped("8")[2]]) == [
        "c CLIENT of 8 hangs under c CONSUMER of 7"
    ]
