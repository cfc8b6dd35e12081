"""What is counted of Kafka beside messages and gaps, and what only CONSUMER spans tell."""

from __future__ import annotations

from base64 import b64encode

import pytest

from meshproxy.config.model import Kafka
from meshproxy.trace.span import Kind
from tests.filters.bench import attributes
from tests.filters.kafka.batches import Row, batch
from tests.filters.kafka.bench import Bench, traceparent
from tests.filters.kafka.frames import REFUSED, fetch, fetched, produce, produced


def requests(bench: Bench) -> dict[tuple[str, str, str, str], tuple[int, float]]:
    """How many requests there were of each series, and how many seconds they took in all."""
    return {key: (each.count, round(each.total, 6)) for key, each in bench.stats.series.items()}


@pytest.mark.parametrize(("error", "status"), [(0, "ok"), (REFUSED, "INVALID_RECORD")])
def test_what_is_sent_is_a_request(error: int, status: str) -> None:
    bench = Bench()
    connection = bench.connect()
    for correlation in range(2):
        connection.say(produce(batch([Row(b"%d" % correlation)]), correlation))
        bench.wait(5)
        connection.hear(produced((error, 1), correlation))
    assert requests(bench) == {("outbound", "send", "orders", status): (2, 0.01)}


def test_what_is_fetched_is_a_request_and_each_message_is_one() -> None:
    bench = Bench(Kafka(consumer_spans=True))
    connection = bench.connect()
    connection.say(fetch())
    bench.wait(50)
    connection.hear(fetched(batch(3)))
    assert requests(bench) == {
        ("outbound", "poll", "orders", "ok"): (1, 0.05),
        ("outbound", "receive", "orders", "ok"): (3, 0.0),
    }


def test_how_the_context_of_what_is_sent_was_is_counted() -> None:
    bench = Bench()
    connection = bench.connect()
    connection.ask(produce(batch([Row(b"1")]), 1), produced((0, 1), 1))
    first = bench.request()
    connection.ask(produce(batch([Row(b"2")]), 2), produced((0, 1), 2))
    carried = ((b"traceparent", traceparent(first.context)),)
    connection.ask(produce(batch([Row(headers=carried)]), 3), produced((0, 1), 3))
    bench.request()
    connection.ask(produce(batch([Row(b"4")]), 4), produced((0, 1), 4))
    assert bench.stats.propagation == {
        ("outbound", "root"): 1,
        ("outbound", "repaired"): 1,
        ("outbound", "ok"): 1,
        ("outbound", "ambiguous"): 1,
    }


def test_ids_that_are_free_texts_are_told_by_the_span_of_the_message() -> None:
    bench = Bench(Kafka(consumer_spans=True))
    parts = [b64encode(text) for text in (b"trace of theirs", b"segment", b"s", b"i", b"e", b"p")]
    sw8 = b"-".join([b"1", *parts[:2], b"3", *parts[2:]])
    bench.connect().ask(fetch(), fetched(batch([Row(headers=((b"sw8", sw8),))])))
    (span,) = [span for span in bench.spans if span.shape.kind is Kind.CONSUMER]
    found = attributes(span)
    assert found["skywalking.trace_id"] == "trace of theirs"
    assert found["skywalking.segment_id"] == "segment"
    assert str(found["skywalking.span_id"]) == "3"
