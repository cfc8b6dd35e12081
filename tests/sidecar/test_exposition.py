"""What /metrics says is read with the parser of the official Python client."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families as parse

from meshproxy.sidecar.exposition import Exposition

AWKWARD = 'a"b\\c\nd é'


def test_counters_and_gauges() -> None:
    page = Exposition()
    page.counter("made", "Things made.", ("kind",), [((AWKWARD,), 3), (("x",), 0)])
    page.gauge("open", "Things open.", (), [((), 2.5)])
    made, opened = parse(page.text().decode())
    assert (made.name, made.type, made.documentation) == ("made", "counter", "Things made.")
    assert [(each.name, each.labels, each.value) for each in made.samples] == [
        ("made_total", {"kind": AWKWARD}, 3),
        ("made_total", {"kind": "x"}, 0),
    ]
    assert [(each.labels, each.value) for each in opened.samples] == [({}, 2.5)]


def test_histograms_are_cumulative() -> None:
    page = Exposition()
    page.histogram("took", "Time.", ("route",), (0.1, 1.0), [(("/",), [2, 0, 1], 7.5)])
    (took,) = parse(page.text().decode())
    assert took.type == "histogram"
    assert [(each.name, each.labels.get("le"), each.value) for each in took.samples] == [
        ("took_bucket", "0.1", 2),
        ("took_bucket", "1", 2),
        ("took_bucket", "+Inf", 3),
        ("took_sum", None, 7.5),
        ("took_count", None, 3),
    ]


def test_a_family_without_samples_is_announced() -> None:
    page = Exposition()
    page.counter("none_yet", "Nothing.", ("kind",), [])
    (family,) = parse(page.text().decode())
    assert family.samples == []


def test_a_lone_surrogate_does_not_break_the_page() -> None:
    page = Exposition()
    page.gauge("odd", "Odd.", ("name",), [(("\udcff",), 1)])
    (family,) = parse(page.text().decode())
    assert family.samples[0].value == 1
