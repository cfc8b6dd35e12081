"""Produce, versions 0 to 13: batches are found and replaced, answers are read."""

from __future__ import annotations

import pytest

from meshproxy.wire.kafka.frames import HEAD
from meshproxy.wire.kafka.primitives import Malformed
from meshproxy.wire.kafka.produce import read_acks, read_request, read_response, replaced
from meshproxy.wire.kafka.requests import RequestHead, read_request_head
from tests.wire.kafka.messages import Values, encode, frames, request_header, variants
from tests.wire.kafka.test_addresses import as_it_was, moved, place

REQUESTS = pytest.mark.parametrize(("version", "encoder"), variants("ProduceRequest"))
RESPONSES = pytest.mark.parametrize(("version", "encoder"), variants("ProduceResponse"))


def partitions(values: Values) -> list[tuple[Values, Values]]:
    """Each partition with its topic."""
    return [(topic, each) for topic in values["TopicData"] for each in topic["PartitionData"]]


@REQUESTS
def test_where_the_batches_are(version: int, encoder: str) -> None:
    for values, data in frames("ProduceRequest", version, encoder):
        request = read_request(data, read_request_head(data))
        assert request.transactional_id == values.get("TransactionalId")
        assert request.acks == values["Acks"]
        assert [
            (each.topic, each.topic_id, each.partition, data[each.start : each.end])
            for each in request.batches
        ] == [
            (
                topic.get("Name", ""),
                topic.get("TopicId", b""),
                each["Index"],
                each["Records"] or b"",
            )
            for topic, each in partitions(values)
        ]


@REQUESTS
def test_other_batches_in_their_place(version: int, encoder: str) -> None:
    for size in (0, 7, 126, 127, 20_000):
        for values, data in frames("ProduceRequest", version, encoder):
            request = read_request(data, read_request_head(data))
            replacements = {}
            for index, (_, each) in enumerate(partitions(values)):
                if index % 2 == 0:
                    replacements[index] = (bytes([index]) * 61, bytes([index]) * size)
                    each["Records"] = b"".join(replacements[index])
            expected = encode(encoder, "ProduceRequest", version, values)
            assert b"".join(replaced(data, request, replacements)) == expected


@REQUESTS
def test_nothing_to_replace(version: int, encoder: str) -> None:
    for _, data in frames("ProduceRequest", version, encoder, 1):
        (piece,) = replaced(data, read_request(data, read_request_head(data)), {})
        assert piece is data


@REQUESTS
def test_acks_from_the_beginning_of_a_frame(version: int, encoder: str) -> None:
    for values, data in frames("ProduceRequest", version, encoder):
        assert read_acks(data[:HEAD], read_request_head(data)) == values["Acks"]


def test_acks_that_are_not_there() -> None:
    data = bytes(4) + request_header("ProduceRequest", 9)
    head = read_request_head(data)
    assert read_acks(data + b"\x00\xff", head) is None
    later = RequestHead(0, 14, head.correlation_id, "", head.body_at)
    assert read_acks(data + b"\x00\xff\xff", later) is None


@RESPONSES
def test_what_the_broker_says(version: int, encoder: str) -> None:
    for values, data in frames("ProduceResponse", version, encoder):
        response = read_response(data, version, place)
        assert [
            (each.topic, each.topic_id, each.partition, each.error, each.base_offset, each.message)
            for each in response.partitions
        ] == [
            (
                topic.get("Name", ""),
                topic.get("TopicId", b""),
                each["Index"],
                each["ErrorCode"],
                each["BaseOffset"],
                each.get("ErrorMessage"),
            )
            for topic in values["Responses"]
            for each in topic["PartitionResponses"]
        ]


@RESPONSES
def test_new_leaders_are_where_the_client_finds_them(version: int, encoder: str) -> None:
    for values, data in frames("ProduceResponse", version, encoder, 12):
        expected = encode(encoder, "ProduceResponse", version, moved(values))
        assert read_response(data, version, place).frame == expected
        assert read_response(data, version, as_it_was).frame is data


@pytest.mark.parametrize("version", [-1, 14])
def test_versions_that_are_not_known(version: int) -> None:
    data = bytes(100)
    with pytest.raises(Malformed):
        read_request(data, RequestHead(0, version, 1, "", 14))
    with pytest.raises(Malformed):
        read_response(data, version, place)
