"""The Kafka bench's arithmetic, and the requests that it makes: nobody else checks them."""

from __future__ import annotations

import io
from datetime import timedelta

import pytest
from aiokafka.record.memory_records import MemoryRecords
from kio.schema.errors import ErrorCode
from kio.schema.fetch.v12.request import FetchRequest
from kio.schema.fetch.v12.response import FetchableTopicResponse, FetchResponse, PartitionData
from kio.schema.produce.v10.request import ProduceRequest
from kio.schema.produce.v10.response import (
    PartitionProduceResponse,
    ProduceResponse,
    TopicProduceResponse,
)
from kio.schema.request_header.v2.header import RequestHeader
from kio.schema.response_header.v1.header import ResponseHeader
from kio.serial import entity_reader, entity_writer

from loadtest.kafka import frames
from loadtest.kafka.loads import AIMED, CODECS, Load, values
from loadtest.kafka.measure import DIRECT, REPLAY, Case, Measured, Round, micros_per_record, ratios
from loadtest.kafka.peers import OPAQUE, PRODUCT
from loadtest.kafka.report import targets
from loadtest.kafka.rounds import Rounds
from loadtest.measure import Spread
from loadtest.processes import NotReadyError

TOPIC = "fetch-none-100-200"
PRODUCING = Case(REPLAY, "produce", AIMED)
FETCHING = Case(REPLAY, "fetch", AIMED)
AIOKAFKA = Case("aiokafka", "produce", AIMED)


def a_round(speed: float = 1.0, micros: float = 0.0) -> Round:
    return Round(records_per_second=speed, batches=1, micros_per_record=micros)


# Requests and responses


def read(request: bytes, kind: type) -> tuple[RequestHeader, object]:
    assert int.from_bytes(request[:4], "big") == len(request) - 4
    header, used = entity_reader(RequestHeader)(request, 4)
    body, rest = entity_reader(kind)(request, 4 + used)
    assert 4 + used + rest == len(request)
    return header, body


def written(*entities: object) -> bytes:
    buffer = io.BytesIO()
    for entity in entities:
        entity_writer(type(entity))(buffer, entity)
    body = buffer.getvalue()
    return len(body).to_bytes(4, "big") + body


def produced(error: ErrorCode) -> bytes:
    partition = PartitionProduceResponse(
        index=3, error_code=error, base_offset=7, record_errors=(), error_message=None
    )
    topic = TopicProduceResponse(name=TOPIC, partition_responses=(partition,))
    answer = ProduceResponse(responses=(topic,), throttle_time=timedelta())
    return written(ResponseHeader(correlation_id=1), answer)


def fetched(records: bytes, error: ErrorCode = ErrorCode.none, high_watermark: int = 500) -> bytes:
    partition = PartitionData(
        partition_index=3,
        error_code=error,
        high_watermark=high_watermark,
        aborted_transactions=None,
        records=records,
    )
    answer = FetchResponse(
        throttle_time=timedelta(),
        error_code=ErrorCode.none,
        responses=(FetchableTopicResponse(topic=TOPIC, partitions=(partition,)),),
    )
    return written(ResponseHeader(correlation_id=1), answer)


def test_a_produce_request_is_what_kafka_reads() -> None:
    body = frames.produce_body(TOPIC, 3, b"a batch" * 100)
    request = frames.head(frames.PRODUCE, frames.PRODUCE_VERSION, 9, len(body)) + body
    header, asked = read(request, ProduceRequest)
    assert (header.request_api_key, header.request_api_version) == (0, 10)
    assert (header.correlation_id, header.client_id) == (9, "replay")
    assert isinstance(asked, ProduceRequest)
    assert (asked.transactional_id, asked.acks) == (None, 1)
    (topic,) = asked.topic_data
    (partition,) = topic.partition_data
    assert (topic.name, partition.index, partition.records) == (TOPIC, 3, b"a batch" * 100)


def test_a_fetch_request_is_what_kafka_reads() -> None:
    body = frames.fetch_body(TOPIC, 3, 1234)
    request = frames.head(frames.FETCH, frames.FETCH_VERSION, 9, len(body)) + body
    header, asked = read(request, FetchRequest)
    assert (header.request_api_key, header.request_api_version) == (1, 12)
    assert isinstance(asked, FetchRequest)
    assert (asked.replica_id, asked.min_bytes, asked.session_epoch) == (-1, 1, -1)
    (topic,) = asked.topics
    (partition,) = topic.partitions
    assert (topic.topic, partition.partition, partition.fetch_offset) == (TOPIC, 3, 1234)
    assert partition.partition_max_bytes == frames.FETCH_BYTES


def test_a_refused_batch_is_not_counted_as_produced() -> None:
    frames.check_produced(produced(ErrorCode.none), TOPIC)
    with pytest.raises(frames.RefusedError):
        frames.check_produced(produced(ErrorCode.message_too_large), TOPIC)


def test_of_what_is_fetched_only_whole_batches_count() -> None:
    first = frames.batch(AIMED, 1, traced=True)
    second = (100).to_bytes(8, "big") + frames.batch(AIMED, 2, traced=True)[8:]
    assert frames.fetched(fetched(first + second), TOPIC) == (2, 200, 200, 500)
    assert frames.fetched(fetched(first + second[:-1]), TOPIC) == (1, 100, 100, 500)
    assert frames.fetched(fetched(first + second[:20]), TOPIC) == (1, 100, 100, 500)
    assert frames.fetched(fetched(b""), TOPIC) == (0, 0, 0, 500)


def test_an_error_of_a_partition_ends_a_fetch() -> None:
    with pytest.raises(frames.RefusedError):
        frames.fetched(fetched(b"", ErrorCode.offset_out_of_range), TOPIC)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("traced", [True, False])
def test_a_batch_holds_what_its_load_says(codec: str, traced: bool) -> None:
    load = Load(codec, 200, 100)
    batches = MemoryRecords(frames.batch(load, 1, traced))
    batch = batches.next_batch()
    assert batch is not None
    assert batch.compression_type == CODECS.index(codec)
    assert batch.validate_crc()
    records = list(batch)
    assert [len(record.value or b"") for record in records] == [200] * 100
    names = {tuple(name for name, _ in record.headers) for record in records}
    assert names == {("traceparent",) if traced else ()}
    assert len({tuple(record.headers) for record in records}) == 1
    assert not batches.has_next()


def test_values_have_exactly_their_size_and_differ() -> None:
    for size in (50, 200, 1000):
        made = values(Load("none", size, 100), 50)
        assert {len(value) for value in made} == {size}
        assert len(set(made)) == 50


# Figures


def test_idle_time_is_not_the_records() -> None:
    assert micros_per_record(0.5, 0.1, 2.0, 100_000) == pytest.approx(3.0)
    assert micros_per_record(0.1, 0.1, 2.0, 100_000) == 0.0


def test_a_ratio_is_of_the_same_round() -> None:
    assert ratios([80, 30, 70], [100, 50, 100]) == Spread(0.7, 0.6, 0.8)
    # A peer that failed in the second round.
    assert ratios([80], [100, 50, 100]) == Spread(0.8, 0.8, 0.8)
    assert ratios([], [100]) is None


def test_rounds_of_one_case_are_not_mixed_with_another() -> None:
    measured = Measured()
    for speed in (1.0, 3.0, 2.0):
        measured.add(PRODUCT, PRODUCING, a_round(speed))
    measured.add(PRODUCT, FETCHING, a_round(9.0))
    measured.add(OPAQUE, PRODUCING, a_round(7.0))
    assert measured.speed(PRODUCT, PRODUCING) == Spread(2.0, 1.0, 3.0)
    assert measured.speed(PRODUCT, AIOKAFKA) is None
    assert measured.cases(lambda case: case.client == REPLAY) == [PRODUCING, FETCHING]


@pytest.mark.parametrize(
    ("produce", "fetch", "through", "met"),
    [(3.0, 1.1, 80.0, True), (3.1, 1.2, 79.0, False)],
)
def test_targets_are_met_or_missed(produce: float, fetch: float, through: float, met: bool) -> None:
    measured = Measured()
    measured.add(PRODUCT, PRODUCING, a_round(micros=produce))
    measured.add(PRODUCT, FETCHING, a_round(micros=fetch))
    measured.add(DIRECT, AIOKAFKA, a_round(100.0))
    measured.add(PRODUCT, AIOKAFKA, a_round(through))
    told = targets(measured)
    assert [target.met for target in told] == [met] * 3
    assert all(target.line().startswith("- met" if met else "- MISSED") for target in told)


def test_a_target_without_a_figure_is_not_met() -> None:
    measured = Measured()
    measured.add(DIRECT, AIOKAFKA, a_round(100.0))
    told = targets(measured)
    assert not any(target.met for target in told)
    assert all(target.line().startswith("- not measured") for target in told)


# Rounds


def test_every_round_begins_with_another_peer() -> None:
    order: list[str] = []
    case = [(name, lambda name=name: order.append(name)) for name in "abc"]
    Rounds(3, 1e9, lambda text: None).take("cpu", [case])
    assert "".join(order) == "abcbcacab"


def test_what_fails_is_left_out_under_this_title_only() -> None:
    order: list[str] = []

    def fails() -> None:
        order.append("b")
        raise NotReadyError("a traceback\nAssertionError: 76")

    rounds = Rounds(2, 1e9, lambda text: None)
    case = [("a", lambda: order.append("a")), ("b", fails)]
    rounds.take("aiokafka", [case, case])
    assert "".join(order) == "abaaa"
    assert rounds.notes == ["b: aiokafka: AssertionError: 76"]
    rounds.take("latency", [case], rounds=1)
    assert "".join(order) == "abaaaab"


def test_no_round_begins_when_the_time_is_used_up() -> None:
    order: list[str] = []
    rounds = Rounds(3, 10.0, lambda text: None, clock=lambda: 10.5)
    rounds.take("cpu", [[("a", lambda: order.append("a"))]])
    assert order == ["a"]
    assert rounds.notes == ["cpu: cut to 1 rounds, the time was used up"]
