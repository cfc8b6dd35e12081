"""What consumers are given passes first, and is read then."""

from __future__ import annotations

import pytest

from filters.kafka.messages import LARGEST, MOST_LINKS
from meshproxy.config.model import Config, Kafka, Match, Sampling, SamplingRule
from meshproxy.trace.span import Kind
from tests.filters.bench import attributes
from tests.filters.kafka.batches import (
    CODECS,
    GZIP,
    LONG_AGO,
    ZSTD,
    Producer,
    Row,
    batch,
    odd_batch,
    old_messages,
)
from tests.filters.kafka.bench import (
    MILLISECOND,
    Bench,
    Connection,
    ids,
    linked_contexts,
    numbered,
    traceparent,
)
from tests.filters.kafka.frames import (
    ORDERS,
    fetch,
    fetched,
    heartbeat,
    heartbeat_answer,
    metadata,
    metadata_answer,
    offset_commit,
)


def carrying(number: int, value: bytes | None = b"value") -> Row:
    """A message with the context of that number."""
    return Row(value, headers=((b"traceparent", traceparent(numbered(number))),))


def receives(connection: Connection, records: bytes, version: int = 11) -> None:
    """The client fetches these, and they pass as they are."""
    connection.say(fetch(version=version))
    frame = fetched(records, version=version)
    assert connection.hear(frame) == frame


def received(bench: Bench, records: bytes) -> None:
    receives(bench.connect(), records)


# First the bytes


def test_the_client_has_its_messages_before_they_are_read() -> None:
    bench = Bench()
    connection = bench.connect()
    connection.say(fetch())
    frame = fetched(batch([carrying(1)]))
    talk = connection.talk
    talk.from_upstream(frame, bench.now_ns)
    assert b"".join(talk.to_client) == frame
    assert not bench.spans
    assert bench.inflight.idle
    talk.to_client.clear()
    talk.passed(bench.now_ns)
    assert len(bench.spans) == 1
    assert not bench.inflight.idle
    talk.passed(bench.now_ns)
    assert len(bench.spans) == 1


# The receive span


def test_the_span_of_what_was_fetched() -> None:
    bench = Bench()
    connection = bench.connect(peer="events")
    asked = bench.now_ns
    connection.say(fetch(client_id="shop"))
    bench.wait(50)
    connection.hear(fetched(batch([carrying(1), carrying(2), carrying(1)], base_offset=40)))
    span = bench.span()
    assert (span.shape.name, span.shape.kind) == ("poll orders", Kind.CLIENT)
    assert (span.start_ns, span.end_ns) == (asked, asked + 50 * MILLISECOND)
    assert span.parent_id == b""
    assert linked_contexts(span) == ids(numbered(1), numbered(2))
    assert attributes(span) == {
        "messaging.system": "kafka",
        "messaging.operation.name": "poll",
        "messaging.operation.type": "receive",
        "messaging.destination.name": "orders",
        "messaging.destination.partition.id": "0",
        "messaging.batch.message_count": 3,
        "messaging.kafka.offset": 40,
        "messaging.client.id": "shop",
        "server.address": "10.0.0.9",
        "server.port": 9092,
        "peer.service": "events",
    }
    assert bench.gap_counts() == {}


@pytest.mark.parametrize("version", [0, 3, 4, 7, 11, 12, 13, 16, 18])
def test_each_partition_has_its_own(version: int) -> None:
    bench = Bench()
    bench.connect().ask(metadata(), metadata_answer(["orders", "audit"]))
    connection = bench.connect()
    connection.say(fetch(version=version))
    partitions = {
        ORDERS: batch([carrying(1)]),
        ("orders", 3): None,
        ("orders", 5): batch([carrying(2), carrying(3)]),
        ("audit", 0): batch([carrying(4)]) + batch([carrying(5)]),
        ("audit", 1): b"",
    }
    frame = fetched(partitions, version=version)
    assert connection.hear(frame) == frame
    told = {
        (str(found["messaging.destination.name"]),
         found["messaging.destination.partition.id"]): linked_contexts(span)
        for span in bench.spans
        for found in (attributes(span),)
    }  # fmt: skip
    assert told == {
        ("orders", "0"): ids(numbered(1)),
        ("orders", "5"): ids(numbered(2), numbered(3)),
        ("audit", "0"): ids(numbered(4), numbered(5)),
    }


def test_nothing_that_was_fetched_is_no_span() -> None:
    bench = Bench()
    received(bench, b"")
    assert not bench.spans
    assert bench.inflight.idle


def test_links_are_limited() -> None:
    bench = Bench()
    received(bench, batch([carrying(number) for number in range(MOST_LINKS + 5)]))
    assert linked_contexts(bench.span()) == ids(*map(numbered, range(MOST_LINKS)))
    assert bench.gap_counts() == {}


def test_messages_with_contexts_beyond_the_limit_are_no_gaps() -> None:
    bench = Bench()
    made = [
        Row(headers=((b"traceparent", traceparent(numbered(min(number, MOST_LINKS)))),))
        for number in range(MOST_LINKS + 3)
    ]
    bench.connect().ask(fetch(), fetched(batch(made, GZIP)))
    assert bench.gap_counts() == {}


def test_links_are_to_different_contexts_whatever_else_the_messages_carry() -> None:
    bench = Bench()
    made = [
        Row(headers=((b"id", b"%d" % number),
                     (b"traceparent", traceparent(numbered(number // 100)))))
        for number in range(300)
    ]  # fmt: skip
    bench.connect().ask(fetch(), fetched(batch(made)))
    assert linked_contexts(bench.span()) == ids(*map(numbered, range(3)))


def test_a_context_is_linked_once_whatever_baggage_is_beside_it() -> None:
    bench = Bench()
    made = [Row(headers=(*carrying(1).headers, (b"baggage", b"n=%d" % n))) for n in range(3)]
    received(bench, batch(made))
    assert linked_contexts(bench.span()) == ids(numbered(1))


def test_the_trace_is_kept_if_one_that_is_linked_to_is() -> None:
    bench = Bench(config=Config(sampling=Sampling(default=0.0)))
    unsampled = traceparent(numbered(1, sampled=False))
    received(bench, batch([Row(headers=((b"traceparent", unsampled),))]))
    assert not bench.spans
    received(bench, batch([Row(headers=((b"traceparent", unsampled),)), carrying(2)]))
    assert bench.span().flags & 1


def test_a_topic_may_be_left_out() -> None:
    rules = (SamplingRule(match=Match(route="poll orders"), drop=True),)
    bench = Bench(config=Config(sampling=Sampling(rules=rules)))
    received(bench, batch([carrying(1)]))
    assert not bench.spans


# The consumer group


@pytest.mark.parametrize(
    "told", [heartbeat("shipping"), offset_commit(0), offset_commit(0, version=10)]
)
def test_the_group_is_known_from_other_requests_of_the_client(told: bytes) -> None:
    bench = Bench()
    bench.connect(("coordinator", 9092)).say(told)
    received(bench, batch())
    assert attributes(bench.span())["messaging.consumer.group.name"] == "shipping"
    assert bench.gap_counts() == {("consumer-lost", "shipping", "orders"): 1}


def test_of_two_groups_with_one_client_id_it_is_not_known_which() -> None:
    bench = Bench()
    connection = bench.connect()
    for group in ("shipping", "billing", "shipping"):
        connection.ask(heartbeat(group), heartbeat_answer())
    received(bench, batch())
    assert "messaging.consumer.group.name" not in attributes(bench.span())
    assert bench.gap_counts() == {("consumer-lost", "(unknown group)", "orders"): 1}


def test_the_group_of_another_client_is_not_this_ones() -> None:
    bench = Bench()
    bench.connect().say(heartbeat("shipping", client_id="other"))
    received(bench, batch())
    assert "messaging.consumer.group.name" not in attributes(bench.span())


# Messages without context


def test_messages_without_context_are_gaps() -> None:
    bench = Bench()
    bench.connect().say(heartbeat("shipping"))
    bad = Row(headers=((b"traceparent", b"rubbish"),))
    other = Row(headers=((b"id", b"1"),))
    received(bench, batch([carrying(1), Row(), other, bad, carrying(2), carrying(2)]))
    span = bench.span()
    assert attributes(span)["meshproxy.gap"] == "consumer-lost"
    assert bench.gap_counts() == {("consumer-lost", "shipping", "orders"): 3}
    (row,) = bench.gaps.rows("shop")
    assert (row["calls"], row["count"]) == (6, 3)
    assert row["example_trace_ids"] == [span.trace_id.hex()]
    assert bench.stats.messages["receive", "orders", "with_context"] == 3
    assert bench.stats.messages["receive", "orders", "without_context"] == 3


# What messages are like


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("transactional", [False, True])
def test_all_codecs_are_read(codec: int, transactional: bool) -> None:
    bench = Bench()
    before = [
        carrying(1),
        carrying(2, None),
        carrying(3)._replace(key=b"\xff\x00"),
        carrying(4, b"value" * 1000),
    ]
    made = batch(before, codec, producer=Producer(7, 0, 4), transactional=transactional)
    received(bench, made)
    assert linked_contexts(bench.span()) == ids(*[numbered(n) for n in range(1, 5)])


def test_names_of_headers_may_be_any_bytes() -> None:
    bench = Bench()
    odd = carrying(1)
    received(bench, odd_batch([odd._replace(headers=((b"\xff\xfe", None), *odd.headers))]))
    assert linked_contexts(bench.span()) == ids(numbered(1))


def test_control_batches_are_no_messages() -> None:
    bench = Bench()
    marker = Row(b"\0\0\0\0\0\0", b"\0\0\0\1")
    end = batch([marker], producer=Producer(7, 0, -1), transactional=True, control=True)
    data = batch([carrying(1)], producer=Producer(7), transactional=True)
    received(bench, data + end)
    assert attributes(bench.span())["messaging.batch.message_count"] == 1
    assert bench.gap_counts() == {}
    received(bench, end)
    assert len(bench.spans) == 1


def test_the_last_batch_may_be_cut_off() -> None:
    bench = Bench()
    for cut in (1, 50, 80):
        received(bench, batch([carrying(1)]) + batch([carrying(2)])[:-cut])
    assert [linked_contexts(span) for span in bench.spans] == [ids(numbered(1))] * 3
    assert bench.events() == {}


@pytest.mark.parametrize("magic", [0, 1])
@pytest.mark.parametrize("codec", [0, GZIP])
def test_old_formats_are_counted(magic: int, codec: int) -> None:
    bench = Bench()
    connection = bench.connect()
    receives(connection, old_messages(magic, [b"one", b"two"], codec), 2)
    assert not bench.spans
    assert bench.stats.messages["receive", "orders", "old_format_batch"] == (1 if codec else 2)
    assert bench.gap_counts() == {}


def test_a_batch_that_is_broken_is_counted_and_the_others_are_read() -> None:
    bench = Bench()
    broken = batch([carrying(1)], GZIP)
    broken = broken[:70] + bytes(10) + broken[80:]
    received(bench, broken + batch([carrying(2)]))
    assert linked_contexts(bench.span()) == ids(numbered(2))
    assert bench.stats.messages["receive", "orders", "unread_batch"] == 1


def test_a_batch_that_is_too_much_to_read_is_counted() -> None:
    bench = Bench()
    received(bench, batch([Row(bytes(LARGEST))], ZSTD))
    assert not bench.spans
    assert bench.stats.messages["receive", "orders", "unread_batch"] == 1


# Spans of single messages


def test_a_span_for_each_message_if_that_is_wanted() -> None:
    bench = Bench(Kafka(consumer_spans=True))
    bench.connect().say(heartbeat("shipping"))
    rows = [carrying(1)._replace(key=b"order-7"), Row(None, timestamp=LONG_AGO)]
    received(bench, batch(rows, base_offset=40))
    polled, first, second = bench.spans
    assert polled.shape.name == "poll orders"
    assert (first.shape.name, first.shape.kind) == ("receive orders", Kind.CONSUMER)
    assert [(first.trace_id, first.parent_id)] == ids(numbered(1))
    found = attributes(first)
    assert found["messaging.operation.type"] == "receive"
    assert found["messaging.consumer.group.name"] == "shipping"
    assert found["messaging.kafka.offset"] == 40
    assert found["messaging.kafka.message.key"] == "order-7"
    assert found["meshproxy.propagation"] == "ok"
    assert "meshproxy.gap" not in found
    found = attributes(second)
    assert second.parent_id == b""
    assert found["messaging.kafka.offset"] == 41
    assert found["messaging.kafka.message.tombstone"] is True
    assert (found["meshproxy.propagation"], found["meshproxy.gap"]) == ("root", "consumer-lost")


def test_so_it_is_if_there_are_many() -> None:
    bench = Bench(Kafka(consumer_spans=True))
    received(bench, batch([carrying(number) for number in range(50)], base_offset=7))
    polled, *consumed = bench.spans
    assert [(span.trace_id, span.parent_id) for span in consumed] == ids(*map(numbered, range(50)))
    assert [attributes(span)["messaging.kafka.offset"] for span in consumed] == list(range(7, 57))
    decision = bench.call()
    assert decision.parent is not None
    assert decision.parent.span_id == polled.span_id


def test_what_a_message_causes_is_below_its_span() -> None:
    bench = Bench(Kafka(consumer_spans=True))
    received(bench, batch([carrying(1)]))
    consumed = bench.spans[1]
    decision = bench.call()
    assert decision.parent is not None
    assert decision.parent.span_id == consumed.span_id
    assert decision.parent.trace_id == numbered(1).trace_id


def test_of_very_many_messages_each_has_its_span_below_its_producers() -> None:
    bench = Bench(Kafka(consumer_spans=True))
    contexts = [numbered(number) for number in range(MOST_LINKS + 5)]
    made = [Row(headers=((b"traceparent", traceparent(each)),)) for each in contexts]
    bench.connect().ask(fetch(), fetched(batch(made)))
    polled, *consumed = bench.spans
    assert len(polled.links) == MOST_LINKS
    assert [(span.trace_id, span.parent_id) for span in consumed] == ids(*contexts)
