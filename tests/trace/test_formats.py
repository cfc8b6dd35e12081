"""Each format beside W3C: what it reads, what it writes, what it refuses."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256

import pytest

from meshproxy.trace.context import RANDOM, SAMPLED, SpanContext
from meshproxy.trace.formats import FORMATS, Foreign

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
LOW = "a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"
LOW_DECIMAL = str(int(LOW, 16))
SPAN_DECIMAL = str(int(SPAN, 16))
TRACE_ID = bytes.fromhex(TRACE)
PADDED = bytes(8) + bytes.fromhex(LOW)
SPAN_ID = bytes.fromhex(SPAN)
XRAY_ROOT = f"Root=1-{TRACE[:8]}-{TRACE[8:]}"
OURS = SpanContext(b"\xaa" * 16, b"\xbb" * 8, SAMPLED)

Headers = dict[str, str]


def _sw8(*parts: str, sample: str = "1", number: str = "3") -> str:
    trace, segment, *rest = (b64encode(part.encode()).decode() for part in parts)
    return "-".join((sample, trace, segment, number, *rest))


SW8_TEXT = ("a.b.c", "seg.1", "shop", "shop-1", "/buy", "cart:80")
SW8_TRACE_ID = sha256(b"a.b.c").digest()[:16]
SW8_SPAN_ID = sha256(b"seg.1-3").digest()[:8]


def _extract(name: str, headers: Headers) -> Foreign | None:
    return FORMATS[name].extract({k.encode(): [v.encode("latin-1")] for k, v in headers.items()})


def _inject(name: str, context: SpanContext, came_in: Foreign | None = None) -> Headers:
    pairs = FORMATS[name].inject(context, came_in)
    return {key.decode(): value.decode("latin-1") for key, value in pairs}


@pytest.mark.parametrize(
    ("name", "headers", "trace_id", "sampled"),
    [
        pytest.param("b3", {"b3": f"{TRACE}-{SPAN}-1"}, TRACE_ID, True, id="b3"),
        pytest.param("b3", {"b3": f"{TRACE}-{SPAN}-0"}, TRACE_ID, False, id="b3 unsampled"),
        pytest.param("b3", {"b3": f"{TRACE}-{SPAN}"}, TRACE_ID, None, id="b3 defers"),
        pytest.param("b3", {"b3": f"{LOW}-{SPAN}-1-{SPAN}"}, PADDED, True, id="b3 64 bits, parent"),
        pytest.param("b3", {"b3": f"{TRACE}-{SPAN}-d"}, TRACE_ID, True, id="b3 debug"),
        pytest.param(
            "b3multi",
            {"x-b3-traceid": TRACE, "x-b3-spanid": SPAN, "x-b3-sampled": "1"},
            TRACE_ID,
            True,
            id="b3multi",
        ),
        pytest.param(
            "b3multi",
            {"x-b3-traceid": LOW, "x-b3-spanid": SPAN, "x-b3-sampled": "True"},
            PADDED,
            True,
            id="b3multi says true, 64 bits",
        ),
        pytest.param(
            "b3multi",
            {"x-b3-traceid": TRACE, "x-b3-spanid": SPAN, "x-b3-sampled": "false"},
            TRACE_ID,
            False,
            id="b3multi says false",
        ),
        pytest.param(
            "b3multi",
            {"x-b3-traceid": TRACE, "x-b3-spanid": SPAN, "x-b3-flags": "1"},
            TRACE_ID,
            True,
            id="b3multi debug flag means sampled",
        ),
        pytest.param(
            "b3multi",
            {"x-b3-traceid": TRACE, "x-b3-spanid": SPAN, "x-b3-parentspanid": LOW},
            TRACE_ID,
            None,
            id="b3multi defers",
        ),
        pytest.param(
            "jaeger", {"uber-trace-id": f"{TRACE}:{SPAN}:0:1"}, TRACE_ID, True, id="jaeger"
        ),
        pytest.param(
            "jaeger",
            {"uber-trace-id": f"{LOW}:{SPAN.lstrip('0')}:{SPAN}:0"},
            PADDED,
            False,
            id="jaeger padded on the left",
        ),
        pytest.param(
            "jaeger",
            {"uber-trace-id": f"{TRACE}%3A{SPAN}%3a0%3A03"},
            TRACE_ID,
            True,
            id="jaeger percent-encoded",
        ),
        pytest.param(
            "xray",
            {"x-amzn-trace-id": f"{XRAY_ROOT};Parent={SPAN};Sampled=1"},
            TRACE_ID,
            True,
            id="xray",
        ),
        pytest.param(
            "xray",
            {"x-amzn-trace-id": f"sampled=0 ; Lineage=1:2; parent={SPAN}; {XRAY_ROOT};;"},
            TRACE_ID,
            False,
            id="xray in another order, with blanks and other keys",
        ),
        pytest.param(
            "xray",
            {"x-amzn-trace-id": f"{XRAY_ROOT};Parent={SPAN};Sampled=?"},
            TRACE_ID,
            None,
            id="xray defers",
        ),
        pytest.param(
            "gcp",
            {"x-cloud-trace-context": f"{TRACE}/{SPAN_DECIMAL};o=1"},
            TRACE_ID,
            True,
            id="gcp",
        ),
        pytest.param(
            "gcp",
            {"x-cloud-trace-context": f"{TRACE}/{SPAN_DECIMAL};o=0"},
            TRACE_ID,
            False,
            id="gcp unsampled",
        ),
        pytest.param(
            "gcp",
            {"x-cloud-trace-context": f"{TRACE}/{SPAN_DECIMAL}"},
            TRACE_ID,
            None,
            id="gcp defers",
        ),
        pytest.param(
            "datadog",
            {
                "x-datadog-trace-id": LOW_DECIMAL,
                "x-datadog-parent-id": SPAN_DECIMAL,
                "x-datadog-sampling-priority": "2",
                "x-datadog-tags": f"_dd.p.dm=-4,_dd.p.tid={TRACE[:16]}",
            },
            TRACE_ID,
            True,
            id="datadog",
        ),
        pytest.param(
            "datadog",
            {
                "x-datadog-trace-id": LOW_DECIMAL,
                "x-datadog-parent-id": SPAN_DECIMAL,
                "x-datadog-sampling-priority": "-1",
                "x-datadog-tags": "_dd.p.tid=short",
            },
            PADDED,
            False,
            id="datadog 64 bits, dropped by the user",
        ),
        pytest.param(
            "datadog",
            {"x-datadog-trace-id": LOW_DECIMAL, "x-datadog-parent-id": SPAN_DECIMAL},
            PADDED,
            None,
            id="datadog defers",
        ),
        pytest.param(
            "ot",
            {"ot-tracer-traceid": LOW, "ot-tracer-spanid": SPAN, "ot-tracer-sampled": "true"},
            PADDED,
            True,
            id="ot",
        ),
        pytest.param(
            "ot",
            {"ot-tracer-traceid": TRACE, "ot-tracer-spanid": SPAN, "ot-tracer-sampled": "0"},
            TRACE_ID,
            False,
            id="ot 128 bits",
        ),
        pytest.param(
            "ot",
            {"ot-tracer-traceid": LOW, "ot-tracer-spanid": SPAN},
            PADDED,
            None,
            id="ot defers",
        ),
    ],
)
def test_what_is_read(name: str, headers: Headers, trace_id: bytes, sampled: bool | None) -> None:
    foreign = _extract(name, headers)
    assert foreign is not None
    assert foreign.context is not None
    assert foreign.context.trace_id == trace_id
    assert foreign.context.span_id == SPAN_ID
    assert foreign.sampled is sampled
    assert foreign.context.sampled is bool(sampled)
    assert not foreign.context.flags & RANDOM
    assert foreign.short == (trace_id == PADDED)


@pytest.mark.parametrize(
    ("name", "headers"),
    [
        pytest.param(name, headers, id=f"{name} {list(headers.values())}"[:70])
        for name, headers in [
            *((name, {}) for name in FORMATS),
            *(("b3", {"b3": value}) for value in (
                "", "2", f"{TRACE}", f"{TRACE}-", f"{TRACE}-{SPAN}-", f"{TRACE}-{SPAN}-x",
                f"{TRACE}-{SPAN}-1-", f"{TRACE}-{SPAN}-1-{SPAN}-1", f"{'0' * 32}-{SPAN}-1",
                f"{TRACE}-{'0' * 16}-1", f"{TRACE[:-1]}-{SPAN}-1", f"{TRACE}-{SPAN[1:]}-1",
                f"{TRACE[:-1]}g-{SPAN}-1", f"{TRACE}-{SPAN}-1,{TRACE}-{SPAN}-0",
            )),
            ("b3multi", {"x-b3-traceid": TRACE}),
            ("b3multi", {"x-b3-spanid": SPAN}),
            ("b3multi", {"x-b3-parentspanid": SPAN}),
            ("b3multi", {"x-b3-sampled": "maybe"}),
            ("b3multi", {"x-b3-traceid": TRACE, "x-b3-spanid": SPAN, "x-b3-flags": "2"}),
            ("b3multi", {"x-b3-traceid": TRACE, "x-b3-spanid": SPAN, "x-b3-parentspanid": "x"}),
            ("b3multi", {"x-b3-traceid": "0" * 32, "x-b3-spanid": SPAN}),
            *(("jaeger", {"uber-trace-id": value}) for value in (
                "", "x", f"{TRACE}:{SPAN}:0", f"{TRACE}:{SPAN}:0:1:1", f"{TRACE}0:{SPAN}:0:1",
                f"{TRACE}:{SPAN}0:0:1", f"0:{SPAN}:0:1", f"{TRACE}:0:0:1", f"{TRACE}:{SPAN}:0:x",
                f"{TRACE}:{SPAN}:0:", f"{TRACE}:{SPAN}:0:001", f":{SPAN}:0:1",
            )),
            *(("xray", {"x-amzn-trace-id": value}) for value in (
                "", "Root", "Root=", f"Parent={SPAN};Sampled=1", f"Root=2-{TRACE[:8]}-{TRACE[8:]}",
                f"Root=1-{TRACE[:9]}-{TRACE[9:]}", f"Root=1-{TRACE}", "Self=1-2-3",
                f"Root=1-{'0' * 8}-{'0' * 24}", f"Root=1-{TRACE[:8]}-{TRACE[9:]}g",
            )),
            *(("gcp", {"x-cloud-trace-context": value}) for value in (
                "", TRACE[1:], f"{TRACE}/", f"{TRACE}/{SPAN}x", f"{TRACE}/-1", f"{TRACE};o=x",
                f"{TRACE}/99999999999999999999;o=1", f"{'0' * 32}/1;o=1", f"{TRACE}/1;o=1;x",
            )),
            ("datadog", {"x-datadog-trace-id": "0", "x-datadog-parent-id": "1"}),
            ("datadog", {"x-datadog-trace-id": LOW, "x-datadog-parent-id": "1"}),
            ("datadog", {"x-datadog-trace-id": str(2**64), "x-datadog-parent-id": "1"}),
            ("datadog", {"x-datadog-trace-id": "1", "x-datadog-parent-id": "x"}),
            ("datadog", {"x-datadog-parent-id": "1"}),
            ("datadog", {
                "x-datadog-trace-id": "1",
                "x-datadog-parent-id": "1",
                "x-datadog-sampling-priority": "high",
            }),
            *(("skywalking", {"sw8": value}) for value in (
                "", "1", _sw8(*SW8_TEXT, sample="2"), _sw8(*SW8_TEXT, number="x"),
                _sw8(*SW8_TEXT, number="-1"), _sw8(*SW8_TEXT[:-1]), _sw8(*SW8_TEXT, "more"),
                _sw8("", *SW8_TEXT[1:]), _sw8("a", "", *SW8_TEXT[2:]),
                "1-!-c2Vn-0-YQ==-YQ==-YQ==-YQ==", "1-YQ-c2Vn-0-YQ==-YQ==-YQ==-YQ==",
            )),
            ("ot", {"ot-tracer-traceid": LOW}),
            ("ot", {"ot-tracer-spanid": SPAN}),
            ("ot", {"ot-tracer-sampled": "true"}),
            ("ot", {"ot-tracer-traceid": "x", "ot-tracer-spanid": SPAN}),
            ("ot", {"ot-tracer-traceid": LOW, "ot-tracer-spanid": SPAN, "ot-tracer-sampled": "?"}),
        ]
    ],
)  # fmt: skip
def test_what_does_not_count(name: str, headers: Headers) -> None:
    assert _extract(name, headers) is None


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("flags", [0, SAMPLED])
def test_what_is_written_is_read_back(name: str, flags: int) -> None:
    context = SpanContext(TRACE_ID if name != "ot" else PADDED, SPAN_ID, flags)
    written = {k.lower(): v for k, v in _inject(name, context).items()}
    foreign = _extract(name, written)
    assert foreign is not None
    assert foreign.context is not None
    assert (foreign.context.trace_id, foreign.context.span_id) == (context.trace_id, SPAN_ID)
    assert foreign.sampled is bool(flags)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("b3", {"b3": f"{TRACE}-{SPAN}-1"}),
        ("b3multi", {"X-B3-TraceId": TRACE, "X-B3-SpanId": SPAN, "X-B3-Sampled": "1"}),
        ("jaeger", {"uber-trace-id": f"{TRACE}:{SPAN}:0:1"}),
        ("xray", {"X-Amzn-Trace-Id": f"{XRAY_ROOT};Parent={SPAN};Sampled=1"}),
        ("gcp", {"X-Cloud-Trace-Context": f"{TRACE}/{SPAN_DECIMAL};o=1"}),
        (
            "datadog",
            {
                "x-datadog-trace-id": LOW_DECIMAL,
                "x-datadog-parent-id": SPAN_DECIMAL,
                "x-datadog-sampling-priority": "1",
                "x-datadog-tags": f"_dd.p.tid={TRACE[:16]}",
            },
        ),
        ("skywalking", {"sw8": _sw8(TRACE, SPAN, *["unknown"] * 4, number="0")}),
        (
            "ot",
            {"ot-tracer-traceid": LOW, "ot-tracer-spanid": SPAN, "ot-tracer-sampled": "true"},
        ),
    ],
)
def test_what_is_written(name: str, expected: Headers) -> None:
    assert _inject(name, SpanContext(TRACE_ID, SPAN_ID, SAMPLED | RANDOM)) == expected


@pytest.mark.parametrize(
    ("name", "headers", "field", "expected"),
    [
        ("b3", {"b3": f"{LOW}-{SPAN}-1"}, "b3", f"{'aa' * 8}-{'bb' * 8}-1"),
        (
            "b3multi",
            {"x-b3-traceid": LOW, "x-b3-spanid": SPAN},
            "X-B3-TraceId",
            "aa" * 8,
        ),
        (
            "jaeger",
            {"uber-trace-id": f"{LOW}:{SPAN}:0:1"},
            "uber-trace-id",
            f"{'aa' * 8}:{'bb' * 8}:0:1",
        ),
        ("ot", {"ot-tracer-traceid": LOW, "ot-tracer-spanid": SPAN}, "ot-tracer-traceid", "aa" * 8),
        (
            "ot",
            {"ot-tracer-traceid": TRACE, "ot-tracer-spanid": SPAN},
            "ot-tracer-traceid",
            "aa" * 16,
        ),
    ],
)
def test_who_sent_64_bits_gets_the_rightmost_64(
    name: str, headers: Headers, field: str, expected: str
) -> None:
    assert _inject(name, OURS, _extract(name, headers))[field] == expected


@pytest.mark.parametrize(
    ("name", "headers", "sampled", "debug"),
    [
        ("b3", {"b3": "0"}, False, False),
        ("b3", {"b3": "1"}, True, False),
        ("b3", {"b3": "d"}, True, True),
        ("b3multi", {"x-b3-sampled": "0"}, False, False),
        ("b3multi", {"x-b3-flags": "1"}, True, True),
    ],
)
def test_b3_decision_without_ids(name: str, headers: Headers, sampled: bool, debug: bool) -> None:
    foreign = _extract(name, headers)
    assert foreign is not None
    assert foreign.context is None
    assert (foreign.sampled, foreign.debug) == (sampled, debug)


@pytest.mark.parametrize(
    ("name", "field", "expected"),
    [
        ("b3", "b3", f"{'aa' * 16}-{'bb' * 8}-d"),
        ("b3multi", "X-B3-Flags", "1"),
        ("jaeger", "uber-trace-id", f"{'aa' * 16}:{'bb' * 8}:0:3"),
        ("datadog", "x-datadog-sampling-priority", "2"),
    ],
)
def test_debug_is_written(name: str, field: str, expected: str) -> None:
    pairs = FORMATS[name].inject(OURS, None, debug=True)
    assert dict(pairs)[field.encode()].decode() == expected


def test_debug_is_not_written_for_a_trace_that_is_not_sampled() -> None:
    pairs = FORMATS["b3"].inject(SpanContext(TRACE_ID, SPAN_ID), None, debug=True)
    assert pairs == [(b"b3", f"{TRACE}-{SPAN}-0".encode())]


def test_jaeger_debug_means_sampled() -> None:
    foreign = _extract("jaeger", {"uber-trace-id": f"{TRACE}:{SPAN}:0:2"})
    assert foreign is not None
    assert (foreign.sampled, foreign.debug) == (True, True)


@pytest.mark.parametrize(
    ("name", "headers"),
    [
        ("xray", {"x-amzn-trace-id": f"{XRAY_ROOT};Sampled=1"}),
        ("xray", {"x-amzn-trace-id": f"{XRAY_ROOT};Parent=bad;Sampled=1"}),
        ("gcp", {"x-cloud-trace-context": f"{TRACE};o=1"}),
        ("gcp", {"x-cloud-trace-context": f"{TRACE}/0;o=1"}),
    ],
)
def test_a_trace_without_a_span_is_still_named(name: str, headers: Headers) -> None:
    foreign = _extract(name, headers)
    assert foreign is not None
    assert foreign.context is None
    assert foreign.trace_id == TRACE_ID
    assert foreign.sampled is True


def test_xray_other_keys_go_out_again() -> None:
    value = f"Self=1-2-3;{XRAY_ROOT};Parent={SPAN};Sampled=1;Lineage=a=b:0"
    foreign = _extract("xray", {"x-amzn-trace-id": value})
    written = _inject("xray", OURS, foreign)["X-Amzn-Trace-Id"]
    assert written == (
        f"Root=1-{'aa' * 4}-{'aa' * 12};Parent={'bb' * 8};Sampled=1;Self=1-2-3;Lineage=a=b:0"
    )


@pytest.mark.parametrize(
    ("name", "prefix", "ids"),
    [
        ("jaeger", "uberctx-", {"uber-trace-id": f"{TRACE}:{SPAN}:0:1"}),
        ("ot", "ot-baggage-", {"ot-tracer-traceid": LOW, "ot-tracer-spanid": SPAN}),
        ("jaeger", "uberctx-", {}),
        ("ot", "ot-baggage-", {}),
    ],
)
def test_prefixed_baggage_is_read_and_goes_out_as_it_came(
    name: str, prefix: str, ids: Headers
) -> None:
    foreign = _extract(name, {**ids, f"{prefix}user": "a%20b", f"{prefix}city": "Z\xfc"})
    assert foreign is not None
    assert foreign.baggage == (b"user=a%20b", b"city=Z%FC")
    written = _inject(name, OURS, foreign)
    assert written[f"{prefix}user"] == "a%20b"
    assert written[f"{prefix}city"] == "Z\xfc"


class TestSkyWalking:
    def test_free_strings_become_ids_by_sha_256_and_attributes(self) -> None:
        foreign = _extract("skywalking", {"sw8": _sw8(*SW8_TEXT)})
        assert foreign is not None
        assert foreign.context == SpanContext(SW8_TRACE_ID, SW8_SPAN_ID, SAMPLED)
        assert foreign.attributes == (
            ("skywalking.trace_id", "a.b.c"),
            ("skywalking.segment_id", "seg.1"),
            ("skywalking.span_id", "3"),
        )

    def test_spans_of_one_segment_differ(self) -> None:
        found = [_extract("skywalking", {"sw8": _sw8(*SW8_TEXT, number=n)}) for n in ("0", "1")]
        contexts = {foreign.context for foreign in found if foreign is not None}
        assert len(contexts) == 2

    def test_the_original_trace_and_who_called_go_out_again(self) -> None:
        foreign = _extract("skywalking", {"sw8": _sw8(*SW8_TEXT)})
        context = SpanContext(SW8_TRACE_ID, SPAN_ID)
        written = _inject("skywalking", context, foreign)
        expected = _sw8("a.b.c", SPAN, *SW8_TEXT[2:], sample="0", number="0")
        assert written == {"sw8": expected}

    def test_another_trace_goes_out_under_its_own_id(self) -> None:
        foreign = _extract("skywalking", {"sw8": _sw8(*SW8_TEXT)})
        written = _inject("skywalking", OURS, foreign)
        assert written == {"sw8": _sw8("aa" * 16, "bb" * 8, *SW8_TEXT[2:], number="0")}

    def test_correlation_is_baggage_and_goes_out_as_it_came(self) -> None:
        correlation = ",".join(
            b64encode(key).decode() + ":" + b64encode(value).decode()
            for key, value in ((b"user", b"a b"), (b"no token", b"1"))
        )
        headers = {"sw8-correlation": f"{correlation},rubbish", "sw8-x": "0- "}
        foreign = _extract("skywalking", headers)
        assert foreign is not None
        assert foreign.context is None
        assert foreign.baggage == (b"user=a%20b",)
        written = _inject("skywalking", OURS, foreign)
        assert written["sw8-correlation"] == headers["sw8-correlation"]
        assert written["sw8-x"] == "0-"


def test_a_repeated_field_counts_when_it_says_the_same() -> None:
    one, other = f"{TRACE}-{SPAN}-1".encode(), f"{TRACE}-{SPAN}-0".encode()
    assert FORMATS["b3"].extract({b"b3": [one, one]}) is not None
    assert FORMATS["b3"].extract({b"b3": [one, other]}) is None
