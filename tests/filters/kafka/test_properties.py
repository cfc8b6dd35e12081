"""For any records, and for any bytes at all."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from meshproxy.config.model import Kafka
from tests.filters.kafka.batches import (
    CODECS,
    GZIP,
    NOBODY,
    Producer,
    Row,
    batch,
    checked,
    rows,
    same_head,
)
from tests.filters.kafka.bench import START_NS, Bench, Connection, numbered, traceparent
from tests.filters.kafka.frames import (
    answer,
    body,
    fetch,
    fetched,
    heartbeat,
    heartbeat_answer,
    metadata,
    metadata_answer,
    offset_commit,
    produce,
    produced,
    sent_batches,
    unknown,
)

ADDED = {b"traceparent", b"tracestate", b"baggage"}
CARRIED = (b"traceparent", traceparent(numbered(9)))

names = st.sampled_from([b"id", b"", b"baggage", b"x-request-id", "schlüssel".encode()])
headers = st.lists(st.tuples(names, st.none() | st.binary(max_size=20)), max_size=4)
contexts = st.lists(st.just(CARRIED), max_size=1)
contents = st.none() | st.binary(max_size=30) | st.just(b"long " * 3000)
times = st.integers(0, 2 * START_NS // 1_000_000)
records = st.builds(
    lambda value, key, others, context, time: Row(value, key, (*others, *context), time),
    contents, st.none() | st.binary(max_size=20), headers, contexts, times,
)  # fmt: skip
producers = st.just(NOBODY) | st.builds(
    Producer, st.integers(0, 2**62), st.integers(0, 2**15 - 1), st.integers(0, 2**31 - 1)
)
batches = st.builds(
    lambda found, codec, producer, transactional: batch(
        found, codec, producer=producer, transactional=transactional
    ),
    st.lists(records, min_size=1, max_size=5), st.sampled_from(CODECS), producers, st.booleans(),
)  # fmt: skip
partitions = st.tuples(st.sampled_from(["orders", "audit", "bücher"]), st.integers(0, 3))
requests = st.dictionaries(partitions, st.none() | batches, max_size=4)


@settings(max_examples=60, deadline=None)
@given(
    requests, st.integers(3, 13), st.sampled_from([0, 1, -1]), st.booleans(), st.booleans(),
    st.none() | st.just("tx"),
)  # fmt: skip
def test_a_request_is_the_same_but_for_added_headers(
    found: dict[tuple[str, int], bytes | None],
    version: int,
    acks: int,
    per_record: bool,
    in_flight: bool,
    transactional_id: str | None,
) -> None:
    bench = Bench(Kafka(per_record=per_record))
    if in_flight:
        bench.request(tracestate="a=1", baggage=b"user=7")
    connection = bench.connect()
    frame = produce(found, version=version, acks=acks, transactional_id=transactional_id)
    passed = connection.say(frame)
    before, after = (body(each, "ProduceRequest", version) for each in (frame, passed))
    old, new = (sent_batches(each, version) for each in (frame, passed))
    for partition, made in old.items():
        if made is None:
            assert new[partition] is None
            continue
        assert same_head(made, new[partition])
        for was, now in zip(rows(made), rows(new[partition]), strict=True):
            assert now[:2] == was[:2]
            assert now.timestamp == was.timestamp
            assert now.headers[: len(was.headers)] == was.headers
            added = [name for name, _ in now.headers[len(was.headers) :]]
            assert set(added) <= ADDED
            assert len(set(added)) == len(added)
            assert (b"traceparent" in added) is (CARRIED not in was.headers)
    assert without_records(before) == without_records(after)


def without_records(request: object) -> object:
    """All of a request but its records."""
    if isinstance(request, dict):
        return {name: without_records(each) for name, each in request.items() if name != "records"}
    if isinstance(request, list):
        return [without_records(each) for each in request]
    return request


# Any bytes

PLAIN = batch([Row(b"value", b"key", ((b"id", b"1"),)), Row(b"2")])
CONTENT = Row(b"value", b"key", ((b"id", b"1"), CARRIED))
SAID = b"".join([
    unknown(1), produce(PLAIN, 2), fetch(3), produce(PLAIN, 4, acks=0), heartbeat("g", 5),
    offset_commit(3, 6), produce(batch(3, GZIP), 7, version=3), metadata(8), fetch(9, version=17),
])  # fmt: skip
HEARD = b"".join([
    answer(1), produced((0, 1), 2), fetched(PLAIN + batch(20, GZIP), 3), heartbeat_answer(5),
    answer(6), produced((6, 0), 7, version=3),
    metadata_answer(["orders"], {1: ("kafka-1", 9092)}, 8), fetched(PLAIN, 9, version=17),
])  # fmt: skip


def damaged(data: bytes, changes: list[tuple[int, bytes, int]]) -> bytes:
    """At each place some bytes are taken out, and others put in."""
    made = bytearray(data)
    for place, put, taken in changes:
        at = place % (len(made) + 1)
        made[at : at + taken] = put
    return bytes(made)


changes = st.lists(
    st.tuples(st.integers(0, 5000), st.binary(max_size=4), st.integers(0, 4)), max_size=4
)
sizes = st.sampled_from([0, 0, 50, 333])


def through() -> Connection:
    """A connection on which nothing has to be changed."""
    bench = Bench(Kafka(consumer_spans=True), trust="edge")
    bench.ports.local = lambda server, destination: destination  # type: ignore[method-assign]
    return bench.connect()


def ended(connection: Connection) -> None:
    connection.end_client()
    connection.end_upstream()
    connection.close()


def test_the_conversation_that_is_damaged_is_a_good_one() -> None:
    connection = through()
    assert connection.say(SAID) == SAID
    assert connection.hear(HEARD) == HEARD
    assert connection.talk.quiet


@settings(max_examples=150, deadline=None)
@given(changes, changes, sizes, sizes)
def test_whatever_is_damaged_passes_as_it_is(
    in_said: list[tuple[int, bytes, int]],
    in_heard: list[tuple[int, bytes, int]],
    said_size: int,
    heard_size: int,
) -> None:
    connection = through()
    said, heard = damaged(SAID, in_said), damaged(HEARD, in_heard)
    connection.say(said, said_size)
    connection.hear(heard, heard_size)
    ended(connection)
    assert connection.upstream == said
    assert connection.client == heard


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.binary(max_size=60)), max_size=6))
def test_so_does_what_is_no_kafka_at_all(turns: list[tuple[bool, bytes]]) -> None:
    connection = through()
    for to_broker, data in turns:
        if to_broker:
            connection.say(data)
        else:
            connection.hear(data)
    ended(connection)
    assert connection.upstream == b"".join(data for to_broker, data in turns if to_broker)
    assert connection.client == b"".join(data for to_broker, data in turns if not to_broker)


@settings(max_examples=80, deadline=None)
@given(changes, sizes)
def test_what_is_damaged_raises_nothing_where_headers_are_added(
    in_said: list[tuple[int, bytes, int]], size: int
) -> None:
    bench = Bench(Kafka(per_record=True))
    bench.request()
    connection = bench.connect()
    connection.say(damaged(SAID, in_said), size)
    connection.hear(HEARD)
    ended(connection)
    assert not bench.errors
    assert len(connection.upstream) >= len(damaged(SAID, in_said)) * 0.9


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(CODECS), changes, st.booleans())
def test_so_do_records_that_only_their_checksum_is_right_of(
    codec: int, in_records: list[tuple[int, bytes, int]], per_record: bool
) -> None:
    """They come to be read, since nothing before them tells that they are damaged."""
    bench = Bench(Kafka(per_record=per_record, consumer_spans=True))
    made = batch([CONTENT, Row(b"2"), CONTENT], codec)
    made = checked(made[:61] + damaged(made[61:], in_records))
    connection = bench.connect()
    passed = connection.say(produce(made))
    if not bench.stats.messages["send", "orders", "injected"]:
        assert passed == produce(made)
    connection.hear(produced((0, 1)))
    connection.say(fetch(2))
    assert connection.hear(fetched(made, 2)) == fetched(made, 2)
    ended(connection)
    assert not bench.errors
