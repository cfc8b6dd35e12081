"""A batch that is sent again is the same one: one span, one context."""

from __future__ import annotations

import pytest

from filters.kafka.cluster import MOST_BATCHES, RETRY_NS
from meshproxy.config.model import Kafka
from meshproxy.trace.span import Kind, Status
from tests.filters.bench import attributes
from tests.filters.kafka.batches import GZIP, HEAVY, Producer, Row, batch, rows, value
from tests.filters.kafka.bench import MILLISECOND, Bench
from tests.filters.kafka.frames import (
    ORDERS,
    REFUSED,
    RETRIABLE,
    TOO_LARGE,
    produce,
    produced,
    sent_batch,
)

PLAIN = batch(2)
IDEMPOTENT = batch(2, GZIP, producer=Producer(4711, 0, 10))
BOTH = pytest.mark.parametrize("made", [PLAIN, IDEMPOTENT], ids=["plain", "idempotent"])


def context(frame: bytes) -> str:
    """The span id that all records of a request carry."""
    (found,) = {value(row, "traceparent") for row in rows(sent_batch(frame))}
    return found[36:52]


@BOTH
def test_after_an_error_that_passes(made: bytes) -> None:
    bench = Bench()
    connection = bench.connect()
    first = connection.ask(produce(made, 1), produced((RETRIABLE, 0), 1))
    assert not bench.spans
    bench.wait(100)
    second = connection.ask(produce(made, 2), produced((0, 42), 2))
    assert first[12:] == second[12:]
    span = bench.span()
    assert (span.span_id.hex(), span.status) == (context(second), Status.UNSET)
    assert span.end_ns - span.start_ns == 100 * MILLISECOND
    found = attributes(span)
    assert found["messaging.kafka.offset"] == 42
    assert found["meshproxy.kafka.resend_count"] == 1


@BOTH
def test_after_the_connection_was_lost(made: bytes) -> None:
    bench = Bench()
    lost = bench.connect()
    first = lost.say(produce(made))
    lost.close()
    assert not bench.spans
    second = bench.connect(("10.0.0.10", 9092)).ask(produce(made, 5), produced((0, 42), 5))
    assert context(first) == context(second)
    assert attributes(bench.span())["messaging.kafka.offset"] == 42
    bench.wait(60_000)
    bench.tick()
    assert len(bench.spans) == 1


def test_an_idempotent_batch_may_go_out_again_before_the_first_is_lost() -> None:
    bench = Bench()
    first, second = bench.connect(), bench.connect()
    frames = first.say(produce(IDEMPOTENT)), second.say(produce(IDEMPOTENT))
    second.hear(produced((0, 42)))
    first.close()
    assert context(frames[0]) == context(frames[1])
    assert bench.span().status == Status.UNSET


def test_an_idempotent_batch_that_was_acknowledged_may_come_again() -> None:
    bench = Bench()
    connection = bench.connect()
    first = connection.ask(produce(IDEMPOTENT, 1), produced((0, 42), 1))
    second = connection.ask(produce(IDEMPOTENT, 2), produced((46, 0), 2))
    assert context(first) == context(second)
    assert len(bench.spans) == 1


def test_per_record_every_record_keeps_its_context() -> None:
    bench = Bench(Kafka(per_record=True))
    connection = bench.connect()
    first = connection.ask(produce(IDEMPOTENT, 1), produced((RETRIABLE, 0), 1))
    second = connection.ask(produce(IDEMPOTENT, 2), produced((0, 42), 2))
    assert first[12:] == second[12:]
    assert len(bench.spans) == 2


@BOTH
def test_an_error_that_does_not_pass_is_told_in_the_end(made: bytes) -> None:
    bench = Bench()
    connection = bench.connect()
    connection.say(produce(made))
    bench.wait(3)
    connection.hear(produced((RETRIABLE, 0)))
    failed_ns = bench.now_ns
    bench.now_ns = failed_ns + RETRY_NS - 1
    bench.tick()
    assert not bench.spans
    bench.now_ns += 1
    bench.tick()
    bench.tick()
    span = bench.span()
    assert attributes(span)["error.type"] == "NOT_LEADER_OR_FOLLOWER"
    assert (span.status, span.end_ns) == (Status.ERROR, failed_ns)


@BOTH
def test_what_was_sent_again_is_not_given_up(made: bytes) -> None:
    bench = Bench()
    connection = bench.connect()
    connection.ask(produce(made, 1), produced((RETRIABLE, 0), 1))
    bench.now_ns += RETRY_NS - 1
    connection.say(produce(made, 2))
    bench.wait(10)
    bench.tick()
    assert not bench.spans
    connection.hear(produced((0, 42), 2))
    assert bench.span().status == Status.UNSET


def test_so_is_a_lost_connection() -> None:
    bench = Bench()
    connection = bench.connect()
    connection.say(produce(PLAIN))
    connection.close()
    bench.now_ns += RETRY_NS
    bench.tick()
    assert attributes(bench.span())["error.type"] == "connection_lost"


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


def test_an_equal_batch_after_one_that_was_acknowledged_is_another() -> None:
    bench = Bench()
    connection = bench.connect()
    first = connection.ask(produce(PLAIN, 1), produced((0, 42), 1))
    second = connection.ask(produce(PLAIN, 2), produced((0, 44), 2))
    assert context(first) != context(second)
    assert [attributes(span)["messaging.kafka.offset"] for span in bench.spans] == [42, 44]


@pytest.mark.parametrize(
    "other",
    [
        produce({("orders", 1): IDEMPOTENT}),
        produce({("audit", 0): IDEMPOTENT}),
        produce(batch(2, GZIP, producer=Producer(4712, 0, 10))),
        produce(batch(2, GZIP, producer=Producer(4711, 1, 10))),
        produce(batch(2, GZIP, producer=Producer(4711, 0, 12))),
        produce(PLAIN),
    ],
    ids=["partition", "topic", "producer", "epoch", "sequence", "no producer"],
)
def test_batches_that_differ_in_any_of_these_are_not_the_same(other: bytes) -> None:
    bench = Bench()
    connection = bench.connect()
    first = connection.say(produce(IDEMPOTENT))
    assert context(first) != context(connection.say(other))


def test_equal_batches_without_acknowledgement_are_several() -> None:
    bench = Bench()
    connection = bench.connect()
    frames = [connection.say(produce(batch(), acks=0)) for _ in range(2)]
    assert len(bench.spans) == 2
    assert context(frames[0]) != context(frames[1])


def test_an_equal_batch_after_an_error_that_does_not_pass_is_another() -> None:
    bench = Bench()
    connection = bench.connect()
    first = connection.ask(produce(batch(), 1), produced((REFUSED, 0), 1))
    second = connection.ask(produce(batch(), 2), produced((0, 42), 2))
    assert context(first) != context(second)
    assert len(bench.spans) == 2


def test_a_part_of_a_batch_that_was_too_large_is_another_batch() -> None:
    """Java's producer splits it; the first part begins with the same sequence number."""
    bench = Bench()
    connection = bench.connect()
    whole = batch([Row(bytes(900))] * 4, producer=Producer(7, 0, 10))
    half = batch([Row(bytes(900))] * 2, producer=Producer(7, 0, 10))
    first = connection.ask(produce(whole, 1), produced((TOO_LARGE, 0), 1))
    second = connection.ask(produce(half, 2), produced((0, 42), 2))
    assert context(first) != context(second)
    assert [attributes(span).get("messaging.kafka.offset") for span in bench.spans] == [None, 42]


def test_so_it_is_per_record() -> None:
    bench = Bench(Kafka(per_record=True))
    connection = bench.connect()
    whole = batch([Row(bytes(900))] * 4, producer=Producer(7, 0, 10))
    half = batch([Row(bytes(900))] * 2, producer=Producer(7, 0, 10))
    connection.ask(produce(whole, 1), produced((TOO_LARGE, 0), 1))
    connection.ask(produce(half, 2), produced((0, 42), 2))
    assert not bench.errors
    assert len(bench.spans) == 6


def test_batches_without_a_number_differ_by_content() -> None:
    bench = Bench()
    connection = bench.connect()
    first = connection.ask(produce(batch([Row(b"1")])), produced((RETRIABLE, 0)))
    assert context(first) != context(connection.say(produce(batch([Row(b"2")]))))


def test_one_that_was_sent_as_it_was_is_sent_so_again() -> None:
    bench = Bench(Kafka(message_bytes=len(IDEMPOTENT)))
    connection = bench.connect()
    for number, error in enumerate((RETRIABLE, 0)):
        frame = produce(IDEMPOTENT, number)
        assert connection.ask(frame, produced((error, 42), number)) == frame
    assert bench.span().shape.kind is Kind.CLIENT


def test_of_many_batches_the_newest_are_remembered() -> None:
    bench = Bench()
    connection = bench.connect()

    def frame(sequence: int) -> bytes:
        return produce({ORDERS: batch(producer=Producer(1, 0, sequence))}, sequence)

    first = [context(connection.say(frame(number))) for number in range(2)]
    for number in range(2, MOST_BATCHES + 1):
        connection.say(frame(number))
    again = [context(connection.say(frame(number))) for number in (1, 0)]
    assert again[0] == first[1]
    assert again[1] != first[0]


def test_an_equal_batch_of_another_request_is_another_one() -> None:
    """Two of the same content in one millisecond, and neither has failed."""
    bench = Bench()
    connection = bench.connect()
    frames = []
    for number in (1, 2):
        cause = bench.request()
        frames.append(connection.say(produce(PLAIN, number)))
        bench.end(cause)
    assert context(frames[0]) != context(frames[1])
    for number in (1, 2):
        connection.hear(produced((0, 40 + number), number))
    assert [attributes(span)["messaging.kafka.offset"] for span in bench.spans] == [41, 42]
    assert not any("meshproxy.kafka.resend_count" in attributes(span) for span in bench.spans)


def test_other_content_with_the_same_sequence_number_is_another_batch() -> None:
    bench = Bench()
    connection = bench.connect()
    for number, made in enumerate((IDEMPOTENT, batch(3, GZIP, producer=Producer(4711, 0, 10)))):
        connection.ask(produce(made, number), produced((REFUSED, 0), number))
    assert len(bench.spans) == 2


@BOTH
@pytest.mark.parametrize("error", [45, 59])
def test_what_idempotent_producers_try_again(made: bytes, error: int) -> None:
    """A batch behind one that failed, which comes out of order until that was sent again."""
    bench = Bench()
    connection = bench.connect()
    connection.ask(produce(made, 1), produced((error, 0), 1))
    assert len(bench.spans) == (made is PLAIN)
    connection.ask(produce(made, 2), produced((0, 42), 2))
    span = bench.spans[-1]
    assert (span.status, attributes(span)["messaging.kafka.offset"]) == (Status.UNSET, 42)
