"""Fetch, versions 0 to 18: batches are found, new leaders get their local addresses."""

from __future__ import annotations

import pytest

from meshproxy.wire.kafka.fetch import read_response, rewrite
from meshproxy.wire.kafka.primitives import Malformed
from tests.wire.kafka.messages import encode, frames, variants
from tests.wire.kafka.test_addresses import as_it_was, moved, place, refuse

RESPONSES = pytest.mark.parametrize(("version", "encoder"), variants("FetchResponse"))


@RESPONSES
def test_where_the_batches_are(version: int, encoder: str) -> None:
    for values, data in frames("FetchResponse", version, encoder):
        assert [
            (
                each.topic,
                each.topic_id,
                each.partition,
                each.error,
                each.high_watermark,
                data[each.start : each.end],
            )
            for each in read_response(data, version)
        ] == [
            (
                topic.get("Topic", ""),
                topic.get("TopicId", b""),
                each["PartitionIndex"],
                each["ErrorCode"],
                each["HighWatermark"],
                each["Records"] or b"",
            )
            for topic in values["Responses"]
            for each in topic["Partitions"]
        ]


@RESPONSES
def test_new_leaders_are_where_the_client_finds_them(version: int, encoder: str) -> None:
    for values, data in frames("FetchResponse", version, encoder, 12):
        expected = encode(encoder, "FetchResponse", version, moved(values))
        assert rewrite(data, version, place) == expected
        assert rewrite(data, version, as_it_was) is data


@pytest.mark.parametrize(("version", "encoder"), variants("FetchResponse", newest=15))
def test_before_version_16_there_are_no_addresses(version: int, encoder: str) -> None:
    for _, data in frames("FetchResponse", version, encoder):
        assert rewrite(data, version, refuse) is data


@pytest.mark.parametrize("version", [-1, 19])
def test_versions_that_are_not_known(version: int) -> None:
    with pytest.raises(Malformed):
        read_response(bytes(100), version)
