"""The recorded sets, and what is done to them before they are judged by."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtest.linking import data
from loadtest.linking.baselines import RULES, choose
from loadtest.linking.data import Row
from loadtest.linking.offline import judge

ROWS = [
    Row(0, 100, "a", "in", "GET /", "1", None, "t"),
    Row(10, 90, "a", "out", "b", "2", "1", "t"),
    Row(12, 88, "b", "in", "B", "3", None, "t"),
    Row(20, 30, "b", "out", "c", "4", "3", "t"),
    Row(22, 28, "c", "in", "C", "5", None, "t"),
    Row(1000, 1100, "a", "in", "GET /", "6", None, "u"),
    Row(1010, 1090, "a", "out", "b", "7", "6", "u"),
]


def test_compressed_traces_start_earlier_and_last_as_long() -> None:
    rows = data.compressed(ROWS, 4)
    assert [row.start_us for row in rows] == [0, 10, 12, 20, 22, 250, 260]
    assert [row.end_us - row.start_us for row in rows] == [
        row.end_us - row.start_us for row in ROWS
    ]


def test_what_a_skipped_call_caused_is_gone_too() -> None:
    assert [row.span for row in data.with_skips(ROWS, 1.0, seed=1)] == ["1", "6"]
    assert data.with_skips(ROWS, 0.0, seed=1) == ROWS
    assert data.with_skips(ROWS, 0.5, seed=7) == data.with_skips(ROWS, 0.5, seed=7)


def test_the_truth_is_split_off() -> None:
    assert {(row.caused_by, row.trace) for row in data.without_truth(ROWS)} == {(None, "")}


def test_spans_that_come_twice_are_numbered_anew(tmp_path: Path) -> None:
    file = tmp_path / "set.csv"
    lines = [",".join(data.COLUMNS)]
    lines += [f"{t}0,{t}9,a,in,r,1,,{t}\n{t}1,{t}8,a,out,b,2,1,{t}" for t in (1, 2)]
    file.write_text("\n".join(lines))
    rows = data.load(file)
    assert len({row.span for row in rows}) == 4
    assert [rows[1].caused_by, rows[3].caused_by] == [rows[0].span, rows[2].span]


def test_missing_data_is_told(tmp_path: Path) -> None:
    with pytest.raises(data.MissingDataError, match=data.VARIABLE):
        data.sets(tmp_path)


def test_baselines() -> None:
    rows = [
        Row(0, 100, "a", "in", "r", "1", None, ""),
        Row(5, 60, "a", "in", "r", "2", None, ""),
        Row(20, 61, "a", "out", "b", "3", None, ""),
    ]
    found = {name: choose(rows, rule, offline=False)["3"] for name, rule in RULES.items()}
    assert found == {"first come": "1", "last come": "2", "nearest": "2", "only one": None}
    assert choose(rows, RULES["last come"], offline=True)["3"] == "1"


def test_a_trace_is_right_if_all_its_calls_are() -> None:
    score = judge(ROWS, {"2": ("1", 0.99), "4": (None, 0.6), "7": ("6", 0.5)})
    assert (score.coverage, score.precision, score.traces) == (1 / 3, 1.0, 0.5)
