"""What is sent as it is: to whom no context is told, and what has no place for one."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from meshproxy.config.model import Config, Kafka, Match, Propagation, Sampling, SamplingRule
from meshproxy.trace.span import Kind
from tests.filters.bench import attributes
from tests.filters.kafka.batches import (
    GZIP,
    NONE,
    SNAPPY,
    Row,
    batch,
    checked,
    old_messages,
    rows,
    values,
)
from tests.filters.kafka.bench import Bench
from tests.filters.kafka.frames import (
    ORDERS,
    TOO_LARGE,
    Partition,
    fetch,
    fetched,
    produce,
    produced,
    sent_batch,
    sent_batches,
)


@pytest.mark.parametrize(
    ("trust", "propagation"),
    [("edge", Propagation()), ("mesh", Propagation(strip=("10.0.0.9:9092",)))],
)
def test_a_third_party_gets_no_context(trust: str, propagation: Propagation) -> None:
    bench = Bench(config=Config(propagation=propagation), trust=trust)
    cause = bench.request()
    connection = bench.connect()
    frame = produce(batch(2))
    assert connection.say(frame) == frame
    connection.hear(produced((0, 42)))
    span = bench.span()
    assert span.shape.kind is Kind.CLIENT
    assert span.parent_id == cause.context.span_id
    assert "meshproxy.gap" not in attributes(span)
    assert bench.gap_counts() == {}
    assert bench.stats.messages["send", "orders", "not_injected"] == 2


def test_a_topic_may_be_left_out() -> None:
    rule = SamplingRule(match=Match(route="send orders"), drop=True)
    bench = Bench(config=Config(sampling=Sampling(rules=(rule,))))
    connection = bench.connect()
    frame = produce(batch())
    assert connection.ask(frame, produced((0, 1))) == frame
    assert not bench.spans
    connection.ask(produce({("audit", 0): batch()}), produced({("audit", 0): (0, 1)}))
    assert bench.span().shape.name == "send audit"


def test_or_be_sampled_otherwise() -> None:
    rule = SamplingRule(match=Match(route="send orders"), ratio=1.0)
    bench = Bench(config=Config(sampling=Sampling(default=0.0, rules=(rule,))))
    connection = bench.connect()
    connection.ask(produce(batch()), produced((0, 1)))
    connection.ask(produce({("audit", 0): batch()}), produced({("audit", 0): (0, 1)}))
    assert bench.span().shape.name == "send orders"


# What passes as it is


def passes(bench: Bench, frame: bytes, result: str, version: int = 9) -> None:
    connection = bench.connect()
    assert connection.say(frame) == frame
    assert connection.hear(produced((0, 1), version=version))
    assert bench.stats.messages["send", "orders", result]


@pytest.mark.parametrize("version", [0, 1, 2])
@pytest.mark.parametrize("magic", [0, 1])
@pytest.mark.parametrize("codec", [NONE, GZIP, SNAPPY])
def test_old_formats_have_no_place_for_a_context(version: int, magic: int, codec: int) -> None:
    bench = Bench()
    old = old_messages(magic, [b"one", b"two"], codec)
    passes(bench, produce(old, version=version), "old_format", version)
    assert not bench.spans


THREE = batch(3)
BROKEN = {
    "cut off": THREE[:-1],
    "no head": THREE[:40],
    "two batches": THREE + THREE,
    "damaged on its way": THREE[:-3] + b"?" + THREE[-2:],
    "a count too many": checked(THREE[:57] + b"\0\0\0\x04" + THREE[61:]),
    "a count too few": checked(THREE[:57] + b"\0\0\0\x02" + THREE[61:]),
    "an unknown codec": checked(THREE[:22] + b"\7" + THREE[23:]),
    "another codec": checked(THREE[:22] + b"\4" + THREE[23:]),
    "no records": checked(THREE[:61] + bytes(len(THREE) - 61)),
    "a last record that is not whole": checked(THREE[:-1] + b"\x09"),
}


@pytest.mark.parametrize("per_record", [False, True])
@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
def test_a_batch_that_is_broken_passes_as_it_is(broken: bytes, per_record: bool) -> None:
    """So that the broker says that it is: a checksum that is wrong is not made right."""
    bench = Bench(Kafka(per_record=per_record))
    passes(bench, produce(broken), "unparsed")
    assert not bench.errors


def test_a_broken_batch_does_no_harm_to_the_others() -> None:
    bench = Bench()
    broken = batch(3)[:-1]
    frame = bench.connect().say(produce({ORDERS: broken, ("audit", 0): batch()}))
    after = sent_batches(frame)
    assert after[ORDERS] == broken
    assert values(rows(after["audit", 0])[0], "traceparent")


def test_requests_without_records_pass() -> None:
    bench = Bench()
    connection = bench.connect()
    empty: list[Mapping[Partition, bytes | None]] = [{ORDERS: None}, {ORDERS: b""}, {}]
    for correlation, batches in enumerate(empty):
        frame = produce(batches, correlation)
        assert connection.say(frame) == frame
    assert not bench.stats.messages


def test_a_batch_that_would_become_too_large_passes_as_it_is() -> None:
    made = batch([Row(bytes(1000))])
    grown = len(sent_batch(Bench().connect().say(produce(made))))
    fitting, refusing = Bench(Kafka(message_bytes=grown)), Bench(Kafka(message_bytes=grown - 1))
    assert fitting.connect().say(produce(made)) != produce(made)
    passes(refusing, produce(made), "too_large")
    assert refusing.span().shape.kind is Kind.CLIENT


def test_what_the_broker_takes_is_learnt() -> None:
    bench = Bench()
    connection = bench.connect()
    made = [batch([Row(bytes(1000), b"%d" % number)]) for number in range(3)]
    connection.ask(produce(made[0]), produced((TOO_LARGE, 0)))
    assert attributes(bench.span())["error.type"] == "MESSAGE_TOO_LARGE"
    assert connection.say(produce(made[1], 2)) == produce(made[1], 2)
    assert bench.stats.messages["send", "orders", "too_large"] == 1
    small = produce(batch([Row(bytes(900))]), 3)
    assert connection.say(small) != small
    elsewhere = produce({("audit", 0): made[2]}, 4)
    assert connection.say(elsewhere) != elsewhere


def test_a_mistake_of_ours_harms_no_traffic() -> None:
    """The source of random ids fails: a batch is sent as it is, and a fetch is not read."""
    bench = Bench()
    bench.random_fails = True
    connection = bench.connect()
    for frame, answer in ((produce(batch()), produced((0, 7))), (fetch(), fetched(batch()))):
        assert connection.say(frame) == frame
        assert connection.hear(answer) == answer
    assert [str(error) for error in bench.errors] == ["no random bytes"] * 2
    assert bench.spans == []
