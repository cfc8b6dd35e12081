"""Datadog's headers: what is kept, what is rewritten, and the way through tracestate."""

from __future__ import annotations

import pytest

from meshproxy.trace.context import SAMPLED, SpanContext
from meshproxy.trace.formats import Foreign
from meshproxy.trace.formats.datadog import Datadog

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
LOW = "a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"
LOW_DECIMAL = str(int(LOW, 16))
SPAN_DECIMAL = str(int(SPAN, 16))
TRACE_ID = bytes.fromhex(TRACE)
PADDED = bytes(8) + bytes.fromhex(LOW)
SPAN_ID = bytes.fromhex(SPAN)
OURS = SpanContext(b"\xaa" * 16, b"\xbb" * 8, SAMPLED)

Headers = dict[str, str]


def _extract(headers: Headers) -> Foreign | None:
    return Datadog().extract({k.encode(): [v.encode()] for k, v in headers.items()})


def _inject(context: SpanContext, came_in: Foreign | None = None) -> Headers:
    pairs = Datadog().inject(context, came_in)
    return {key.decode(): value.decode() for key, value in pairs}


HEADERS = {
    "x-datadog-trace-id": LOW_DECIMAL,
    "x-datadog-parent-id": SPAN_DECIMAL,
    "x-datadog-sampling-priority": "2",
    "x-datadog-origin": "rum=1",
    "x-datadog-tags": f"_dd.p.dm=-4,_dd.p.tid={TRACE[:16]},other=1",
}


def test_origin_and_tags_go_out_and_the_high_half_is_ours() -> None:
    written = _inject(OURS, _extract(HEADERS))
    assert written == {
        "x-datadog-trace-id": str(int("aa" * 8, 16)),
        "x-datadog-parent-id": str(int("bb" * 8, 16)),
        "x-datadog-sampling-priority": "2",
        "x-datadog-origin": "rum=1",
        "x-datadog-tags": f"_dd.p.tid={'aa' * 8},_dd.p.dm=-4,other=1",
    }


def test_a_64_bit_id_has_no_high_half() -> None:
    foreign = _extract(HEADERS)
    written = _inject(SpanContext(PADDED, SPAN_ID, SAMPLED), foreign)
    assert written["x-datadog-tags"] == "_dd.p.dm=-4,other=1"


@pytest.mark.parametrize(
    ("came_in", "flags", "expected"),
    [
        ("2", SAMPLED, "2"),
        ("1", SAMPLED, "1"),
        ("-1", 0, "-1"),
        ("0", 0, "0"),
        ("2", 0, "0"),
        ("-1", SAMPLED, "1"),
        ("", SAMPLED, "1"),
    ],
)
def test_priority_never_contradicts_the_flag(came_in: str, flags: int, expected: str) -> None:
    headers = {**HEADERS, "x-datadog-sampling-priority": came_in}
    foreign = _extract(headers)
    written = _inject(SpanContext(TRACE_ID, SPAN_ID, flags), foreign)
    assert written["x-datadog-sampling-priority"] == expected


def test_what_w3c_has_no_place_for_goes_into_tracestate() -> None:
    foreign = _extract(HEADERS)
    assert foreign is not None
    assert foreign.context is not None
    assert foreign.context.tracestate == "dd=s:2;o:rum~1;t.dm:-4"


def test_and_comes_back_from_there() -> None:
    context = SpanContext(PADDED, SPAN_ID, SAMPLED, "a=1,dd=s:2;o:rum~1;t.dm:-4;p:1")
    written = _inject(context)
    assert written["x-datadog-sampling-priority"] == "2"
    assert written["x-datadog-origin"] == "rum=1"
    assert written["x-datadog-tags"] == "_dd.p.dm=-4"
