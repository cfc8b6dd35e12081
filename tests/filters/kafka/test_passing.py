"""Whatever comes passes: every frame, in its order, unchanged but for what has to be."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshproxy.config.model import Config, Kafka, Sampling
from tests.filters.kafka.batches import GZIP, HEAVY, NOISE, Row, batch
from tests.filters.kafka.bench import Bench, Connection
from tests.filters.kafka.frames import (
    answer,
    api_versions,
    api_versions_answer,
    fetch,
    fetched,
    heartbeat,
    heartbeat_answer,
    metadata,
    metadata_answer,
    offset_commit,
    produce,
    produced,
    sasl_handshake,
    sasl_handshake_answer,
    sent_batch,
    sized,
    unknown,
)

LARGE = Kafka(frame_bytes=65536)
REWRITTEN = metadata_answer(brokers={1: ("kafka-1", 9092)}, correlation=77)


def understands(connection: Connection) -> bool:
    """Whether addresses are still replaced."""
    assert connection.say(metadata(77)) == metadata(77)
    heard = connection.hear(REWRITTEN)
    return heard != REWRITTEN and len(heard) == int.from_bytes(heard[:4], "big") + 4


# Frames


def test_what_is_not_understood_passes_as_it_is() -> None:
    connection = Bench().connect()
    for number, frame in enumerate((unknown(1), heartbeat("g", 2), offset_commit(3, 3)), 1):
        assert connection.say(frame) == frame
        assert connection.hear(answer(number)) == answer(number)
    assert understands(connection)


def test_requests_may_come_before_others_are_answered() -> None:
    connection = Bench().connect()
    frames = [unknown(1), metadata(2), produce(batch(), 3), fetch(4), unknown(5)]
    for frame in frames:
        connection.say(frame)
    responses = [
        answer(1),
        metadata_answer(correlation=2),
        produced((0, 1), 3),
        fetched(b"", 4),
        answer(5),
    ]
    for response in responses:
        assert connection.hear(response) == response
    assert connection.talk.quiet


REQUESTS = b"".join([
    api_versions(1), metadata(2), produce(batch(3), 3), produce(batch(2, GZIP), 4, acks=0),
    fetch(5, version=16), unknown(6), produce(batch([Row(NOISE)]), 7), heartbeat("g", 8),
    produce(HEAVY, 9), unknown(10, NOISE),
])  # fmt: skip
RESPONSES = b"".join([
    api_versions_answer({0: (0, 99), 1: (4, 99), 18: (0, 99)}, 1),
    metadata_answer(["orders"], {1: ("kafka-1", 9092), 12: ("kafka-12", 9092)}, 2),
    produced((0, 5), 3),
    fetched(batch(4), 5, version=16, NodeEndpoints=[
        {"NodeId": 1, "Host": "kafka-1", "Port": 9092, "Rack": None}]),
    answer(6, NOISE), produced((0, 6), 7), heartbeat_answer(8), produced((0, 7), 9), answer(10),
])  # fmt: skip


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def passed(requests: int, responses: int) -> tuple[str, str, int, dict[tuple[str, str], int]]:
    """What came of it when it was read in pieces of these sizes: digests, spans, events."""
    bench = Bench(LARGE)
    connection = bench.connect()
    connection.say(REQUESTS, requests)
    connection.hear(RESPONSES, responses)
    return digest(connection.upstream), digest(connection.client), len(bench.spans), bench.events()


USUAL = passed(4096, 4096)


def test_the_conversation_that_is_cut_up_is_a_good_one() -> None:
    assert USUAL[0] != digest(REQUESTS)
    assert USUAL[1] != digest(RESPONSES)
    assert USUAL[3] == {("request_too_large", "Produce"): 1, ("request_too_large", "other"): 1,
                        ("response_too_large", "other"): 1}  # fmt: skip
    assert USUAL[2] == 4  # three batches, of which one without an answer, and what was fetched


@settings(max_examples=30, deadline=None)
@given(st.integers(20, 65_000), st.integers(20, 65_000))
def test_it_does_not_matter_how_the_bytes_are_read(requests: int, responses: int) -> None:
    assert passed(requests, responses) == USUAL


@pytest.mark.parametrize("size", [1, 3])
def test_nor_if_they_come_one_by_one(size: int) -> None:
    def run(size: int) -> tuple[bytes, bytes]:
        connection = Bench().connect()
        connection.say(metadata(1) + produce(batch(2), 2) + fetch(3), size)
        connection.hear(REWRITTEN[:4] + b"\0\0\0\1" + REWRITTEN[8:] + produced((0, 1), 2), size)
        connection.hear(fetched(batch(2), 3), size)
        return connection.upstream, connection.client

    assert run(size) == run(0)


def test_without_acknowledgements_no_answer_is_waited_for() -> None:
    bench = Bench()
    connection = bench.connect()
    for number in range(100):
        connection.say(produce(batch(), number, acks=0))
    assert connection.talk.quiet
    assert understands(connection)
    assert not bench.events()


def test_half_a_frame_passes_when_its_sender_ends() -> None:
    connection = Bench().connect()
    frame = produce(batch())
    assert connection.say(frame[:50]) == b""
    connection.end_client()
    assert connection.upstream == frame[:50]
    response = metadata_answer()
    assert connection.hear(response[:11]) == b""
    connection.end_upstream()
    assert connection.client == response[:11]


def test_it_is_quiet_while_nothing_is_under_way() -> None:
    connection = Bench().connect()
    assert connection.talk.quiet
    connection.say(unknown(1))
    assert not connection.talk.quiet
    connection.hear(answer(1))
    assert connection.talk.quiet


def test_a_new_configuration_counts_for_connections_that_are_open() -> None:
    bench = Bench()
    connection = bench.connect()
    connection.ask(produce(batch([Row(b"1")])), produced((0, 1)))
    bench.reload(Config(sampling=Sampling(default=0.0)))
    connection.talk.renew(bench.filter)
    connection.ask(produce(batch([Row(b"2")])), produced((0, 2)))
    assert len(bench.spans) == 1


# Frames that are too large


@pytest.mark.parametrize("acks", [0, -1])
def test_a_request_that_is_too_large_streams_through(acks: int) -> None:
    bench = Bench(LARGE)
    connection = bench.connect()
    frame = produce(batch([Row(NOISE)]), acks=acks)
    assert connection.say(frame[:5000]) == frame[:5000]
    assert connection.say(frame[5000:]) == frame[5000:]
    if acks:
        assert not connection.talk.quiet
        assert connection.hear(produced((0, 1))) == produced((0, 1))
    assert connection.talk.quiet
    assert understands(connection)
    assert bench.events() == {("request_too_large", "Produce"): 1}
    assert not bench.spans


def test_a_response_that_is_too_large_streams_through() -> None:
    bench = Bench(LARGE)
    connection = bench.connect()
    connection.say(fetch(1) + metadata(2))
    response = fetched(batch([Row(NOISE)]))
    assert connection.hear(response[:5000]) == response[:5000]
    last = metadata_answer(brokers={1: ("kafka-1", 9092)}, correlation=2)
    heard = connection.hear(response[5000:] + last)
    assert heard[: len(response) - 5000] == response[5000:]
    assert heard[len(response) - 5000 :] != last
    assert bench.events() == {("response_too_large", "Fetch"): 1}
    assert not bench.spans


def test_a_frame_that_is_too_large_is_so_however_it_is_read() -> None:
    found = []
    for size in (0, 5000):
        bench = Bench(LARGE)
        connection = bench.connect()
        connection.say(produce(batch([Row(NOISE)])), size)
        found.append(bench.events())
    assert found[0] == found[1] == {("request_too_large", "Produce"): 1}


# Frames that are not what they should be

GARBAGE = {
    "a negative size": b"\xff\xff\xff\xff and more",
    "no header": sized(b"no"),
    "a client id that is longer than the frame": sized(b"\0\3\0\0\0\0\0\1\x7f\xffapp"),
    "an HTTP request": b"GET / HTTP/1.1\r\nHost: kafka\r\n\r\n" + bytes(5000),
    "Produce of the future": sized(b"\0\0\0\x63\0\0\0\1\0\3app" + bytes(50)),
}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
@pytest.mark.parametrize("size", [0, 7])
def test_after_what_is_no_request_everything_passes_unread(garbage: bytes, size: int) -> None:
    bench = Bench()
    connection = bench.connect()
    connection.say(unknown(1))
    more = produce(batch(), 5) + metadata(6)
    heard = answer(1) + REWRITTEN + b"whatever"
    sent = connection.say(garbage + more, size)
    assert sent == garbage + more
    assert connection.hear(heard, size) == heard
    assert bench.events()["opaque", ""] == 1
    assert not connection.talk.quiet
    assert not bench.spans


def test_answers_to_what_was_asked_before_are_still_understood() -> None:
    connection = Bench().connect()
    newer = api_versions(2, version=4)
    connection.say(metadata(77) + newer[:6] + b"\0\x09" + newer[8:] + produce(batch(), 3))
    connection.say(sized(b"no"))
    heard = connection.hear(REWRITTEN)
    assert heard[: len(REWRITTEN)] != REWRITTEN
    assert b"\0\0\0\2\0\x23" in heard  # our own answer
    assert connection.hear(produced((0, 1), 3)) == produced((0, 1), 3)
    assert connection.hear(REWRITTEN) == REWRITTEN


def test_the_beginning_of_a_frame_goes_on_at_once_when_reading_is_given_up() -> None:
    connection = Bench().connect()
    data = sized(b"no") + metadata(1)[:9]
    assert connection.say(data) == data


def test_a_produce_request_that_is_broken_passes_and_the_next_is_understood() -> None:
    bench = Bench()
    connection = bench.connect()
    frame = produce(batch())
    broken = sized(frame[4:-40])
    assert connection.say(broken) == broken
    assert connection.hear(produced((0, 1))) == produced((0, 1))
    sent = connection.say(produce(batch(), 2))
    assert sent != produce(batch(), 2)
    assert sent_batch(sent)
    assert bench.events() == {("request_unparsed", "Produce"): 1}


@pytest.mark.parametrize(
    ("request_", "response", "key"),
    [
        (metadata(1), REWRITTEN[:8], "Metadata"),
        (produce(batch()), produced((0, 1)), "Produce"),
        (api_versions(1), api_versions_answer({0: (0, 99)}), "ApiVersions"),
        (fetch(1), fetched(batch()), "Fetch"),
    ],
    ids=["Metadata", "Produce", "ApiVersions", "Fetch"],
)
def test_a_response_that_is_broken_passes_and_the_next_is_understood(
    request_: bytes, response: bytes, key: str
) -> None:
    bench = Bench()
    connection = bench.connect()
    connection.say(request_)
    broken = sized(b"\0\0\0\1" + response[8:-6])
    assert connection.hear(broken) == broken
    assert bench.events() == {("response_unparsed", key): 1}
    assert understands(connection)


@pytest.mark.parametrize("response", [answer(2), sized(b"no"), b"\xff" * 9])
def test_after_an_answer_to_nothing_everything_passes_unread(response: bytes) -> None:
    bench = Bench()
    connection = bench.connect()
    connection.say(metadata(1) + produce(batch(), 2)[:30])
    assert connection.hear(response + REWRITTEN[:9]) == response + REWRITTEN[:9]
    assert connection.upstream == metadata(1) + produce(batch(), 2)[:30]
    assert connection.hear(REWRITTEN[9:]) == REWRITTEN[9:]
    assert connection.say(produce(batch(), 2)[30:]) == produce(batch(), 2)[30:]
    assert bench.events()["opaque", ""] == 1


def test_an_answer_that_nobody_asked_for() -> None:
    bench = Bench()
    assert bench.connect().hear(answer(0)) == answer(0)
    assert bench.events() == {("out_of_step", ""): 1, ("opaque", ""): 1}


# Work in a thread


def test_what_comes_after_a_heavy_batch_waits_for_it() -> None:
    bench = Bench()
    connection = bench.connect()
    connection.threads = False
    first, last = unknown(1), unknown(3)
    assert connection.say(first + produce(HEAVY, 2) + last + b"\0\0") == first
    assert not connection.talk.quiet
    assert connection.hear(answer(1)) == answer(1)
    connection.finish_work()
    assert connection.worked == 2
    sent = connection.upstream[len(first) : -len(last)]
    assert len(sent_batch(sent)) > len(HEAVY)
    assert connection.upstream[-len(last) :] == last
    assert connection.hear(produced((0, 9), 2) + answer(3)) == produced((0, 9), 2) + answer(3)
    assert len(bench.spans) == 1


def test_two_heavy_batches_go_one_after_the_other() -> None:
    bench = Bench()
    connection = bench.connect()
    connection.threads = False
    other = batch([Row(NOISE[40_000:80_000])], GZIP)
    assert connection.say(produce(HEAVY, 1) + produce(other, 2)) == b""
    connection.finish_work()
    assert connection.worked == 4
    size = 4 + int.from_bytes(connection.upstream[:4], "big")
    frames = connection.upstream[:size], connection.upstream[size:]
    assert [int.from_bytes(each[8:12], "big") for each in frames] == [1, 2]
    connection.hear(produced((0, 1), 1) + produced((0, 2), 2))
    assert len(bench.spans) == 2


def test_batches_that_are_light_or_not_compressed_need_no_thread() -> None:
    connection = Bench().connect()
    connection.say(produce(batch([Row(NOISE)]), 1) + produce(batch(100, GZIP), 2))
    assert connection.worked == 0


def test_nothing_is_lost_if_reading_is_given_up_while_there_is_work() -> None:
    connection = Bench().connect()
    connection.threads = False
    later = unknown(2) + metadata(3)[:9]
    assert connection.say(produce(HEAVY, 1) + later) == b""
    assert connection.hear(answer(99)) == answer(99)
    connection.finish_work()
    more = connection.say(metadata(3)[9:])
    assert more == metadata(3)[9:]
    assert connection.upstream.endswith(later + more)
    sent = connection.upstream[: -len(later + more)]
    assert len(sent) == 4 + int.from_bytes(sent[:4], "big")
    assert sent_batch(sent)


def test_a_heavy_batch_that_cannot_be_read_passes_in_its_turn() -> None:
    bench = Bench()
    connection = bench.connect()
    connection.threads = False
    broken = HEAVY[:61] + NOISE[: len(HEAVY) - 61]
    frames = produce(broken, 1) + unknown(2)
    connection.say(frames)
    connection.finish_work()
    assert connection.upstream == frames
    assert bench.stats.messages["send", "orders", "unparsed"] == 1


# SASL


def test_after_the_old_sasl_handshake_everything_passes_unread() -> None:
    bench = Bench()
    connection = bench.connect()
    connection.ask(sasl_handshake(0), sasl_handshake_answer())
    token = sized(b"\0user\0secret")
    assert connection.say(token) == token
    assert connection.hear(sized(b"")) == sized(b"")
    assert not understands(connection)
    assert bench.events() == {("sasl_opaque", ""): 1, ("opaque", ""): 1}


def test_with_the_newer_one_all_is_understood() -> None:
    connection = Bench().connect()
    connection.ask(sasl_handshake(1), sasl_handshake_answer())
    assert understands(connection)
