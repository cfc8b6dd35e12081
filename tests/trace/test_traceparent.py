"""W3C Trace Context, traceparent: the rules of level 1 and 2, case by case."""

from __future__ import annotations

import pytest
from opentelemetry.trace import get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from meshproxy.trace import traceparent
from meshproxy.trace.context import KNOWN_FLAGS, RANDOM, SAMPLED, SpanContext

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"
VALID = f"00-{TRACE}-{SPAN}-01"
CONTEXT = SpanContext(bytes.fromhex(TRACE), bytes.fromhex(SPAN), SAMPLED)


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(VALID, id="as in the specification"),
        pytest.param(f"  {VALID}\t", id="blanks around it"),
        pytest.param(f"00-{TRACE}-{SPAN}-09", id="unknown flags are zeroed"),
        pytest.param(f"00-{TRACE}-{SPAN}-fd", id="all unknown flags are zeroed"),
    ],
)
def test_what_counts(value: str) -> None:
    assert traceparent.parse(value.encode()) == CONTEXT


def test_ids_without_any_letter_are_lower_case_enough() -> None:
    context = traceparent.parse(b"00-11111111111111111111111111111111-2222222222222222-00")
    assert context == SpanContext(b"\x11" * 16, b"\x22" * 8)


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("", id="empty"),
        pytest.param(VALID.upper(), id="upper-case"),
        pytest.param(f"00-{TRACE.upper()}-{SPAN}-01", id="upper-case trace id"),
        pytest.param(f"00-{TRACE}-{SPAN.upper()}-01", id="upper-case span id"),
        pytest.param(f"00-{TRACE}-{SPAN}-0A", id="upper-case flags"),
        pytest.param("00-1111111111111111111111111111111A-2222222222222222-00", id="one letter"),
        pytest.param(f"00-{'0' * 32}-{SPAN}-01", id="all-zero trace id"),
        pytest.param(f"00-{TRACE}-{'0' * 16}-01", id="all-zero span id"),
        pytest.param(f"ff-{TRACE}-{SPAN}-01", id="version ff"),
        pytest.param(f"ff-{TRACE}-{SPAN}-01-more", id="version ff with more"),
        pytest.param(f"0x-{TRACE}-{SPAN}-01", id="version not hexadecimal"),
        pytest.param(f"0A-{TRACE}-{SPAN}-01", id="upper-case version"),
        pytest.param(f"00-{TRACE}-{SPAN}-0g", id="flags not hexadecimal"),
        pytest.param(f"00-{TRACE}-{SPAN}-1", id="flags too short"),
        pytest.param(f"00-{TRACE}-{SPAN}-011", id="flags too long"),
        pytest.param(f"00-{TRACE}-{SPAN}", id="no flags"),
        pytest.param(f"00-{TRACE[:-1]}-{SPAN}-01", id="short trace id"),
        pytest.param(f"00-{TRACE}0-{SPAN[:-1]}-01", id="long trace id, short span id"),
        pytest.param(f"00-{TRACE[:-1]}-{SPAN}0-01", id="short trace id, long span id"),
        pytest.param(f"00-{TRACE[:-1]}g-{SPAN}-01", id="trace id not hexadecimal"),
        pytest.param(f"00-{TRACE[:-1]}\xe9-{SPAN}-01", id="trace id not ASCII"),
        pytest.param(f"00-{TRACE[:-2]} 0-{SPAN}-01", id="blank in the trace id"),
        pytest.param(f"00_{TRACE}_{SPAN}_01", id="underscores for dashes"),
        pytest.param(f"00-{TRACE}_{SPAN}-01", id="one underscore"),
        pytest.param(f"00-{TRACE}-{SPAN}_01", id="underscore before the flags"),
        pytest.param(f"{VALID}-", id="version 00 ends after the flags"),
        pytest.param(f"{VALID}-extra", id="version 00 with more"),
        pytest.param(f"{VALID},{VALID}", id="two in one header"),
        pytest.param(f"\n{VALID}", id="other white space"),
    ],
)
def test_rule_1_what_does_not_count(value: str) -> None:
    assert traceparent.parse(value.encode("latin-1")) is None


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(f"01-{TRACE}-{SPAN}-01", id="55 characters"),
        pytest.param(f"cc-{TRACE}-{SPAN}-01-what-the-future-brings", id="more after a dash"),
        pytest.param(f"fe-{TRACE}-{SPAN}-01-", id="a dash and nothing"),
        pytest.param(f" 01-{TRACE}-{SPAN}-05-x ", id="unknown flags and blanks"),
    ],
)
def test_rule_2_a_higher_version_is_read_and_goes_out_as_version_00(value: str) -> None:
    context = traceparent.parse(value.encode())
    assert context == CONTEXT
    assert traceparent.format(context).decode() == VALID


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(f"01-{TRACE}-{SPAN}-01.what", id="no dash after 55 characters"),
        pytest.param(f"01-{TRACE}-{SPAN}-011", id="56 characters"),
        pytest.param(f"01-{TRACE}-{SPAN}-0", id="54 characters"),
        pytest.param(f"01-{TRACE}-{SPAN}-0X-more", id="bad flags"),
        pytest.param(f"01-{'0' * 32}-{SPAN}-01-more", id="all-zero trace id"),
    ],
)
def test_rule_2_a_higher_version_of_another_form_does_not_count(value: str) -> None:
    assert traceparent.parse(value.encode()) is None


@pytest.mark.parametrize("bits", range(256))
def test_rule_4_of_all_flags_sampled_and_random_are_copied(bits: int) -> None:
    context = traceparent.parse(f"00-{TRACE}-{SPAN}-{bits:02x}".encode())
    assert context is not None
    assert context.flags == bits & (SAMPLED | RANDOM)
    assert traceparent.format(context)[-2:] == b"%02x" % (bits & KNOWN_FLAGS)


def test_rule_7_an_unsampled_context_is_written_too() -> None:
    context = SpanContext(CONTEXT.trace_id, CONTEXT.span_id)
    assert traceparent.format(context).decode() == f"00-{TRACE}-{SPAN}-00"


@pytest.mark.parametrize("flags", ["00", "01", "02", "03"])
def test_opentelemetry_reads_the_same(flags: str) -> None:
    value = f"00-{TRACE}-{SPAN}-{flags}"
    ours = traceparent.parse(value.encode())
    found = TraceContextTextMapPropagator().extract({"traceparent": value})
    theirs = get_current_span(found).get_span_context()
    assert ours is not None
    assert int.from_bytes(ours.trace_id, "big") == theirs.trace_id
    assert int.from_bytes(ours.span_id, "big") == theirs.span_id
    assert ours.sampled == theirs.trace_flags.sampled
