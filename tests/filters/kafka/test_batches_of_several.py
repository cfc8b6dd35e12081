"""A batch has one context: it is linked only if all of its records are of one request."""

from __future__ import annotations

import pytest

from meshproxy.config.model import Kafka
from meshproxy.linking.inflight import Cause
from tests.filters.bench import attributes
from tests.filters.kafka.batches import Row, batch
from tests.filters.kafka.bench import Bench, ids, linked_contexts, numbered, traceparent
from tests.filters.kafka.frames import produce, produced

ORDERS = [b"order 7f3c2a91-55e0-4d1b-9a77-0c3f%08x" % number for number in range(3)]


class Service:
    """Three requests are in flight, and what each of them is about is known."""

    def __init__(self, kafka: Kafka | None = None) -> None:
        self.bench = Bench(kafka)
        content = self.bench.linker.content
        content.need(self.bench.now_ns)
        self.connection = self.bench.connect()
        self.bench.wait(1000)
        self.requests: list[Cause] = []
        for text in ORDERS:
            cause = self.bench.request()
            content.hold(cause, content.tokens.read(text, self.bench.now_ns))
            self.requests.append(cause)
        self.bench.wait(5)

    def send(self, *values: bytes) -> None:
        rows = [Row(value, timestamp=self.bench.now_ms) for value in values]
        self.connection.ask(produce(batch(rows)), produced((0, 1)))


def test_all_records_of_one_request_are_its() -> None:
    service = Service()
    service.send(ORDERS[1] + b" made", ORDERS[1] + b" packed")
    span = service.bench.span()
    assert (span.trace_id, span.parent_id) == ids(service.requests[1].context)[0]
    assert attributes(span)["meshproxy.link.evidence"] == "content"


@pytest.mark.parametrize(
    "values",
    [
        (ORDERS[0], ORDERS[1]),
        (ORDERS[0], b"which says nothing"),
        (*[ORDERS[0]] * 20, ORDERS[1]),
        (b"nothing", b"at all"),
    ],
    ids=["of two requests", "one that says nothing", "too many to look at", "none says anything"],
)
def test_otherwise_nobody_is_named(values: tuple[bytes, ...]) -> None:
    service = Service()
    service.send(*values)
    span = service.bench.span()
    assert attributes(span)["meshproxy.propagation"] == "ambiguous"
    assert not span.parent_id
    assert sorted(linked_contexts(span)) == sorted(ids(*[c.context for c in service.requests]))


def test_each_record_has_its_own_request_where_each_has_a_span() -> None:
    service = Service(Kafka(per_record=True))
    service.send(*ORDERS)
    found = [(span.trace_id, span.parent_id) for span in service.bench.spans]
    assert found == ids(*[cause.context for cause in service.requests])


def test_a_message_that_is_sent_without_context_is_told_as_such() -> None:
    service = Service()
    service.send(ORDERS[0])
    (row,) = service.bench.gaps.rows("shop")
    assert row["destination"] == "orders"
    assert "into the headers of this message" in str(row["advice"])


@pytest.mark.parametrize("first", [True, False], ids=["first", "last"])
def test_the_context_of_one_record_is_not_that_of_others(first: bool) -> None:
    service = Service()
    own = Row(b"1", headers=((b"traceparent", traceparent(service.requests[0].context)),))
    rows = [own, Row(ORDERS[1]), Row(ORDERS[1])]
    service.connection.ask(produce(batch(rows if first else rows[::-1])), produced((0, 1)))
    span = service.bench.span()
    assert (span.trace_id, span.parent_id) == ids(service.requests[1].context)[0]
    found = attributes(span)
    assert found["meshproxy.link.evidence"] == "content"
    assert found["messaging.batch.message_count"] == 2


def test_nor_when_nothing_is_in_flight() -> None:
    bench = Bench()
    own = Row(b"1", headers=((b"traceparent", traceparent(numbered(7))),))
    bench.connect().ask(produce(batch([own, Row(b"2")])), produced((0, 1)))
    span = bench.span()
    assert span.trace_id != numbered(7).trace_id
    assert attributes(span)["meshproxy.propagation"] == "root"
