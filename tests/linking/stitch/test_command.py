"""``meshproxy stitch``: what goes in and what comes out."""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from meshproxy.linking.stitch import OUT
from meshproxy.stitching import command
from tests.linking.stitch.generate import MS, chain, record

HEADER = "start_us,end_us,service,direction,operation,span,caused_by,trace,note"
ADDED = ("parent", "evidence", "confidence", "old_parent")


def stitch(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    command.add_parser(parser.add_subparsers())
    return command.run(parser.parse_args(["stitch", *arguments]))


def table(*, truth: bool, header: str = HEADER) -> str:
    recorded = record(lambda rng: chain(rng, "a", "b"), requests=60)
    lines = [header]
    for o in recorded.observations:
        cause = recorded.truth.get(o.key) if truth else ""
        times = f"{o.start_ns // 1000},{o.end_ns // 1000}"
        trace = (cause or o.key) if truth else ""
        lines.append(
            f'{times},shop,{o.direction},{o.operation},{o.key},{cause or ""},{trace},"1, 2"'
        )
    return "\n".join(lines) + "\n"


def columns(text: str, *names: str) -> list[tuple[str, ...]]:
    return [tuple(row[name] for name in names) for row in csv.DictReader(io.StringIO(text))]


def test_csv_keeps_what_it_has_and_gains_parents(tmp_path: Path) -> None:
    file, out = tmp_path / "in", tmp_path / "out"
    file.write_text(table(truth=True))
    assert stitch(str(file), "-o", str(out)) == 0
    text = out.read_text()
    assert text.splitlines()[0] == f"{HEADER},{','.join(ADDED)}"
    before = HEADER.split(",")
    assert columns(text, *before) == columns(file.read_text(), *before)
    for direction, cause, parent, evidence, confidence, old in columns(
        text, "direction", "caused_by", *ADDED
    ):
        assert old == cause
        if direction == OUT:
            assert parent
            assert evidence in ("only_in_flight", "call_graph", "timing")
            assert 0 < float(confidence) <= 1
        else:
            assert parent == evidence == confidence == ""


def test_the_truth_is_never_looked_at(tmp_path: Path, capfdbinary: Any) -> None:
    found = []
    for truth in (True, False):
        file = tmp_path / "in"
        file.write_text(table(truth=truth))
        assert stitch(str(file)) == 0
        text = capfdbinary.readouterr().out.decode()
        found.append(columns(text, "span", *ADDED[:3]))
    assert found[0] == found[1]


def test_gzip_and_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed, plain, out = tmp_path / "a", tmp_path / "b.gz", tmp_path / "c"
    text = table(truth=True)
    packed.write_bytes(gzip.compress(text.encode()))
    plain.write_text(text)
    results = []
    for name in (str(packed), str(plain), "-"):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
        assert stitch(name, "-o", str(out)) == 0
        results.append(out.read_text())
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("what is this?\n", "in:1: neither OTLP JSON lines nor CSV: no column start_us"),
        (f"{HEADER}\n1,x,s,in,r,1,,,\n", 'in:2: end_us is no whole number: "x"'),
        (f"{HEADER}\n1,2,s,up,r,1,,,\n", 'in:2: direction is neither in nor out: "up"'),
        (f"{HEADER}\n1,2\n1,2,s,in,r,1,,,\n", "in:2: 2 columns where the first line has 9"),
        ('{"resourceSpans": []}\n{"resourceSpans": 1}\n', "in:2: no OTLP JSON line"),
        ('{"resourceSpans": []}\nnonsense\n{}\n', "in:2: no OTLP JSON line"),
    ],
)
def test_bad_input_is_named(tmp_path: Path, capsys: Any, text: str, message: str) -> None:
    file, out = tmp_path / "in", tmp_path / "out"
    file.write_text(text)
    assert stitch(str(file), "-o", str(out)) == 1
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [file]


def test_a_file_that_is_not_there(tmp_path: Path, capsys: Any) -> None:
    assert stitch(str(tmp_path / "none")) == 1
    assert "none: No such file" in capsys.readouterr().err


def test_nothing_in_nothing_out(tmp_path: Path) -> None:
    file, out = tmp_path / "in", tmp_path / "out"
    file.touch()
    assert stitch(str(file), "-o", str(out)) == 0
    assert out.read_bytes() == b""


def test_a_torn_last_row_is_skipped(tmp_path: Path, capsys: Any) -> None:
    file, out = tmp_path / "in", tmp_path / "out"
    file.write_text(table(truth=False) + "17,1")
    assert stitch(str(file), "-o", str(out)) == 0
    assert "the last line is not complete: skipped" in capsys.readouterr().err


# OTLP


def span(
    service: str, trace: str, number: int, parent: int, kind: int, start: int, end: int, **more: str
) -> bytes:
    """One line: one span, with a field that nobody knows."""
    attributes = [
        {"key": k.replace("_", ".", 1), "value": {"stringValue": v}} for k, v in more.items()
    ]
    body: dict[str, Any] = {
        "traceId": trace * 32,
        "spanId": f"{number:016x}",
        "name": "GET /",
        "kind": kind,
        "startTimeUnixNano": str(start * MS),
        "endTimeUnixNano": str(end * MS),
        "attributes": attributes,
        "later": {"x": [1.5, None]},
    }
    if parent:
        body["parentSpanId"] = f"{parent:016x}"
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": service}}]}
    request = {"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": [body]}], "s": 1}]}
    return json.dumps(request).encode() + b"\n"


BROKEN = [
    span("front", "a", 1, 0, 2, 0, 100, meshproxy_propagation="root"),
    span("front", "b", 2, 0, 3, 10, 90, meshproxy_propagation="unlinked", meshproxy_gap="dropped"),
    span("back", "b", 3, 2, 2, 11, 89, meshproxy_propagation="ok"),
    span("back", "c", 4, 0, 3, 20, 80, meshproxy_propagation="ambiguous"),
    span("deep", "c", 5, 4, 2, 21, 79, meshproxy_propagation="ok"),
    span("deep", "c", 6, 77, 1, 30, 40),
    span("other", "d", 7, 0, 2, 0, 100),
]


def read(path: Path) -> list[dict[str, Any]]:
    requests = [json.loads(line) for line in path.read_bytes().splitlines()]
    return [r["resourceSpans"][0]["scopeSpans"][0]["spans"][0] for r in requests]


def attributes(found: dict[str, Any]) -> dict[str, Any]:
    return {a["key"]: next(iter(a["value"].values())) for a in found["attributes"]}


def test_whole_subtrees_move_to_their_trace(tmp_path: Path) -> None:
    file, out = tmp_path / "in", tmp_path / "out"
    file.write_bytes(b"".join(BROKEN))
    assert stitch(str(file), "-o", str(out), "--threshold", "0.5") == 0
    spans = read(out)
    assert [s["traceId"][0] for s in spans] == list("aaaaaad")
    parents = [int(s.get("parentSpanId", "0"), 16) for s in spans]
    assert parents == [0, 1, 2, 3, 4, 77, 0]
    call = attributes(spans[3])
    assert call["meshproxy.propagation"] == "repaired"
    assert call["meshproxy.link.evidence"] == "only_in_flight"
    assert 0.5 <= call["meshproxy.link.confidence"] <= 1
    assert call["meshproxy.inbound.span_id"] == f"{3:016x}"
    olds = [attributes(s).get("meshproxy.link.old_trace_id", "-")[0] for s in spans]
    assert olds == ["-", "b", "b", "c", "c", "c", "-"]
    assert attributes(spans[1])["meshproxy.gap"] == "dropped"
    before = read(file)
    for old, new in zip(before, spans, strict=True):
        for key in ("spanId", "name", "later", "startTimeUnixNano"):
            assert new[key] == old[key]
    assert out.read_bytes().splitlines()[6] == BROKEN[6].strip()


def test_what_is_unsure_gets_links(tmp_path: Path) -> None:
    lines = [
        span("s", "a", 1, 0, 2, 0, 100),
        span("s", "b", 2, 0, 2, 0, 100),
        span("s", "c", 3, 0, 3, 10, 90, meshproxy_propagation="ambiguous"),
    ]
    file, out = tmp_path / "in", tmp_path / "out"
    file.write_bytes(b"".join(lines))
    assert stitch(str(file), "-o", str(out)) == 0
    call = read(out)[2]
    assert call["traceId"] == "c" * 32
    assert "parentSpanId" not in call
    assert attributes(call)["meshproxy.propagation"] == "ambiguous"
    assert {link["spanId"] for link in call["links"]} == {f"{1:016x}", f"{2:016x}"}
    assert [attributes(link)["link.rank"] for link in call["links"]] == ["1", "2"]
    assert attributes(call["links"][0])["link.evidence"] == "timing"
    assert attributes(call["links"][0])["link.confidence"] == pytest.approx(0.5, abs=0.05)


def test_linked_calls_and_those_of_others_stay_byte_by_byte(tmp_path: Path) -> None:
    lines = [
        span("s", "a", 1, 0, 2, 0, 100),
        span("s", "a", 2, 1, 3, 10, 20, meshproxy_propagation="repaired"),
        span("s", "e", 3, 9, 3, 10, 20, meshproxy_propagation="ok"),
        span("s", "f", 4, 0, 3, 10, 20),
        b'{"resourceMetrics": [1,  2]}\n',
        b"\n",
        b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"name": "no times"}]}]}]}\n',
        b'{"resourceSpans": [{"sco',
    ]
    file, out = tmp_path / "in", tmp_path / "out"
    file.write_bytes(b"".join(lines))
    assert stitch(str(file), "-o", str(out)) == 0
    assert out.read_bytes() == file.read_bytes()


def test_garbage_is_passed_on_if_asked(tmp_path: Path, capsys: Any) -> None:
    file, out = tmp_path / "in", tmp_path / "out"
    file.write_bytes(BROKEN[0] + b"garbage\n" + BROKEN[1])
    assert stitch(str(file), "-o", str(out), "--skip-bad-lines") == 0
    assert "in:2: no OTLP JSON line" in capsys.readouterr().err
    assert out.read_bytes().splitlines()[1] == b"garbage"


def test_a_circle_of_causes_is_not_made(tmp_path: Path) -> None:
    """A call and, below it in its trace, a request of the same service in which it seems to lie."""
    lines = [
        span("s", "a", 1, 2, 2, 0, 100),
        span("t", "a", 2, 3, 1, 0, 100),
        span("s", "a", 3, 0, 3, 10, 90, meshproxy_propagation="unlinked"),
    ]
    file, out = tmp_path / "in", tmp_path / "out"
    file.write_bytes(b"".join(lines))
    assert stitch(str(file), "-o", str(out), "--threshold", "0") == 0
    assert "parentSpanId" not in read(out)[2]
    assert read(out)[2]["links"]
