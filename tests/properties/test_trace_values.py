"""Properties of trace values: garbage never raises, and what is written is read back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from meshproxy.trace import baggage, traceparent, tracestate
from meshproxy.trace.context import KNOWN_FLAGS, SpanContext
from meshproxy.trace.formats import FORMATS
from meshproxy.trace.propagator import Propagator
from meshproxy.trace.sampling import Action, Sampler

ORDER = ("tracecontext", *FORMATS)
TRACEPARENT = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

trace_ids = st.binary(min_size=16, max_size=16).filter(any)
span_ids = st.binary(min_size=8, max_size=8).filter(any)
contexts = st.builds(SpanContext, trace_ids, span_ids, st.integers(0, KNOWN_FLAGS))

_WIRE = b"0123456789abcdefABCDEF-:;=/,.%?@ \tRootParentSampled1od\xff"
values = st.one_of(
    st.binary(max_size=80),
    st.lists(st.sampled_from([bytes([b]) for b in _WIRE]), max_size=80).map(b"".join),
    contexts.flatmap(
        lambda context: st.sampled_from(
            [v for name in FORMATS for _, v in FORMATS[name].inject(context, None)]
        )
    ),
    st.sampled_from([TRACEPARENT, b"ot=th:8;rv:1", b"a=1,ot=th:zz", b"dd=s:x;o:;t.:;=", b"a=1"]),
)
names = st.sampled_from(
    sorted({*Propagator.fields, b"uberctx-", b"uberctx-a", b"ot-baggage-a b", b"host", b""})
)
messages = st.dictionaries(names, st.lists(values, max_size=3), max_size=8)

member_keys = st.from_regex(r"[a-z0-9][a-z0-9_\-*/@]{0,20}", fullmatch=True)
member_values = st.from_regex(r"[ -+\--<>-~]{0,40}[!-+\--<>-~]", fullmatch=True)
states = st.lists(st.tuples(member_keys, member_values), max_size=32)


@given(contexts)
def test_traceparent_reads_what_it_wrote(context: SpanContext) -> None:
    assert traceparent.parse(traceparent.format(context)) == context


@given(st.one_of(st.binary(max_size=70), values))
def test_what_traceparent_reads_is_what_was_written(value: bytes) -> None:
    context = traceparent.parse(value)
    if context is not None:
        written = traceparent.format(context)
        assert written[3:-2] == value.strip(b" \t")[3:53]


@given(states)
def test_a_legal_tracestate_within_the_limits_is_not_touched(
    members: list[tuple[str, str]],
) -> None:
    text = ",".join(f"{key}={value}" for key, value in members)
    parsed = tracestate.parse([text.encode()])
    if len(text) <= tracestate.MAX_LENGTH:
        assert parsed == text
    else:
        kept = parsed.split(",")
        assert len(parsed) <= tracestate.MAX_LENGTH
        remaining = iter(text.split(","))
        assert all(member in remaining for member in kept)  # in order


@given(st.lists(values, max_size=4))
def test_a_tracestate_is_legal_or_empty(headers: list[bytes]) -> None:
    parsed = tracestate.parse(headers)
    assert tracestate.parse([parsed.encode()]) == parsed


@given(states, member_keys, member_values)
def test_a_member_that_was_put_is_leftmost(
    members: list[tuple[str, str]], key: str, value: str
) -> None:
    state = tracestate.parse([",".join(f"{k}={v}" for k, v in members).encode()])
    after = tracestate.put(state, key, value)
    assert after.startswith(f"{key}={value}")
    assert tracestate.get(after, key) == value
    assert tracestate.parse([after.encode()]) == after
    assert tracestate.get(tracestate.remove(after, key), key) is None


@given(st.lists(st.binary(max_size=60), max_size=4))
def test_normalised_baggage_is_stable_and_within_the_limits(headers: list[bytes]) -> None:
    once = baggage.normalise(headers)
    assert baggage.normalise([once]) == once
    assert len(once) <= baggage.MAX_BYTES
    assert baggage.parse(headers) == baggage.parse([once])


@given(st.text(max_size=40))
def test_a_baggage_value_reads_back(text: str) -> None:
    member = baggage.member(b"key", text.encode("utf-8", "replace"))
    assert member is not None
    assert baggage.normalise([member]) == member
    assert baggage.get(member, "key") == text.encode("utf-8", "replace").decode()


@given(messages, contexts)
def test_whatever_comes_in_what_goes_out_is_one_consistent_context(
    fields: dict[bytes, list[bytes]], context: SpanContext
) -> None:
    propagator = Propagator(ORDER)
    extracted = propagator.extract(fields)
    pairs = propagator.inject(context, extracted)
    out: dict[bytes, list[bytes]] = {}
    for name, value in pairs:
        out.setdefault(name.lower(), []).append(value)
    again = propagator.extract(out)
    assert again.context == context
    assert again.disagreeing == ()
    assert not again.malformed
    assert {f.format for f in again.came_in} >= {f.format for f in extracted.came_in}


@given(messages, st.sampled_from([0.0, 0.1, 0.5, 1.0]), st.booleans())
def test_whatever_comes_in_can_be_sampled(
    fields: dict[bytes, list[bytes]], ratio: float, parent_based: bool
) -> None:
    extracted = Propagator(ORDER).extract(fields)
    sampler = Sampler(ratio, parent_based=parent_based)
    decision = sampler.sample(None, extracted, b"t" * 16, 0.0)
    assert tracestate.parse([decision.tracestate.encode()]) == decision.tracestate


@given(trace_ids, st.floats(0, 1), st.floats(0, 1))
def test_who_keeps_less_keeps_a_part_of_what_others_keep(
    trace_id: bytes, one: float, other: float
) -> None:
    fewer, more = (Sampler(ratio) for ratio in sorted((one, other)))
    if fewer.sample(None, None, trace_id, 0.0).action == Action.SAMPLE:
        assert more.sample(None, None, trace_id, 0.0).action == Action.SAMPLE
