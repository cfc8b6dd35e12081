"""W3C Trace Context over HTTP: header lines go in at the sidecar, and the service says what it got.

The cases follow those of the W3C's own test suite; where levels 1 and 2 differ, level 2 counts.
"""

from __future__ import annotations

import json
import re

import pytest

from tests.e2e.mesh import Mesh
from tests.support.raw import Peer

pytestmark = pytest.mark.asyncio(loop_scope="session")

TRACE, PARENT = "12345678901234567890123456789012", "1234567890123456"
GOOD = f"00-{TRACE}-{PARENT}-01"
VALID = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-0[0-3]").fullmatch


async def received(mesh: Mesh, *lines: str) -> dict[str, list[str]]:
    """Header fields as the service behind the sidecar receives them."""
    peer = await Peer.connect(mesh.c.inbound[1])
    head = "\r\n".join([f"GET /nothing/{mesh.number()} HTTP/1.1", "Host: c", *lines, "", ""])
    try:
        await peer.send(head.encode())
        status, _, body = await peer.answer()
    finally:
        await peer.close()
    assert status == 200, "a bad trace header never fails a request"
    found: dict[str, list[str]] = {}
    for name, value in json.loads(body):
        found.setdefault(name.lower(), []).append(value)
    (traceparent,) = found["traceparent"]
    assert VALID(traceparent)
    assert traceparent[36:52] != PARENT
    return found


def trace_of(found: dict[str, list[str]]) -> str:
    return found["traceparent"][0][3:35]


def members(found: dict[str, list[str]]) -> list[str]:
    """The members of tracestate, less our own."""
    (value,) = found.get("tracestate", [""])
    return [member for member in value.split(",") if member and not member.startswith("ot=")]


@pytest.mark.parametrize(
    "line",
    [
        f"traceparent: {GOOD}",
        f"TraceParent: {GOOD}",
        f"TrAcEpArEnT: {GOOD}",
        f"TRACEPARENT:{GOOD}",
        f"traceparent:   {GOOD}",
        f"traceparent: \t {GOOD} \t ",
        f"traceparent: cc-{TRACE}-{PARENT}-01",
        f"traceparent: cc-{TRACE}-{PARENT}-01-what-the-future-will-be-like",
        f"traceparent: cc-{TRACE}-{PARENT}-01-",
        f"traceparent: 00-{TRACE}-{PARENT}-ff",
    ],
)
async def test_a_good_traceparent_is_continued(mesh: Mesh, line: str) -> None:
    assert trace_of(await received(mesh, line)) == TRACE


@pytest.mark.parametrize(
    "value",
    [
        "",
        f"00-{TRACE}-{PARENT}-01.",
        f"00-{TRACE}-{PARENT}-01-what-the-future-will-be-like",
        f"cc-{TRACE}-{PARENT}-01.what-the-future-will-be-like",
        f"ff-{TRACE}-{PARENT}-01",
        f".0-{TRACE}-{PARENT}-01",
        f"0.-{TRACE}-{PARENT}-01",
        f"000-{TRACE}-{PARENT}-01",
        f"0000-{TRACE}-{PARENT}-01",
        f"0-{TRACE}-{PARENT}-01",
        f"CC-{TRACE}-{PARENT}-01",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-.{TRACE[1:]}-{PARENT}-01",
        f"00-{TRACE[:-1]}.-{PARENT}-01",
        f"00-{TRACE[:-1]}A-{PARENT}-01",
        f"00-{TRACE}3-{PARENT}-01",
        f"00-{TRACE[:-1]}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}-.{PARENT[1:]}-01",
        f"00-{TRACE}-{PARENT[:-1]}.-01",
        f"00-{TRACE}-{PARENT[:-1]}F-01",
        f"00-{TRACE}-{PARENT}7-01",
        f"00-{TRACE}-{PARENT[:-1]}-01",
        f"00-{TRACE}-{PARENT}-.0",
        f"00-{TRACE}-{PARENT}-0.",
        f"00-{TRACE}-{PARENT}-001",
        f"00-{TRACE}-{PARENT}-1",
        f"00-{TRACE}-{PARENT}",
        f"{GOOD},{GOOD}",
        "00-" + "1" * 4000,
    ],
)
async def test_a_bad_traceparent_restarts_the_trace_without_its_tracestate(
    mesh: Mesh, value: str
) -> None:
    found = await received(mesh, f"traceparent: {value}", "tracestate: foo=1")
    assert trace_of(found) != TRACE
    assert members(found) == []


@pytest.mark.parametrize("name", ["trace-parent", "trace.parent"])
async def test_only_the_right_name_counts(mesh: Mesh, name: str) -> None:
    assert trace_of(await received(mesh, f"{name}: {GOOD}")) != TRACE


@pytest.mark.parametrize("second", [TRACE, "1234567890123456789012345678901f"])
async def test_two_traceparents_restart_and_neither_is_taken(mesh: Mesh, second: str) -> None:
    lines = [f"traceparent: {GOOD}", f"TraceParent: 00-{second}-{PARENT}-01"]
    found = await received(mesh, *lines, "tracestate: foo=1")
    assert trace_of(found) not in (TRACE, second)
    assert members(found) == []


@pytest.mark.parametrize(
    ("came", "goes"),
    [("00", "00"), ("01", "01"), ("02", "02"), ("03", "03"), ("04", "00"), ("ff", "03")],
)
async def test_flags_that_are_not_known_are_zeroed(mesh: Mesh, came: str, goes: str) -> None:
    found = await received(mesh, f"traceparent: 00-{TRACE}-{PARENT}-{came}")
    assert found["traceparent"][0][-2:] == goes


async def test_without_headers_a_random_trace_starts(mesh: Mesh) -> None:
    traces = {trace_of(found) for found in [await received(mesh) for _ in range(3)]}
    assert len(traces) == 3
    assert (await received(mesh))["traceparent"][0].endswith("-03")


async def test_one_trace_in_several_requests_has_several_parents(mesh: Mesh) -> None:
    answers = [await received(mesh, f"traceparent: {GOOD}") for _ in range(3)]
    assert {trace_of(found) for found in answers} == {TRACE}
    assert len({found["traceparent"][0] for found in answers}) == 3


async def test_tracestate_without_traceparent_is_discarded(mesh: Mesh) -> None:
    assert members(await received(mesh, "tracestate: foo=1")) == []


MANY = [f"bar{number:02}=1" for number in range(32)]


@pytest.mark.parametrize(
    ("lines", "kept"),
    [
        (["tracestate: foo=1,bar=2"], ["foo=1", "bar=2"]),
        (["TraceState: foo=1"], ["foo=1"]),
        (["TRACESTATE: foo=1"], ["foo=1"]),
        (["tracestate: foo=1", "tracestate:"], ["foo=1"]),
        (["tracestate:", "tracestate: foo=1"], ["foo=1"]),
        (["tracestate: foo=1,bar=2", "TraceState: rojo=1,congo=2", "tracestate: baz=3"],
         ["foo=1", "bar=2", "rojo=1", "congo=2", "baz=3"]),
        (["tracestate: foo=1,foo=2"], ["foo=1", "foo=2"]),
        (["tracestate: foo=1", "tracestate: foo=1"], ["foo=1", "foo=1"]),
        (["tracestate: foo=1 \t , \t bar=2, \t baz=3"], ["foo=1", "bar=2", "baz=3"]),
        (["tracestate: foo=1\t \t,\t \tbar=2", "tracestate:\t baz=3 \t"],
         ["foo=1", "bar=2", "baz=3"]),
        (["tracestate: foo=1,,bar=2,"], ["foo=1", "bar=2"]),
        (["tracestate: 0key_-*/@vendor=!#$%&'()*+-./:;<>?@[]^_`{|}~"],
         ["0key_-*/@vendor=!#$%&'()*+-./:;<>?@[]^_`{|}~"]),
        (["tracestate: tenant@system=1"], ["tenant@system=1"]),
        (["tracestate: foo@@bar=1"], ["foo@@bar=1"]),
        (["tracestate: foo=b  ar"], ["foo=b  ar"]),
        (["tracestate: " + "z" * 256 + "=1"], ["z" * 256 + "=1"]),
        (["tracestate: foo=" + "v" * 256], ["foo=" + "v" * 256]),
        (["tracestate: " + ",".join(MANY)], MANY),
        (["tracestate: " + ",".join(MANY[:16]), "tracestate: " + ",".join(MANY[16:])], MANY),
        (["tracestate: foo=1", "tracestate: " + ",".join(MANY)], []),
        (["tracestate: " + "z" * 257 + "=1"], []),
        (["tracestate: foo=" + "v" * 257], []),
        (["tracestate: foo =1"], []),
        (["tracestate: FOO=1"], []),
        (["tracestate: foo.bar=1"], []),
        (["tracestate: @foo=1,bar=2"], []),
        (["tracestate: foo=bar=baz"], []),
        (["tracestate: foo=,bar=3"], []),
        (["tracestate: foo=1,bar"], []),
        (["tracestate: foo=\xe9"], []),
        (["trace-state: foo=1"], []),
        (["trace.state: foo=1"], []),
    ],
)  # fmt: skip
async def test_tracestate_is_passed_on_whole_or_not_at_all(
    mesh: Mesh, lines: list[str], kept: list[str]
) -> None:
    found = await received(mesh, f"traceparent: {GOOD}", *lines)
    assert trace_of(found) == TRACE, "a bad tracestate never costs the trace"
    assert members(found) == kept
    assert "" not in found.get("tracestate", []), "an empty one is never sent"


async def test_a_long_tracestate_is_cut_by_members(mesh: Mesh) -> None:
    large = "large=" + "v" * 200
    small = [f"k{number}=" + "v" * 40 for number in range(12)]
    line = ",".join([large, *small])
    found = await received(mesh, f"traceparent: {GOOD}", f"tracestate: {line}")
    kept = members(found)
    assert kept == small[: len(kept)], "large ones first, then from the right"
    assert len(",".join(kept)) <= 512 < len(",".join(small[: len(kept) + 1]))


async def test_an_unsampled_request_carries_a_context(mesh: Mesh) -> None:
    found = await received(mesh, f"traceparent: {GOOD[:-1]}0", "tracestate: foo=1")
    assert found["traceparent"][0].endswith("-00")
    assert members(found) == ["foo=1"]


@pytest.mark.parametrize(
    ("lines", "goes"),
    [
        (["baggage: a=1,b=2;p", "Baggage: c=%20x"], ["a=1,b=2;p,c=%20x"]),
        (["baggage: a=1=2,a=3"], ["a=1=2,a=3"]),
        (["baggage: =,,novalue"], []),
    ],
)
async def test_baggage(mesh: Mesh, lines: list[str], goes: list[str]) -> None:
    assert (await received(mesh, *lines)).get("baggage", []) == goes
