"""Producers wait before they send: what counts is who was in flight when a record was made."""

from __future__ import annotations

import pytest

from meshproxy.config.model import Kafka
from meshproxy.linking.inflight import Cause
from meshproxy.trace.span import Span
from tests.filters.bench import attributes
from tests.filters.kafka.batches import GZIP, Row, batch
from tests.filters.kafka.bench import Bench, Connection, ids, linked_contexts
from tests.filters.kafka.frames import produce, produced


class Service:
    """A service whose producer is connected already."""

    def __init__(self, kafka: Kafka | None = None) -> None:
        self.bench = Bench(kafka)
        self.connection: Connection = self.bench.connect()
        self.bench.wait(1000)
        self._sent = 0

    def record(self, timestamp: int | None = None) -> Row:
        """A record that is made now; it tells itself apart."""
        self._sent += 1
        made = self.bench.now_ms if timestamp is None else timestamp
        return Row(b"%d" % self._sent, timestamp=made)

    def sent(self, *rows: Row, codec: int = 0) -> list[Span]:
        """A batch of these leaves now."""
        before = len(self.bench.spans)
        self.connection.ask(produce(batch(rows, codec)), produced((0, 1)))
        return self.bench.spans[before:]

    def over(self, lasting: int = 5) -> Cause:
        """A request that was in flight for some milliseconds."""
        cause = self.bench.request()
        self.bench.wait(lasting)
        self.bench.end(cause)
        return cause

    def one_after_another(self, count: int) -> tuple[list[Row], list[Cause]]:
        """A record of each of so many requests, of which no two are in flight at a time."""
        rows, causes = [], []
        for _ in range(count):
            cause = self.bench.request()
            self.bench.wait(2)
            rows.append(self.record())
            self.bench.wait(2)
            self.bench.end(cause)
            self.bench.wait(2)
            causes.append(cause)
        return rows, causes


@pytest.fixture
def service() -> Service:
    return Service()


def parent(span: Span) -> tuple[bytes, bytes]:
    return span.trace_id, span.parent_id


@pytest.mark.parametrize("codec", [0, GZIP])
def test_the_request_that_is_over_made_it_not_the_one_in_flight(
    service: Service, codec: int
) -> None:
    bench = service.bench
    first = bench.request("POST /first")
    bench.wait(2)
    row = service.record()
    bench.wait(2)
    bench.end(first)
    bench.wait(5)
    second = bench.request("POST /second")
    bench.wait(5)
    (span,) = service.sent(row, codec=codec)
    assert [parent(span)] == ids(first.context)
    assert attributes(span)["meshproxy.inbound.span_id"] == first.context.span_id.hex()
    assert bench.gap_counts() == {("dropped", "POST /first", "orders"): 1}
    (later,) = service.sent(service.record())
    assert [parent(later)] == ids(second.context)


def test_so_it_is_if_nothing_is_in_flight_any_more(service: Service) -> None:
    bench = service.bench
    cause = bench.request()
    row = service.record()
    bench.wait(2)
    bench.end(cause)
    bench.wait(20)
    (span,) = service.sent(row)
    assert [parent(span)] == ids(cause.context)


def test_several_records_of_one_request(service: Service) -> None:
    bench = service.bench
    cause = bench.request()
    found = []
    for _ in range(3):
        bench.wait(2)
        found.append(service.record())
    bench.wait(2)
    bench.end(cause)
    bench.wait(2)
    bench.request()
    (span,) = service.sent(*found)
    assert [parent(span)] == ids(cause.context)


def test_if_two_were_in_flight_then_it_is_linked_to_both(service: Service) -> None:
    bench = service.bench
    both = bench.request(), bench.request()
    bench.wait(2)
    row = service.record()
    bench.wait(2)
    for cause in both:
        bench.end(cause)
    bench.wait(2)
    other = bench.request()
    (span,) = service.sent(row)
    assert attributes(span)["meshproxy.propagation"] == "ambiguous"
    assert set(linked_contexts(span)) == set(ids(*[cause.context for cause in both]))
    assert span.trace_id != other.context.trace_id


def test_so_are_records_of_two_requests_in_one_batch(service: Service) -> None:
    found, causes = service.one_after_another(2)
    (span,) = service.sent(*found)
    assert attributes(span)["meshproxy.propagation"] == "ambiguous"
    assert set(linked_contexts(span)) == set(ids(*[cause.context for cause in causes]))


def test_per_record_each_goes_by_its_own_time() -> None:
    service = Service(Kafka(per_record=True))
    found, causes = service.one_after_another(3)
    spans = service.sent(*found)
    assert [parent(span) for span in spans] == ids(*[cause.context for cause in causes])


def test_what_was_made_while_nothing_was_in_flight_starts_a_trace(service: Service) -> None:
    service.over()
    service.bench.wait(5)
    row = service.record()
    service.bench.wait(5)
    service.bench.request()
    service.bench.wait(2)
    (span,) = service.sent(row)
    assert attributes(span)["meshproxy.propagation"] == "root"
    assert span.parent_id == b""


@pytest.mark.parametrize("distance", [-1001, -86_400_000, 2, 1001, 86_400_000])
def test_a_time_that_is_not_when_it_was_made_tells_nothing(service: Service, distance: int) -> None:
    """Such as that of the event that a message is about."""
    service.over()
    cause = service.bench.request()
    service.bench.wait(1)
    (span,) = service.sent(service.record(service.bench.now_ms + distance))
    assert [parent(span)] == ids(cause.context)


@pytest.mark.parametrize("timestamp", [-1, 0])
def test_nor_does_none(service: Service, timestamp: int) -> None:
    cause = service.bench.request()
    (span,) = service.sent(service.record(timestamp))
    assert [parent(span)] == ids(cause.context)


def test_what_was_made_before_the_filter_knew_of_requests_is_not_guessed() -> None:
    bench = Bench()
    made = bench.now_ms
    bench.wait(100)
    connection = bench.connect()
    bench.request()
    bench.wait(5)
    connection.ask(produce(batch([Row(timestamp=made)])), produced((0, 1)))
    assert attributes(bench.span())["meshproxy.propagation"] == "unlinked"
