"""What is sent gets a context and a PRODUCER span."""

from __future__ import annotations

import tracemalloc

import pytest

from meshproxy.config.model import Config, Kafka, Sampling
from meshproxy.trace.span import Kind, Status
from tests.filters.bench import attributes
from tests.filters.kafka.batches import (
    CODECS,
    GZIP,
    Producer,
    Row,
    batch,
    odd_batch,
    odd_rows,
    rows,
    same_head,
    value,
    values,
)
from tests.filters.kafka.bench import (
    MILLISECOND,
    Bench,
    ids,
    linked_contexts,
    numbered,
    traceparent,
)
from tests.filters.kafka.frames import (
    ORDERS,
    REFUSED,
    metadata,
    metadata_answer,
    produce,
    produced,
    sent_batch,
    sent_batches,
    sized,
    topic_id,
)

CARRIED = traceparent(numbered(500))
CARRYING = Row(b"theirs", headers=((b"id", b"1"), (b"traceparent", CARRIED)))


def sent(bench: Bench, made: bytes) -> list[Row]:
    """The records of a batch as the broker gets them; it is acknowledged."""
    connection = bench.connect()
    frame = connection.say(produce(made))
    connection.hear(produced((0, 42)))
    return rows(sent_batch(frame))


def sampled(**settings: object) -> Config:
    return Config(sampling=Sampling(**settings))  # type: ignore[arg-type]


# The span


def test_the_span_of_a_batch() -> None:
    bench = Bench()
    cause = bench.request()
    connection = bench.connect(peer="events")
    start = bench.now_ns
    connection.say(produce(batch(3), client_id="shop"))
    assert not bench.spans
    bench.wait(5)
    connection.hear(produced((0, 42)))
    span = bench.span()
    assert (span.shape.name, span.shape.kind) == ("send orders", Kind.PRODUCER)
    assert (span.start_ns, span.end_ns) == (start, start + 5 * MILLISECOND)
    assert (span.trace_id, span.parent_id) == (cause.context.trace_id, cause.context.span_id)
    assert (span.status, span.parent_remote) == (Status.UNSET, False)
    assert attributes(span) == {
        "messaging.system": "kafka",
        "messaging.operation.name": "send",
        "messaging.operation.type": "send",
        "messaging.destination.name": "orders",
        "messaging.destination.partition.id": "0",
        "messaging.batch.message_count": 3,
        "messaging.kafka.offset": 42,
        "messaging.client.id": "shop",
        "server.address": "10.0.0.9",
        "server.port": 9092,
        "peer.service": "events",
        "meshproxy.propagation": "repaired",
        "meshproxy.gap": "dropped",
        "meshproxy.link.evidence": "only_in_flight",
        "meshproxy.link.confidence": 0.998,
        "meshproxy.inbound.span_id": cause.context.span_id.hex(),
    }
    assert bench.gap_counts() == {("dropped", "POST /orders", "orders"): 1}


def test_the_span_of_a_single_message_tells_of_it() -> None:
    bench = Bench()
    sent(bench, batch([Row(None, b"order-7")]))
    found = attributes(bench.span())
    assert found["messaging.kafka.message.key"] == "order-7"
    assert found["messaging.kafka.message.tombstone"] is True
    assert "messaging.batch.message_count" not in found


def test_a_key_that_is_no_text_is_told_in_hex() -> None:
    bench = Bench()
    sent(bench, batch([Row(key=b"\xff\0")]))
    assert attributes(bench.span())["messaging.kafka.message.key"] == "ff00"


def test_every_partition_has_its_span_and_its_answer() -> None:
    bench = Bench()
    cause = bench.request()
    connection = bench.connect()
    answers = {ORDERS: (0, 5), ("orders", 3): (REFUSED, 0), ("audit", 0): (0, 9)}
    frame = connection.say(produce({each: batch(2) for each in answers}))
    connection.hear(produced(answers))
    told = {}
    for span in bench.spans:
        found = attributes(span)
        place = (str(found["messaging.destination.name"]),
                 int(str(found["messaging.destination.partition.id"])))  # fmt: skip
        told[place] = found.get("messaging.kafka.offset"), found.get("error.type")
        made = rows(sent_batches(frame)[place])
        assert {value(row, "traceparent")[36:52] for row in made} == {span.span_id.hex()}
        assert span.parent_id == cause.context.span_id
    assert told == {
        ORDERS: (5, None),
        ("orders", 3): (None, "INVALID_RECORD"),
        ("audit", 0): (9, None),
    }


def test_an_error_of_the_broker() -> None:
    bench = Bench()
    bench.connect().ask(produce(batch()), produced((REFUSED, 0)))
    span = bench.span()
    assert attributes(span)["error.type"] == "INVALID_RECORD"
    assert span.status == Status.ERROR
    assert dict(span.events[0].attributes)["exception.type"] == "INVALID_RECORD"


def test_a_batch_that_is_there_already_is_no_error() -> None:
    bench = Bench()
    bench.connect().ask(produce(batch(producer=Producer(9))), produced((46, 0)))
    assert bench.span().status == Status.UNSET


UNREACHABLE = [{"NodeId": 1, "Host": "kafka-1", "Port": 9092, "Rack": None}]


@pytest.mark.parametrize(
    "response",
    [
        sized(b"\0\0\0\1" + produced((0, 1), version=10)[8:-6]),
        produced((0, 1), version=10, NodeEndpoints=UNREACHABLE),
    ],
    ids=["malformed", "unreachable"],
)
def test_a_context_that_went_out_has_a_span_though_the_answer_is_of_no_use(
    response: bytes,
) -> None:
    bench = Bench()
    bench.ports.closed.add(1)
    connection = bench.connect()
    connection.say(produce(batch(), version=10))
    assert connection.hear(response) == response
    assert bench.span().status == Status.UNSET


def test_so_it_has_if_the_answer_is_too_large() -> None:
    bench = Bench(Kafka(frame_bytes=65536))
    connection = bench.connect()
    connection.say(produce(batch()))
    partitions = {("x" * 200, number): (0, 1) for number in range(3000)}
    connection.hear(produced(partitions), 4096)
    assert bench.events() == {("response_too_large", "Produce"): 1}
    assert bench.span().status == Status.UNSET


def test_without_acknowledgements_the_span_ends_at_once() -> None:
    bench = Bench()
    bench.connect().say(produce(batch(), acks=0))
    span = bench.span()
    assert span.end_ns == bench.now_ns
    assert "messaging.kafka.offset" not in attributes(span)


def test_without_a_request_in_flight_it_starts_a_trace() -> None:
    bench = Bench()
    (row,) = sent(bench, batch())
    span = bench.span()
    assert attributes(span)["meshproxy.propagation"] == "root"
    assert span.parent_id == b""
    assert value(row, "traceparent")[3:35] == span.trace_id.hex()
    assert bench.gap_counts() == {}


def test_between_two_requests_nothing_is_guessed() -> None:
    bench = Bench()
    causes = [bench.request(), bench.request()]
    sent(bench, batch())
    span = bench.span()
    assert attributes(span)["meshproxy.propagation"] == "ambiguous"
    assert set(linked_contexts(span)) == set(ids(*[cause.context for cause in causes]))
    assert span.trace_id not in {cause.context.trace_id for cause in causes}


# The records


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("transactional", [False, True])
def test_every_record_gets_the_context(codec: int, transactional: bool) -> None:
    bench = Bench()
    bench.request(tracestate="a=1", baggage=b"user=7")
    producer = Producer(4711, 3, 17)
    before = [
        Row(b"value " * 50, b"\x00\xff", ((b"id", b"1"), (b"empty", b""), (b"null", None))),
        Row(None, b"deleted", timestamp=1_600_000_000_123),
        Row(b"", None),
    ]
    made = batch(before, codec, producer=producer, transactional=transactional)
    connection = bench.connect()
    after = sent_batch(connection.say(produce(made, transactional_id="tx")))
    connection.hear(produced((0, 1)))
    span = bench.span()
    added = (
        (b"traceparent", b"00-%s-%s-01" % (span.trace_id.hex().encode(),
                                           span.span_id.hex().encode())),
        (b"tracestate", b"a=1"),
        (b"baggage", b"user=7"),
    )  # fmt: skip
    assert rows(after) == [row._replace(headers=(*row.headers, *added)) for row in before]
    assert same_head(made, after)
    assert bench.stats.messages["send", "orders", "injected"] == 3


def test_header_names_may_be_any_bytes() -> None:
    before = [Row(headers=((b"\xff\xfe", b"\x80"), (b"\xff\xfe", None))), Row(b"2")]
    made = odd_batch(before)
    after = odd_rows(sent_batch(Bench().connect().say(produce(made))))
    for was, row in zip(before, after, strict=True):
        assert row.headers[: len(was.headers)] == was.headers
        assert row.headers[len(was.headers)][0] == b"traceparent"


def test_the_records_of_an_unsampled_request_say_so() -> None:
    bench = Bench()
    bench.request(sampled=False)
    (row,) = sent(bench, batch())
    assert value(row, "traceparent").endswith("-00")
    assert not bench.spans


def test_an_error_is_told_though_it_is_not_sampled() -> None:
    always, followed = Bench(), Bench(config=sampled(errors="sampled"))
    for bench in (always, followed):
        bench.request(sampled=False)
        bench.connect().ask(produce(batch()), produced((REFUSED, 0)))
    assert len(always.spans) == 1
    assert not followed.spans


# Records that carry a context


def test_a_record_that_carries_a_context_keeps_it() -> None:
    bench = Bench()
    cause = bench.request(baggage=b"user=7")
    before = [Row(b"mine"), CARRYING, Row(b"mine too", headers=((b"B3", b"0"),)), Row(b"mine")]
    after = sent(bench, batch(before))
    span = bench.span()
    assert after[1:3] == before[1:3]
    for row in (after[0], after[3]):
        assert value(row, "traceparent")[36:52] == span.span_id.hex()
        assert value(row, "baggage") == "user=7"
    assert span.parent_id == cause.context.span_id
    counted = bench.stats.messages
    assert counted["send", "orders", "injected"] == counted["send", "orders", "carried"] == 2


def test_if_all_do_there_is_no_span_of_ours() -> None:
    """Whoever put the contexts there has made the spans."""
    bench = Bench()
    bench.request()
    made = batch([CARRYING] * 3, GZIP)
    connection = bench.connect()
    frame = produce(made)
    assert connection.say(frame) == frame
    connection.hear(produced((0, 1)))
    assert not bench.spans
    assert bench.stats.messages["send", "orders", "carried"] == 3


@pytest.mark.parametrize("header", [b"TraceParent", b"b3", b"x-b3-traceid", b"uber-trace-id"])
def test_a_context_may_have_any_format(header: bytes) -> None:
    bench = Bench()
    frame = produce(batch([Row(headers=((header, b"whatever"),))]))
    assert bench.connect().say(frame) == frame


def test_baggage_alone_is_no_context_and_stays_the_only_one() -> None:
    bench = Bench()
    bench.request(baggage=b"ours=1")
    (row,) = sent(bench, batch([Row(headers=((b"baggage", b"theirs=1"),))]))
    assert values(row, "baggage") == ["theirs=1"]
    assert values(row, "traceparent")


def test_a_context_of_the_request_in_flight_is_continued() -> None:
    bench = Bench()
    cause = bench.request()
    first = Row(headers=((b"traceparent", child_of_first_request()),))
    after = sent(bench, batch([first, Row(b"other")]))
    span = bench.span()
    assert (span.trace_id, span.parent_id) == (cause.context.trace_id, b"12345678")
    assert after[0] == first
    assert value(after[1], "traceparent")[36:52] == span.span_id.hex()


def child_of_first_request() -> bytes:
    """The context of a span that the service's SDK made."""
    child = numbered(1)
    child.span_id = b"12345678"
    return traceparent(child)


@pytest.mark.parametrize(("baggage", "gap"), [((), "baggage-lost"), ((b"user=7",), None)])
def test_baggage_that_such_a_context_has_lost(baggage: tuple[bytes, ...], gap: str | None) -> None:
    bench = Bench()
    bench.request(baggage=b"user=7")
    carried = ((b"traceparent", child_of_first_request()),)
    sent(bench, batch([Row(headers=carried + tuple((b"baggage", b) for b in baggage)), Row()]))
    assert attributes(bench.span()).get("meshproxy.gap") == gap


def test_a_context_that_is_not_continued_is_linked() -> None:
    bench = Bench()
    cause = bench.request()
    sent(bench, batch([CARRYING, Row()]))
    span = bench.span()
    assert span.parent_id == cause.context.span_id
    assert linked_contexts(span) == ids(numbered(500))
    assert attributes(span)["meshproxy.gap"] == "restarted"


@pytest.mark.parametrize(
    ("carried", "gap"),
    [
        ([(b"traceparent", b"rubbish")], "malformed"),
        ([(b"traceparent", CARRIED)] * 2, "duplicated"),
    ],
)
def test_a_context_that_does_not_count(carried: list[tuple[bytes, bytes]], gap: str) -> None:
    bench = Bench()
    bench.request()
    sent(bench, batch([Row(headers=tuple(carried)), Row()]))
    assert attributes(bench.span())["meshproxy.gap"] == gap


# One span a record


def test_per_record_each_has_its_span_its_context_and_its_offset() -> None:
    bench = Bench(Kafka(per_record=True))
    cause = bench.request()
    after = sent(bench, batch([Row(b"1", b"one"), Row(b"2", b"two"), Row(b"3", b"three")], GZIP))
    assert len(bench.spans) == 3
    assert [value(row, "traceparent")[36:52] for row in after] == [
        span.span_id.hex() for span in bench.spans
    ]
    told = [attributes(span) for span in bench.spans]
    assert [each["messaging.kafka.offset"] for each in told] == [42, 43, 44]
    assert [each["messaging.kafka.message.key"] for each in told] == ["one", "two", "three"]
    assert {span.parent_id for span in bench.spans} == {cause.context.span_id}
    assert not any("messaging.batch.message_count" in each for each in told)


# Topics that go by id


def test_topics_that_go_by_id_are_named_once_their_names_are_known() -> None:
    bench = Bench()
    bench.connect().ask(metadata(), metadata_answer(["orders"]))
    connection = bench.connect()
    frame = connection.say(produce(batch(), version=13))
    (made,) = sent_batches(frame, 13).values()
    assert values(rows(made)[0], "traceparent")
    connection.hear(produced((0, 7), version=13))
    span = bench.span()
    assert span.shape.name == "send orders"
    assert attributes(span)["messaging.kafka.offset"] == 7


def test_a_topic_may_be_named_before_the_answer_comes() -> None:
    bench = Bench()
    connection = bench.connect()
    connection.say(produce(batch(), version=13))
    bench.connect().ask(metadata(), metadata_answer(["orders"]))
    connection.hear(produced((0, 7), version=13))
    assert attributes(bench.span())["messaging.kafka.offset"] == 7


def test_until_then_their_ids_are_their_names() -> None:
    bench = Bench()
    bench.connect().ask(produce(batch(), version=13), produced((0, 7), version=13))
    assert bench.span().shape.name == f"send {topic_id('orders').hex()}"


def test_what_waits_for_its_answer_keeps_no_bytes() -> None:
    connection = Bench().connect()
    size, count = 50_000, 40
    tracemalloc.start()
    try:
        for number in range(count):
            connection.say(produce(batch([Row(bytes(size))]), number))
            connection.forget()
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < size * count / 4
