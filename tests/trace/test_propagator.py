"""All formats together: precedence, disagreement, rewriting, and what other proxies get wrong."""

from __future__ import annotations

from base64 import b64encode

import pytest

from meshproxy.trace.context import RANDOM, SAMPLED, SpanContext
from meshproxy.trace.formats import FORMATS
from meshproxy.trace.propagator import Extracted, Propagator

ORDER = ("tracecontext", *FORMATS)
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"
TRACE_ID = bytes.fromhex(TRACE)
SPAN_ID = bytes.fromhex(SPAN)
TRACEPARENT = f"00-{TRACE}-{SPAN}-01"
OURS = SpanContext(b"\xaa" * 16, b"\xbb" * 8, SAMPLED)
NEW = f"00-{'aa' * 16}-{'bb' * 8}-01"

Headers = dict[str, str | list[str]]


def _headers_of(number: int, name: str) -> Headers:
    """One format's headers, with ids of its own."""
    context = SpanContext(bytes([number]) * 16, bytes([number]) * 8, SAMPLED)
    if name == "tracecontext":
        pairs = Propagator(["tracecontext"]).inject(context, None)
    else:
        pairs = FORMATS[name].inject(context, None)
    return {key.decode().lower(): value.decode() for key, value in pairs}


def _extract(headers: Headers, order: tuple[str, ...] = ORDER) -> Extracted:
    fields = {
        name.encode(): [v.encode() for v in ([value] if isinstance(value, str) else value)]
        for name, value in headers.items()
    }
    return Propagator(order).extract(fields)


def _through(
    headers: Headers, context: SpanContext = OURS, inject: str = "tracecontext"
) -> Headers:
    extracted = _extract(headers)
    pairs = Propagator(ORDER, [inject]).inject(context, extracted)
    assert len({name for name, _ in pairs}) == len(pairs)
    return {name.decode(): value.decode() for name, value in pairs}


class TestW3C:
    def test_traceparent_and_tracestate_are_read(self) -> None:
        extracted = _extract({"traceparent": TRACEPARENT, "tracestate": ["a=1", "b=2"]})
        assert extracted.context == SpanContext(TRACE_ID, SPAN_ID, SAMPLED, "a=1,b=2")
        assert extracted.decision is True
        assert extracted.winner == "tracecontext"
        assert not extracted.malformed
        assert extracted.came_in == ()

    def test_the_callers_no_is_a_decision(self) -> None:
        assert _extract({"traceparent": f"00-{TRACE}-{SPAN}-00"}).decision is False

    @pytest.mark.parametrize("value", ["", "rubbish", TRACEPARENT.upper(), f"ff{TRACEPARENT[2:]}"])
    def test_rule_1_a_bad_traceparent_starts_a_trace_without_tracestate(self, value: str) -> None:
        extracted = _extract({"traceparent": value, "tracestate": "a=1"})
        assert extracted.context is None
        assert extracted.decision is None
        assert extracted.winner == ""
        assert extracted.malformed

    @pytest.mark.parametrize("second", [TRACEPARENT, NEW, "rubbish"])
    def test_rule_3_two_traceparents_restart_the_trace(self, second: str) -> None:
        extracted = _extract(
            {"traceparent": [TRACEPARENT, second], "tracestate": "a=1", "b3": f"{TRACE}-{SPAN}-1"}
        )
        assert extracted.context is None
        assert extracted.duplicated
        assert extracted.decision is None
        assert SpanContext(TRACE_ID, SPAN_ID, SAMPLED) in extracted.disagreeing

    def test_rule_4_the_random_flag_is_copied(self) -> None:
        extracted = _extract({"traceparent": f"00-{TRACE}-{SPAN}-03"})
        assert extracted.context is not None
        assert extracted.context.flags == SAMPLED | RANDOM

    def test_rule_4_a_padded_64_bit_id_has_no_random_flag(self) -> None:
        extracted = _extract({"b3": f"{TRACE[16:]}-{SPAN}-1"})
        assert extracted.context == SpanContext(bytes(8) + TRACE_ID[8:], SPAN_ID, SAMPLED)
        assert _through({"b3": f"{TRACE[16:]}-{SPAN}-1"}, extracted.context)["traceparent"] == (
            f"00-{'0' * 16}{TRACE[16:]}-{SPAN}-01"
        )

    def test_rule_5_what_is_not_changed_goes_out_as_it_came(self) -> None:
        headers: Headers = {"traceparent": f"00-{TRACE}-{SPAN}-03", "tracestate": "b=2,a= 1,b=3"}
        context = _extract(headers).context
        assert context is not None
        assert _through(headers, context) == headers

    def test_rule_5_tracestate_without_traceparent_is_discarded(self) -> None:
        extracted = _extract({"tracestate": "a=1"})
        assert extracted.context is None
        assert not extracted.malformed

    @pytest.mark.parametrize("state", ["A=1", "a=", "a", ",".join(f"k{n}=1" for n in range(33))])
    def test_rule_5_a_bad_tracestate_does_not_hurt_traceparent(self, state: str) -> None:
        extracted = _extract({"traceparent": TRACEPARENT, "tracestate": state})
        assert extracted.context == SpanContext(TRACE_ID, SPAN_ID, SAMPLED)
        assert extracted.tracestate_lost

    @pytest.mark.parametrize("state", ["", " ", ",", " , \t,"])
    def test_rule_6_an_empty_tracestate_is_accepted_and_never_sent(self, state: str) -> None:
        headers: Headers = {"traceparent": TRACEPARENT, "tracestate": state}
        assert not _extract(headers).tracestate_lost
        assert _through(headers) == {"traceparent": NEW}

    def test_rule_7_an_unsampled_context_goes_out(self) -> None:
        context = SpanContext(TRACE_ID, SPAN_ID)
        assert Propagator(ORDER).inject(context, None) == [
            (b"traceparent", f"00-{TRACE}-{SPAN}-00".encode())
        ]


class TestWhatOthersGetWrong:
    def test_envoy_a_bad_traceparent_does_not_go_on(self) -> None:
        assert _through({"traceparent": "rubbish"}) == {"traceparent": NEW}

    def test_envoy_upper_case_does_not_pass(self) -> None:
        assert _extract({"traceparent": TRACEPARENT.upper()}).context is None

    def test_linkerd_a_higher_version_is_read(self) -> None:
        context = _extract({"traceparent": f"42-{TRACE}-{SPAN}-01-x"}).context
        assert context == SpanContext(TRACE_ID, SPAN_ID, SAMPLED)

    def test_linkerd_all_formats_are_updated_not_only_the_first(self) -> None:
        headers: Headers = {}
        for number, name in enumerate(ORDER, start=1):
            headers.update(_headers_of(number, name))
        again = {name.lower(): value for name, value in _through(headers).items()}
        assert again.keys() == headers.keys()
        extracted = _extract(again)
        assert extracted.disagreeing == ()
        assert extracted.context == OURS
        assert [f.format for f in extracted.came_in] == list(FORMATS)

    def test_traefik_only_one_traceparent_goes_out(self) -> None:
        pairs = Propagator(ORDER).inject(OURS, _extract({"traceparent": [TRACEPARENT] * 2}))
        assert [value for name, value in pairs if name == b"traceparent"] == [NEW.encode()]

    def test_dapr_bad_baggage_is_left_out(self) -> None:
        extracted = _extract({"traceparent": TRACEPARENT, "baggage": "rubbish, a=1,\x00"})
        assert extracted.context is not None
        assert extracted.baggage == b"a=1"

    def test_opentelemetry_python_level_2_keys_are_read(self) -> None:
        extracted = _extract({"traceparent": TRACEPARENT, "tracestate": "a@b@c=1"})
        assert extracted.context is not None
        assert extracted.context.tracestate == "a@b@c=1"


class TestPrecedence:
    @pytest.mark.parametrize("first", range(len(ORDER)))
    def test_formats_win_in_the_order_of_the_notes(self, first: int) -> None:
        headers: Headers = {}
        for number, name in enumerate(ORDER[first:], start=first + 1):
            headers.update(_headers_of(number, name))
        extracted = _extract(headers)
        assert extracted.winner == ORDER[first]
        assert extracted.context is not None
        assert extracted.context.span_id == bytes([first + 1]) * 8
        assert len(extracted.disagreeing) == len(ORDER) - first - 1

    def test_the_configured_order_is_the_precedence(self) -> None:
        headers = {**_headers_of(1, "tracecontext"), **_headers_of(2, "b3")}
        headers |= _headers_of(3, "jaeger")
        extracted = _extract(headers, ("jaeger", "tracecontext", "b3"))
        assert extracted.winner == "jaeger"
        assert [c.span_id[0] for c in extracted.disagreeing] == [2, 1]

    def test_a_bad_header_leaves_the_place_to_the_next(self) -> None:
        extracted = _extract({"traceparent": "rubbish", "b3": f"{TRACE}-{SPAN}-1"})
        assert extracted.winner == "b3"
        assert extracted.malformed

    def test_only_what_is_configured_is_read(self) -> None:
        extracted = _extract({"b3": f"{TRACE}-{SPAN}-1"}, ("tracecontext",))
        assert extracted.context is None
        assert extracted.came_in == ()
        assert _extract({"traceparent": TRACEPARENT}, ("b3",)).context is None

    def test_formats_that_agree_are_no_other_context(self) -> None:
        extracted = _extract(
            {
                "traceparent": TRACEPARENT,
                "b3": f"{TRACE[16:]}-{SPAN}-1",
                "x-datadog-trace-id": str(int(TRACE[16:], 16)),
                "x-datadog-parent-id": str(int(SPAN, 16)),
            }
        )
        assert extracted.winner == "tracecontext"
        assert extracted.disagreeing == ()

    def test_a_winner_that_agrees_with_traceparent_keeps_tracestate(self) -> None:
        headers: Headers = {"traceparent": f"00-{TRACE}-{SPAN}-02", "tracestate": "a=1"}
        headers["b3"] = f"{TRACE[16:]}-{SPAN}-1"
        extracted = _extract(headers, ("b3", "tracecontext"))
        assert extracted.winner == "b3"
        assert extracted.decision is True
        assert extracted.context == SpanContext(TRACE_ID, SPAN_ID, SAMPLED | RANDOM, "a=1")

    def test_a_deferred_decision_is_none(self) -> None:
        extracted = _extract({"b3": f"{TRACE}-{SPAN}"})
        assert extracted.context == SpanContext(TRACE_ID, SPAN_ID)
        assert extracted.decision is None

    def test_a_decision_alone(self) -> None:
        extracted = _extract({"b3": "0"})
        assert (extracted.context, extracted.decision, extracted.winner) == (None, False, "")
        assert not extracted.malformed

    def test_a_decision_alone_does_not_overrule_traceparent(self) -> None:
        extracted = _extract({"traceparent": TRACEPARENT, "b3": "0"})
        assert extracted.decision is True

    def test_a_trace_named_by_a_load_balancer(self) -> None:
        extracted = _extract({"x-amzn-trace-id": f"Root=1-{TRACE[:8]}-{TRACE[8:]}"})
        assert extracted.context is None
        assert extracted.trace_id == TRACE_ID
        assert extracted.winner == "xray"

    @pytest.mark.parametrize(
        ("headers", "debug"),
        [
            ({"b3": f"{TRACE}-{SPAN}-d"}, True),
            ({"b3": "d"}, True),
            ({"x-b3-flags": "1"}, True),
            ({"traceparent": TRACEPARENT, "b3": f"{TRACE}-{SPAN}-d"}, True),
            ({"traceparent": NEW, "b3": f"{TRACE}-{SPAN}-d"}, False),
            ({"traceparent": TRACEPARENT}, False),
        ],
    )
    def test_debug_is_heard_unless_another_trace_says_it(
        self, headers: Headers, debug: bool
    ) -> None:
        assert _extract(headers).debug is debug

    def test_original_ids_are_attributes(self) -> None:
        parts = [b64encode(text).decode() for text in (b"a.b", b"seg", b"s", b"i", b"e", b"p")]
        value = "-".join(("1", parts[0], parts[1], "0", *parts[2:]))
        assert ("skywalking.trace_id", "a.b") in _extract({"sw8": value}).attributes


class TestRewriting:
    def test_nothing_came_in(self) -> None:
        assert Propagator(ORDER).inject(OURS, None) == [(b"traceparent", NEW.encode())]

    def test_tracestate_goes_along(self) -> None:
        context = SpanContext(OURS.trace_id, OURS.span_id, SAMPLED, "a=1")
        assert (b"tracestate", b"a=1") in Propagator(ORDER).inject(context, None)

    @pytest.mark.parametrize("name", FORMATS)
    def test_a_format_that_came_in_goes_out_with_w3c(self, name: str) -> None:
        again = {k.lower(): v for k, v in _through(_headers_of(1, name)).items()}
        assert again["traceparent"] == NEW
        extracted = _extract(again)
        assert [f.format for f in extracted.came_in] == [name]
        assert extracted.disagreeing == ()

    @pytest.mark.parametrize("name", FORMATS)
    def test_a_configured_format_goes_out(self, name: str) -> None:
        pairs = Propagator(ORDER, ["tracecontext", name]).inject(OURS, None)
        fields = {key.lower(): [value] for key, value in pairs}
        assert [f.format for f in Propagator(ORDER).extract(fields).came_in] == [name]

    def test_a_format_configured_and_present_goes_out_once(self) -> None:
        written = _through({"b3": f"{TRACE}-{SPAN}-0"}, inject="b3")
        assert written == {"b3": f"{'aa' * 16}-{'bb' * 8}-1"}

    def test_without_tracecontext_traceparent_goes_out_if_it_came(self) -> None:
        assert "traceparent" in _through({"traceparent": TRACEPARENT}, inject="b3")
        assert "traceparent" not in _through({}, inject="b3")

    def test_a_malformed_format_goes_out_right(self) -> None:
        assert _through({"b3": "rubbish"})["b3"] == f"{'aa' * 16}-{'bb' * 8}-1"

    def test_debug_is_preserved(self) -> None:
        assert _through({"b3": f"{TRACE}-{SPAN}-d"})["b3"] == f"{'aa' * 16}-{'bb' * 8}-d"

    def test_the_proxy_takes_out_all_that_it_could_write(self) -> None:
        context = SpanContext(OURS.trace_id, OURS.span_id, SAMPLED, "a=1")
        extracted = _extract({"baggage": "a=1", "uberctx-k": "v", "ot-baggage-k": "v"})
        pairs = Propagator(ORDER, ORDER).inject(context, extracted)
        assert len(pairs) > len(ORDER)
        for name, _ in pairs:
            assert name.lower() in Propagator.fields or name.startswith(Propagator.prefixes)

    def test_an_unknown_format_is_refused(self) -> None:
        with pytest.raises(ValueError, match="no such propagation format: b4"):
            Propagator(["b4"])


class TestBaggage:
    def test_baggage_goes_on_without_any_trace_header(self) -> None:
        assert _through({"baggage": ["a=1", "b=2"]}) == {"traceparent": NEW, "baggage": "a=1,b=2"}

    def test_baggage_of_other_formats_is_merged(self) -> None:
        extracted = _extract({"baggage": "a=1,a=2", "uberctx-a": "3", "ot-baggage-c": "4"})
        assert extracted.baggage == b"a=1,a=2,c=4"

    def test_baggage_survives_malformed_ids_of_its_format(self) -> None:
        headers: Headers = {"uber-trace-id": "rubbish", "uberctx-a": "1"}
        assert _extract(headers).malformed
        written = _through(headers)
        assert written["uber-trace-id"] == f"{'aa' * 16}:{'bb' * 8}:0:1"
        assert (written["uberctx-a"], written["baggage"]) == ("1", "a=1")

    def test_merging_is_stable_from_hop_to_hop(self) -> None:
        headers: Headers = {"baggage": "a=1", "uberctx-b": "2", "ot-baggage-c": "3"}
        once = {name.lower(): value for name, value in _through(headers).items()}
        twice = {name.lower(): value for name, value in _through({**once}).items()}
        assert once == twice

    def test_empty_baggage_is_not_sent(self) -> None:
        assert "baggage" not in _through({"baggage": " , "})
