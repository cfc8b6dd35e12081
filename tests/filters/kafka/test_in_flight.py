"""What was consumed is in flight: what the service does then may be caused by it."""

from __future__ import annotations

import pytest

from filters.kafka.cluster import HANDLED_NS
from filters.kafka.conversation import READ_AT_ONCE
from filters.kafka.messages import FEW
from meshproxy.linking.call import Call, Decision
from meshproxy.trace.context import SpanContext
from tests.filters.bench import attributes
from tests.filters.kafka.batches import Row, batch
from tests.filters.kafka.bench import Bench, Connection, ids, linked_contexts, numbered, traceparent
from tests.filters.kafka.frames import (
    ORDERS,
    fetch,
    fetched,
    metadata,
    metadata_answer,
    offset_commit,
    produce,
    produced,
    txn_offset_commit,
)


def carrying(number: int, *more: tuple[bytes, bytes]) -> Row:
    return Row(headers=((b"traceparent", traceparent(numbered(number))), *more))


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def connection(bench: Bench) -> Connection:
    return bench.connect()


def give(
    connection: Connection, *rows: Row, offset: int = 0, partition: tuple[str, int] = ORDERS
) -> None:
    """The consumer is given these."""
    connection.ask(fetch(), fetched({partition: batch(rows, base_offset=offset)}))


def linked(decision: Decision) -> list[tuple[bytes, bytes]]:
    """What a call continues."""
    assert decision.parent is not None
    return ids(decision.parent)


def candidates(decision: Decision) -> set[tuple[bytes, bytes]]:
    assert decision.parent is None
    return set(ids(*[each.cause.context for each in decision.candidates]))


def test_a_call_is_caused_by_the_one_message(bench: Bench, connection: Connection) -> None:
    give(connection, carrying(1))
    decision = bench.call()
    assert linked(decision) == ids(numbered(1))
    assert decision.cause is not None
    assert decision.cause.route == "receive orders"


def test_so_is_a_message_that_is_sent_on(bench: Bench, connection: Connection) -> None:
    give(connection, carrying(1, (b"baggage", b"user=7")))
    sender = bench.connect()
    sender.ask(produce({("parcels", 0): batch()}), produced({("parcels", 0): (0, 1)}))
    span = bench.spans[-1]
    assert [(span.trace_id, span.parent_id)] == ids(numbered(1))
    assert b"user=7" in sender.upstream


def test_between_two_messages_nothing_is_guessed(bench: Bench, connection: Connection) -> None:
    give(connection, carrying(1), carrying(2))
    decision = bench.call()
    assert decision.propagation == "ambiguous"
    assert candidates(decision) == set(ids(numbered(1), numbered(2)))


def test_unless_one_is_known_by_its_id(bench: Bench, connection: Connection) -> None:
    give(connection, carrying(1), carrying(2, (b"X-Correlation-Id", b"c0ffee-42")))
    decision = bench.call(ids=[b"c0ffee-42"])
    assert linked(decision) == ids(numbered(2))
    assert decision.evidence == "request_id"


def test_a_message_without_context_is_below_the_fetch(bench: Bench, connection: Connection) -> None:
    give(connection, Row())
    span = bench.span()
    assert linked(bench.call()) == [(span.trace_id, span.span_id)]


def test_many_messages_count_as_one(bench: Bench, connection: Connection) -> None:
    give(connection, *map(carrying, range(FEW + 1)))
    span = bench.span()
    decision = bench.call()
    assert linked(decision) == [(span.trace_id, span.span_id)]
    assert len(linked_contexts(span)) == FEW + 1


def test_so_they_do_in_several_batches(bench: Bench, connection: Connection) -> None:
    records = b"".join(
        batch([carrying(10 * at), carrying(10 * at + 1)], base_offset=2 * at) for at in range(5)
    )
    connection.ask(fetch(), fetched(records))
    span = bench.span()
    assert linked(bench.call()) == [(span.trace_id, span.span_id)]
    connection.say(offset_commit(9))
    assert not bench.inflight.idle
    connection.say(offset_commit(10))
    assert bench.inflight.idle


def test_as_many_as_are_told_apart(bench: Bench, connection: Connection) -> None:
    give(connection, *map(carrying, range(FEW)))
    assert candidates(bench.call()) == set(ids(*map(numbered, range(FEW))))


# When they are done with


@pytest.mark.parametrize("version", [2, 5, 8, 10])
def test_what_was_committed_is_done(bench: Bench, connection: Connection, version: int) -> None:
    bench.connect().ask(metadata(), metadata_answer(["orders"]))
    give(connection, carrying(1), carrying(2), offset=5)
    bench.connect(("coordinator", 9092)).say(offset_commit(6, version=version))
    assert linked(bench.call()) == ids(numbered(2))
    connection.say(offset_commit(7, version=version))
    assert bench.inflight.idle
    assert bench.call().propagation == "root"


def test_in_a_transaction_too(bench: Bench, connection: Connection) -> None:
    give(connection, carrying(1))
    connection.say(txn_offset_commit(1))
    assert bench.inflight.idle


def test_only_of_the_partition_that_is_committed(bench: Bench, connection: Connection) -> None:
    give(connection, carrying(1))
    give(connection, carrying(2), partition=("orders", 1))
    connection.say(offset_commit({("orders", 1): 1, ("audit", 0): 9}))
    assert linked(bench.call()) == ids(numbered(1))


def test_what_is_never_committed_is_done_some_day(bench: Bench, connection: Connection) -> None:
    give(connection, carrying(1))
    bench.wait(5000)
    give(connection, carrying(2), offset=1)
    bench.wait(HANDLED_NS // 1_000_000 - 5001)
    bench.tick()
    assert candidates(bench.call()) == set(ids(numbered(1), numbered(2)))
    bench.wait(1)
    bench.tick()
    assert linked(bench.call()) == ids(numbered(2))
    bench.wait(5000)
    bench.tick()
    assert bench.inflight.idle
    connection.say(offset_commit(2))
    bench.tick()
    assert bench.inflight.idle


def test_all_that_was_begun_is_ended(bench: Bench, connection: Connection) -> None:
    for number in range(50):
        give(connection, *map(carrying, range(number % 12 + 1)), offset=100 * number)
        if number % 3 == 0:
            connection.say(offset_commit(100 * number - 50))
    connection.say(offset_commit(100 * 50))
    assert len(bench.inflight) == bench.inflight.unregistered == 0


def test_how_many_messages_are_in_flight_is_counted() -> None:
    bench = Bench()
    connection = bench.connect()
    connection.ask(fetch(), fetched(batch([Row(b"one"), Row(b"two")])))
    assert bench.stats.messages_in_flight == len(bench.inflight) == 2
    bench.now_ns += HANDLED_NS
    bench.tick()
    assert bench.stats.messages_in_flight == len(bench.inflight) == 0


def test_one_id_may_stand_in_several_headers(bench: Bench, connection: Connection) -> None:
    same = (b"x-request-id", b"abc"), (b"x-correlation-id", b"abc"), (b"x-request-id", b"abc")
    give(connection, Row(headers=same))
    give(connection, Row(headers=same), offset=1)
    assert bench.stats.messages_in_flight == 2
    commit = offset_commit({ORDERS: 2})
    assert connection.say(commit) == commit
    assert bench.stats.messages_in_flight == len(bench.inflight) == 0


@pytest.mark.parametrize("count", [1, FEW, FEW + 1, 200])
def test_a_service_that_passes_contexts_on_is_left_alone(count: int) -> None:
    """Its calls carry the traces of its messages, of many as of few; also of those not told."""
    bench = Bench()
    give(bench.connect(), *[carrying(number) for number in range(1, count + 1)])
    for number in (1, count):
        call = Call(now_ns=bench.now_ns, destination="pricing", operation="GET")
        call.context = SpanContext(numbered(number).trace_id, b"sdk span", 1)
        call.w3c = True
        decision = bench.linker.link(call)
        assert (decision.propagation, decision.gap) == ("ok", None)
        assert decision.parent is call.context


def test_who_goes_back_and_commits_is_done_with_just_that(
    bench: Bench, connection: Connection
) -> None:
    for offset in (100, 101, 50, 51):
        give(connection, carrying(offset), offset=offset)
    connection.say(offset_commit({ORDERS: 52}))
    assert bench.stats.messages_in_flight == 2
    connection.say(offset_commit({ORDERS: 102}))
    assert bench.stats.messages_in_flight == 0


def test_a_large_fetch_is_read_bit_by_bit(bench: Bench, connection: Connection) -> None:
    size = 1000
    made = b"".join(
        batch([Row(bytes(size)) for _ in range(500)], base_offset=500 * number)
        for number in range(8)
    )
    connection.say(fetch())
    connection.talk.from_upstream(fetched(made), bench.now_ns)
    turns = 0
    while not turns or connection.talk.more:
        connection.talk.passed(bench.now_ns)
        turns += 1
    assert 1 + 8 * 500 * size // READ_AT_ONCE <= turns + 1 < 8
    (span,) = bench.spans
    assert attributes(span)["messaging.batch.message_count"] == 4000


def test_of_who_left_nothing_more_is_read(bench: Bench, connection: Connection) -> None:
    made = b"".join(batch([Row(bytes(2**20))], base_offset=number) for number in range(4))
    connection.say(fetch())
    connection.talk.from_upstream(fetched(made), bench.now_ns)
    connection.talk.passed(bench.now_ns)
    assert connection.talk.more
    connection.talk.client_ended(bench.now_ns)
    assert not connection.talk.more
    assert bench.events()["fetch_unread", ""] == 1
    assert not bench.spans
