"""What docs/kafka.md says of how long, how many and how large is so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from meshproxy.linking.inflight import Cause
from tests.filters.bench import attributes
from tests.filters.kafka.batches import GZIP, NOISE, ZSTD, Row, batch
from tests.filters.kafka.bench import Bench, ids, linked_contexts, numbered, traceparent
from tests.filters.kafka.frames import RETRIABLE, fetch, fetched, produce, produced

PAGE = " ".join((Path(__file__).parents[3] / "docs" / "kafka.md").read_text().split())
MIB = 2**20


def documented(sentence: str) -> int:
    """The number that stands for ``#`` in a sentence of the page."""
    (found,) = re.findall(re.escape(sentence).replace(r"\#", r"(\d+)"), PAGE)
    return int(found)


def carrying(number: int) -> Row:
    return Row(headers=((b"traceparent", traceparent(numbered(number))),))


# How long


def test_how_long_a_message_counts_as_in_flight() -> None:
    seconds = documented("until its offset is committed, or for # s")
    bench = Bench()
    bench.connect().ask(fetch(), fetched(batch()))
    bench.wait(1000 * seconds - 1)
    bench.tick()
    assert not bench.inflight.idle
    bench.wait(1)
    bench.tick()
    assert bench.inflight.idle


def test_how_long_a_batch_that_failed_is_waited_for() -> None:
    seconds = documented("If nothing comes for # s, it ends with the error")
    bench = Bench()
    bench.connect().ask(produce(batch()), produced((RETRIABLE, 0)))
    bench.wait(1000 * seconds - 1)
    bench.tick()
    assert not bench.spans
    bench.wait(1)
    bench.tick()
    assert attributes(bench.span())["error.type"] == "NOT_LEADER_OR_FOLLOWER"


# How many


def test_how_many_messages_of_a_fetch_are_followed_on_their_own() -> None:
    most = documented("Of a fetch that brings more than # messages of a partition")
    assert in_flight(most) == most
    assert in_flight(most + 1) == 1


def in_flight(messages: int) -> int:
    """What so many messages of one fetch count as."""
    bench = Bench()
    bench.connect().ask(fetch(), fetched(batch(messages)))
    return len(bench.inflight)


def test_how_many_links_a_poll_span_has() -> None:
    most = documented("links to the contexts of the messages, # at most")
    bench = Bench()
    bench.connect().ask(fetch(), fetched(batch([*map(carrying, range(most + 1))])))
    assert linked_contexts(bench.span()) == ids(*map(numbered, range(most)))


# How large


def test_how_long_the_key_of_a_message_may_be() -> None:
    longest = documented("if it has # bytes at most")
    digits = documented("one that is not UTF-8 in up to # hexadecimal digits")
    assert key_told(b"k" * longest) == "k" * longest
    assert key_told(b"\xff" * longest) == "f" * digits
    assert key_told(b"k" * (longest + 1)) is None


def key_told(key: bytes) -> object:
    """The attribute that becomes of a key."""
    bench = Bench()
    bench.connect().ask(produce(batch([Row(key=key)])), produced((0, 1)))
    return attributes(bench.span()).get("messaging.kafka.message.key")


def test_how_large_a_compressed_request_may_be_to_need_no_thread() -> None:
    most = 1024 * documented("A Produce request with more than # KiB of compressed records")
    sizes = {}
    for size in range(most - 400, most, 8):
        made = batch([Row(NOISE[:size])], GZIP)
        connection = Bench().connect()
        connection.say(produce(made))
        sizes[len(made) - 61] = connection.worked > 0
    assert {worked for size, worked in sizes.items() if size <= most} == {False}
    assert {worked for size, worked in sizes.items() if size > most} == {True}


@pytest.mark.parametrize(("less", "result"), [(1024, "injected"), (0, "unparsed")])
def test_what_a_batch_that_is_sent_may_decompress_to(less: int, result: str) -> None:
    most = MIB * documented("not understood, or decompresses to over # MiB")
    bench = Bench()
    bench.connect().say(produce(batch([Row(bytes(most - less))], ZSTD)))
    assert bench.stats.messages == {("send", "orders", result): 1}


@pytest.mark.parametrize(("less", "result"), [(1024, "without_context"), (0, "unread_batch")])
def test_what_a_batch_that_is_fetched_may_decompress_to(less: int, result: str) -> None:
    most = MIB * documented("batches that could not be read, or decompress to over # MiB")
    bench = Bench()
    bench.connect().ask(fetch(), fetched(batch([Row(bytes(most - less))], ZSTD)))
    assert bench.stats.messages == {("receive", "orders", result): 1}


# What of a record is looked at


READ = "an id within the first # bytes of its key, or of its value"
ORDER = b"7f3c2a91-55e0-4d1b-9a77-0c3f0000004a"


@pytest.mark.parametrize("place", ["key", "value"])
def test_within_how_many_bytes_of_a_record_an_id_is_found(place: str) -> None:
    last = documented(READ) - len(ORDER)
    found = [
        sent_below(Row(b"v")._replace(**{place: b"." * at + ORDER})) for at in (last, last + 1)
    ]
    assert found == [True, False]


def test_of_how_many_records_all_are_looked_at() -> None:
    most = documented("if each record (of # at most) names the same one by its content")
    assert sent_below(*[Row(ORDER)] * most)
    assert not sent_below(*[Row(ORDER)] * (most + 1))


def sent_below(*rows: Row) -> bool:
    """Whether a batch is linked to the one of three requests that knows `ORDER`."""
    bench = Bench()
    content = bench.linker.content
    content.need(bench.now_ns)
    bench.wait(1000)
    requests: list[Cause] = []
    for text in (b"7f3c2a91-1", ORDER, b"7f3c2a91-2"):
        requests.append(bench.request())
        content.hold(requests[-1], content.tokens.read(text, bench.now_ns))
    bench.wait(5)
    made = [row._replace(timestamp=bench.now_ms) for row in rows]
    bench.connect().ask(produce(batch(made)), produced((0, 1)))
    return bench.span().parent_id == requests[1].context.span_id
