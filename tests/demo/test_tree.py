"""Spans become trees, and trees become text that says what was mended and what was left open."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from meshproxy.demo.paint import Palette
from meshproxy.demo.tree import (
    CYCLE,
    MISSING_PARENT,
    WIDTH,
    Key,
    LinkRecord,
    Node,
    SpanRecord,
    Value,
    build,
    index,
    mended_by_evidence,
    render,
)
from meshproxy.trace.span import Kind

PLAIN = Palette(enabled=False)


def span(
    span_id: str,
    parent_id: str = "",
    start: int = 0,
    *,
    trace_id: str = "t",
    service: str = "orders",
    name: str = "GET /orders/{id}",
    kind: Kind = Kind.SERVER,
    error: bool = False,
    links: tuple[LinkRecord, ...] = (),
    **attributes: Value,
) -> SpanRecord:
    named = {key.replace("__", "."): value for key, value in attributes.items()}
    return SpanRecord(
        service,
        trace_id,
        span_id,
        parent_id,
        name,
        kind,
        start,
        start + 5_000_000,
        error,
        named,
        links,
    )


def shape(node: Node) -> object:
    return (node.span.span_id, [shape(child) for child in node.children])


def keys(node: Node) -> list[Key]:
    return [node.span.key, *(key for child in node.children for key in keys(child))]


def text(spans: list[SpanRecord], palette: Palette = PLAIN) -> list[str]:
    return [line for root in build(spans) for line in render(root, index(spans), palette)]


class TestBuilding:
    def test_children_stand_under_their_parent_in_the_order_of_their_start(self) -> None:
        spans = [
            span("late", "root", 3),
            span("root"),
            span("early", "root", 2),
            span("x", "late", 4),
        ]
        assert [shape(root) for root in build(spans)] == [
            ("root", [("early", []), ("late", [("x", [])])])
        ]

    def test_the_same_span_id_in_two_traces_is_two_spans(self) -> None:
        spans = [
            span("a", trace_id="t1"),
            span("b", "a", 1, trace_id="t1"),
            span("a", start=2, trace_id="t2"),
        ]
        assert [shape(root) for root in build(spans)] == [("a", [("b", [])]), ("a", [])]

    def test_a_span_that_was_sent_twice_stands_once(self) -> None:
        assert [shape(root) for root in build([span("a"), span("b", "a"), span("b", "a")])] == [
            ("a", [("b", [])])
        ]

    def test_a_span_whose_parent_is_missing_is_a_root_that_says_so(self) -> None:
        (root,) = build([span("orphan", "gone"), span("child", "orphan", 1)])
        assert shape(root) == ("orphan", [("child", [])])
        assert root.flaw == MISSING_PARENT

    def test_a_true_root_has_no_flaw(self) -> None:
        (root,) = build([span("root")])
        assert root.flaw == ""

    def test_a_cycle_is_cut_at_its_earliest_span_even_if_a_span_below_is_earlier(self) -> None:
        spans = [span("a", "c", 1), span("b", "a", 2), span("c", "b", 3), span("below", "b", 0)]
        (root,) = build(spans)
        assert shape(root) == ("a", [("b", [("below", []), ("c", [])])])
        assert root.flaw == CYCLE

    def test_a_span_that_is_its_own_parent_is_cut_off(self) -> None:
        (root,) = build([span("a", "a")])
        assert (shape(root), root.flaw) == (("a", []), CYCLE)

    @given(
        st.lists(st.tuples(st.integers(0, 7), st.integers(-1, 9), st.integers(0, 5)), max_size=20)
    )
    def test_every_span_stands_in_exactly_one_place(
        self, edges: list[tuple[int, int, int]]
    ) -> None:
        spans = [span(str(a), "" if b < 0 else str(b), start) for a, b, start in edges]
        placed = [key for root in build(spans) for key in keys(root)]
        assert sorted(placed) == sorted(index(spans))


class TestPrinting:
    def test_a_tree_shows_service_kind_name_status_and_duration(self) -> None:
        lines = text(
            [
                span("a", http__response__status_code=200),
                span("b", "a", 1, kind=Kind.CLIENT, name="GET /stock/{id}"),
                span("c", "b", 2, service="inventory", name="GET /stock/{id}"),
                span("d", "a", 3, kind=Kind.CLIENT, name="GET /prices/{id}"),
            ]
        )
        assert [line.split("  ")[1].rstrip() for line in lines] == [
            "orders SERVER GET /orders/{id}",
            "├─ orders CLIENT GET /stock/{id}",
            "│ └─ inventory SERVER GET /stock/{id}",
            "└─ orders CLIENT GET /prices/{id}",
        ]
        assert lines[0].split()[-3:] == ["200", "5.0", "ms"]

    def test_a_mended_edge_is_marked_with_evidence_and_confidence(self) -> None:
        mended = span(
            "b",
            "a",
            1,
            kind=Kind.CLIENT,
            meshproxy__propagation="repaired",
            meshproxy__link__evidence="only_in_flight",
            meshproxy__link__confidence=0.99,
        )
        line = text([span("a"), mended])[1]
        assert line.startswith("  └~ orders CLIENT")
        assert line.endswith("~ only_in_flight 0.99")

    def test_an_edge_that_needed_no_mending_is_not_marked(self) -> None:
        lines = text([span("a"), span("b", "a", 1, meshproxy__propagation="ok")])
        assert "~" not in "".join(lines)

    def test_an_abstained_call_lists_its_candidates_known_or_not(self) -> None:
        known = span("k", trace_id="t9", service="gateway", url__path="/checkout/7")
        call = span(
            "c",
            start=1,
            kind=Kind.CLIENT,
            meshproxy__propagation="ambiguous",
            links=(
                LinkRecord("t9", "k", {"meshproxy.link.confidence": 0.5}),
                LinkRecord("t8", "lost"),
            ),
        )
        _, line, first, second = text([known, call])
        assert line.endswith("? ambiguous, 2 candidates")
        assert first.strip() == "? gateway SERVER GET /checkout/7 0.5"
        assert second.strip() == "? a span not received, lost"

    def test_errors_and_resends_are_told(self) -> None:
        refused = span("a", error=True, error__type="ConnectionRefusedError")
        again = span("b", start=1, http__response__status_code=200, http__request__resend_count=1)
        first, second = text([refused, again])
        assert "ConnectionRe…" in first
        assert "200 resend 1" in second
        assert "500 error" in text([span("c", error=True, http__response__status_code=500)])[0]

    def test_a_message_is_marked_as_one(self) -> None:
        sent = {"messaging__system": "kafka", "messaging__kafka__message__key": "7"}
        producer = span("p", kind=Kind.PRODUCER, name="send s", **sent)
        consumer = span("c", "p", 1, kind=Kind.CONSUMER, name="receive s", **sent)
        refused = span("r", start=2, error=True, error__type="timeout", **sent)
        call = span(
            "a",
            start=3,
            meshproxy__propagation="ambiguous",
            links=(LinkRecord("t", "c"),),
        )
        lines = text([producer, consumer, refused, call])
        assert [line[49:62].strip() for line in lines[:3]] == ["kafka", "kafka", "timeout error"]
        assert lines[4].strip() == "? orders CONSUMER receive s 7"

    def test_a_missing_parent_is_told(self) -> None:
        assert text([span("a", "gone")])[0].endswith(MISSING_PARENT)

    @given(
        st.lists(
            st.text(st.characters(codec="ascii", categories=["L", "N"]), max_size=120), max_size=9
        )
    )
    def test_no_line_is_wider_than_the_page(self, names: list[str]) -> None:
        chain = [
            span(
                str(depth),
                str(depth - 1) if depth else "",
                depth,
                name=name,
                service=name,
                meshproxy__propagation=("repaired", "ambiguous", "ok")[depth % 3],
                meshproxy__link__evidence=name,
                meshproxy__link__confidence=0.123456789,
                links=(LinkRecord("t", "0"),),
            )
            for depth, name in enumerate(names)
        ]
        assert all(len(line) <= WIDTH for line in text(chain))

    def test_colour_changes_nothing_but_colour(self) -> None:
        spans = [span("a", error=True), span("b", "gone", meshproxy__propagation="repaired")]
        coloured = text(spans, Palette(enabled=True))
        assert any("\033[" in line for line in coloured)
        for code in ("31", "32", "33", "0"):
            coloured = [line.replace(f"\033[{code}m", "") for line in coloured]
        assert [line.rstrip() for line in coloured] == [line.rstrip() for line in text(spans)]


def test_mended_edges_are_counted_by_evidence_most_first() -> None:
    spans = [
        span(str(number), meshproxy__propagation=propagation, meshproxy__link__evidence=evidence)
        for number, (propagation, evidence) in enumerate(
            [("repaired", "b"), ("repaired", "a"), ("repaired", "a"), ("ok", "traceparent")]
        )
    ]
    assert list(mended_by_evidence(spans).items()) == [("a", 2), ("b", 1)]
