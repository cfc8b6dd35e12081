"""What clients are told of brokers: what they can do, and where they are."""

from __future__ import annotations

import pytest

from meshproxy.wire.kafka.apis import APIS
from tests.filters.kafka.batches import batch
from tests.filters.kafka.bench import Bench
from tests.filters.kafka.frames import (
    answer,
    api_versions,
    api_versions_answer,
    body,
    fetch,
    fetched,
    metadata,
    metadata_answer,
    produce,
    produced,
    ranges,
    request,
    response,
    unknown,
)

KAFKA_1 = {"NodeId": 1, "Host": "kafka-1", "Port": 9092, "Rack": None}
HERE = ("127.0.0.1", 20001)


def hears(bench: Bench, asked: bytes, answered: bytes) -> bytes:
    connection = bench.connect()
    assert connection.say(asked) == asked
    return connection.hear(answered)


@pytest.mark.parametrize("version", range(5))
def test_no_more_is_promised_than_is_understood(version: int) -> None:
    offered = dict.fromkeys((0, 1, 3, 10, 18, 19, 60, 78, 79, 500), (0, 99))
    heard = hears(
        Bench(),
        api_versions(version=version),
        api_versions_answer(offered, version=version),
    )
    assert ranges(heard, version) == {
        0: (0, 13), 1: (0, 18), 3: (0, 13), 10: (0, 6), 18: (0, 4), 19: (0, 99), 60: (0, 2),
    }  # fmt: skip


def test_what_older_brokers_promise_stays() -> None:
    offered = {0: (0, 7), 1: (0, 10), 18: (0, 2)}
    answered = api_versions_answer(offered)
    assert hears(Bench(), api_versions(), answered) == answered


def test_how_to_ask_for_versions_is_told_in_turn() -> None:
    """A request that is newer than what is known gets its answer here (KIP-511)."""
    connection = Bench().connect()
    first, last = unknown(1), unknown(3)
    assert connection.say(first + api_versions(2, version=4)[:6] + b"\0\x09" +
                          api_versions(2, version=4)[8:] + last) == first + last  # fmt: skip
    assert connection.client == b""
    heard = connection.hear(answer(1))
    assert heard[: len(answer(1))] == answer(1)
    ours = heard[len(answer(1)) :]
    assert ours[4:8] == b"\0\0\0\2"
    read = body(ours, "ApiVersionsResponse", 0)
    assert read["error_code"] == 35
    assert read["api_keys"] == [{"api_key": 18, "min_version": 0, "max_version": APIS[18].newest}]
    assert connection.hear(answer(3)) == answer(3)


def test_and_at_once_if_it_is_the_first() -> None:
    connection = Bench().connect()
    frame = api_versions(7, version=4)
    assert connection.say(frame[:6] + b"\0\x09" + frame[8:]) == b""
    assert connection.client[4:10] == b"\0\0\0\7\0\x23"
    assert connection.talk.quiet


@pytest.mark.parametrize("version", range(14))
def test_brokers_are_where_the_sidecar_is(version: int) -> None:
    bench = Bench()
    brokers = {1: ("kafka-1", 9092), 12: ("kafka-12.internal", 9093)}
    heard = hears(
        bench,
        metadata(version=version),
        metadata_answer(["orders"], brokers, version=version),
    )
    read = body(heard, "MetadataResponse", version)
    assert [(each["node_id"], each["host"], each["port"]) for each in read["brokers"]] == [
        (1, "127.0.0.1", 20001),
        (12, "127.0.0.1", 20012),
    ]
    assert bench.ports.named == brokers


def test_so_is_a_groups_coordinator() -> None:
    coordinator = {
        "Key": "shipping",
        "NodeId": 1,
        "Host": "kafka-1",
        "Port": 9092,
        "ErrorCode": 0,
        "ErrorMessage": None,
    }
    heard = hears(
        Bench(),
        request("FindCoordinator", 4, {"KeyType": 0, "CoordinatorKeys": ["shipping"]}),
        response("FindCoordinator", 4, {"ThrottleTimeMs": 0, "Coordinators": [coordinator]}),
    )
    (read,) = body(heard, "FindCoordinatorResponse", 4)["coordinators"]
    assert (read["host"], read["port"]) == HERE


def test_so_are_brokers_that_administrators_ask_for() -> None:
    asked = {"IncludeClusterAuthorizedOperations": False, "EndpointType": 1}
    told = {
        "ThrottleTimeMs": 0,
        "ErrorCode": 0,
        "ErrorMessage": None,
        "EndpointType": 1,
        "ClusterId": "cluster",
        "ControllerId": 1,
        "Brokers": [{"BrokerId": 1, "Host": "kafka-1", "Port": 9092, "Rack": None}],
        "ClusterAuthorizedOperations": 0,
    }
    heard = hears(
        Bench(), request("DescribeCluster", 1, asked), response("DescribeCluster", 1, told)
    )
    (read,) = body(heard, "DescribeClusterResponse", 1)["brokers"]
    assert (read["host"], read["port"]) == HERE


def test_so_are_new_leaders() -> None:
    bench = Bench()
    heard = bench.connect()
    heard.say(produce(batch(), 1, version=10))
    told = heard.hear(produced((6, 0), 1, version=10, NodeEndpoints=[KAFKA_1]))
    (read,) = body(told, "ProduceResponse", 10)["node_endpoints"]
    assert (read["host"], read["port"]) == HERE
    heard.say(fetch(2, version=16))
    told = heard.hear(fetched(b"", 2, version=16, NodeEndpoints=[KAFKA_1]))
    (read,) = body(told, "FetchResponse", 16)["node_endpoints"]
    assert (read["host"], read["port"]) == HERE


def test_a_broker_that_no_port_can_be_opened_for_is_counted() -> None:
    bench = Bench()
    bench.ports.closed.add(1)
    answered = metadata_answer(brokers={1: ("kafka-1", 9092)})
    assert hears(bench, metadata(), answered) == answered
    assert bench.events() == {("broker_unreachable", "Too many open files"): 1}
