"""Found while testing."""

from __future__ import annotations

from filters.kafka.cluster import RETRY_NS
from filters.kafka.messages import MOST_LINKS
from meshproxy.config.model import Kafka
from tests.filters.bench import attributes
from tests.filters.kafka.batches import GZIP, Producer, Row, batch, rows, value
from tests.filters.kafka.bench import Bench, ids, linked_contexts, numbered, traceparent
from tests.filters.kafka.frames import (
    REFUSED,
    RETRIABLE,
    TOO_LARGE,
    answer,
    api_versions,
    fetch,
    fetched,
    metadata,
    metadata_answer,
    produce,
    produced,
    sent_batch,
    sized,
    unknown,
)
from tests.filters.kafka.test_passing import HEAVY, NOISE


def span_ids(frame: bytes) -> list[str]:
    return [value(row, "traceparent")[36:52] for row in rows(sent_batch(frame))]


def test_the_beginning_of_a_frame_goes_on_at_once_when_reading_is_given_up() -> None:
    connection = Bench().connect()
    data = sized(b"no") + metadata(1)[:9]
    assert connection.say(data) == data


def test_our_own_answers_are_given_though_reading_is_given_up() -> None:
    connection = Bench().connect()
    newer = api_versions(2, version=4)
    connection.say(unknown(1) + newer[:6] + b"\0\x09" + newer[8:])
    connection.say(sized(b"no"))
    connection.hear(answer(1))
    assert len(connection.client) > len(answer(1))


def test_a_batch_whose_checksum_is_wrong_is_not_made_right() -> None:
    made = bytearray(batch([Row(b"value")]))
    made[-3] ^= 1
    frame = produce(bytes(made))
    assert Bench().connect().say(frame) == frame


def test_a_part_of_a_batch_that_was_too_large_is_another_batch() -> None:
    """Java's producer splits it; the first part begins with the same sequence number."""
    bench = Bench()
    connection = bench.connect()
    whole = batch([Row(bytes(900))] * 4, producer=Producer(7, 0, 10))
    half = batch([Row(bytes(900))] * 2, producer=Producer(7, 0, 10))
    first = connection.ask(produce(whole, 1), produced((TOO_LARGE, 0), 1))
    second = connection.ask(produce(half, 2), produced((0, 42), 2))
    assert set(span_ids(first)) != set(span_ids(second))
    assert [attributes(span).get("messaging.kafka.offset") for span in bench.spans] == [None, 42]


def test_so_it_is_per_record() -> None:
    bench = Bench(Kafka(per_record=True))
    connection = bench.connect()
    whole = batch([Row(bytes(900))] * 4, producer=Producer(7, 0, 10))
    half = batch([Row(bytes(900))] * 2, producer=Producer(7, 0, 10))
    connection.ask(produce(whole, 1), produced((TOO_LARGE, 0), 1))
    connection.ask(produce(half, 2), produced((0, 42), 2))
    assert not bench.stats.filter_errors
    assert len(bench.spans) == 6


def test_equal_batches_without_acknowledgement_are_several() -> None:
    bench = Bench()
    connection = bench.connect()
    frames = [connection.say(produce(batch(), acks=0)) for _ in range(2)]
    assert len(bench.spans) == 2
    assert span_ids(frames[0]) != span_ids(frames[1])


def test_an_equal_batch_after_an_error_that_does_not_pass_is_another() -> None:
    bench = Bench()
    connection = bench.connect()
    first = connection.ask(produce(batch(), 1), produced((REFUSED, 0), 1))
    second = connection.ask(produce(batch(), 2), produced((0, 42), 2))
    assert span_ids(first) != span_ids(second)
    assert len(bench.spans) == 2


def test_a_topic_may_be_named_before_the_answer_comes() -> None:
    bench = Bench()
    connection = bench.connect()
    connection.say(produce(batch(), version=13))
    bench.connect().ask(metadata(), metadata_answer(["orders"]))
    connection.hear(produced((0, 7), version=13))
    assert attributes(bench.span())["messaging.kafka.offset"] == 7


def test_a_context_that_went_out_has_a_span_though_the_answer_cannot_be_read() -> None:
    bench = Bench()
    connection = bench.connect()
    connection.say(produce(batch()))
    connection.hear(sized(b"\0\0\0\1" + produced((0, 1))[8:-6]))
    connection.close()
    bench.now_ns += RETRY_NS
    bench.tick()
    assert len(bench.spans) == 1


def test_a_retry_that_is_worked_on_when_the_connection_ends_has_a_span() -> None:
    bench = Bench()
    bench.connect().ask(produce(HEAVY), produced((RETRIABLE, 0)))
    connection = bench.connect()
    connection.threads = False
    connection.say(produce(HEAVY))
    connection.close()
    bench.now_ns += RETRY_NS
    bench.tick()
    assert len(bench.spans) == 1


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


def test_a_frame_that_is_too_large_is_so_however_it_is_read() -> None:
    found = []
    for size in (0, 5000):
        bench = Bench(Kafka(frame_bytes=65536))
        connection = bench.connect()
        connection.say(produce(batch([Row(NOISE)])), size)
        found.append(bench.events())
    assert found[0] == found[1] == {("request_too_large", "0"): 1}
