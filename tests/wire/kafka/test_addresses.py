"""Addresses of brokers are replaced in every version; nothing else changes."""

from __future__ import annotations

from typing import Any

import pytest

from meshproxy.wire.kafka.addresses import describe_cluster, find_coordinator, metadata
from meshproxy.wire.kafka.primitives import Malformed
from tests.wire.kafka.messages import Values, encode, frames, variants


def place(node: int, host: str, port: int) -> tuple[str, int]:
    return f"127.0.0.{node % 200}", (port + len(host)) % 65536


def as_it_was(_node: int, host: str, port: int) -> tuple[str, int]:
    return host, port


def refuse(_node: int, _host: str, _port: int) -> tuple[str, int]:
    raise AssertionError


def moved(value: Any) -> Any:
    """What the message shall be: each structure with a host has its address replaced."""
    if isinstance(value, list):
        return [moved(each) for each in value]
    if not isinstance(value, dict):
        return value
    changed = {name: moved(each) for name, each in value.items()}
    node = value.get("NodeId", value.get("BrokerId", -1))
    if "Host" in value and node >= 0 and value["Host"]:
        changed["Host"], changed["Port"] = place(node, value["Host"], value["Port"])
    return changed


@pytest.mark.parametrize(("version", "encoder"), variants("MetadataResponse"))
def test_metadata(version: int, encoder: str) -> None:
    for values, response in frames("MetadataResponse", version, encoder):
        found, topics = metadata(response, version, place)
        assert found == encode(encoder, "MetadataResponse", version, moved(values))
        assert topics == topics_of(values, version)


def topics_of(values: Values, version: int) -> list[tuple[bytes, str]]:
    if version < 10:
        return []
    return [
        (topic["TopicId"], topic["Name"])
        for topic in values["Topics"]
        if any(topic["TopicId"]) and topic["Name"]
    ]


@pytest.mark.parametrize(("version", "encoder"), variants("FindCoordinatorResponse"))
def test_find_coordinator(version: int, encoder: str) -> None:
    for values, response in frames("FindCoordinatorResponse", version, encoder, 12):
        expected = encode(encoder, "FindCoordinatorResponse", version, moved(values))
        assert find_coordinator(response, version, place) == expected


@pytest.mark.parametrize(("version", "encoder"), variants("DescribeClusterResponse"))
def test_describe_cluster(version: int, encoder: str) -> None:
    for values, response in frames("DescribeClusterResponse", version, encoder):
        expected = encode(encoder, "DescribeClusterResponse", version, moved(values))
        assert describe_cluster(response, version, place) == expected


@pytest.mark.parametrize(("version", "encoder"), variants("MetadataResponse"))
def test_addresses_that_are_right_stay_without_a_copy(version: int, encoder: str) -> None:
    for _, response in frames("MetadataResponse", version, encoder, 2):
        assert metadata(response, version, as_it_was)[0] is response


@pytest.mark.parametrize("version", range(7))
@pytest.mark.parametrize(("node", "host"), [(-1, "broker"), (3, ""), (-1, "")])
def test_there_is_no_place_for_a_broker_that_is_not_known(
    version: int, node: int, host: str
) -> None:
    values: Values = {
        "ThrottleTimeMs": 0, "ErrorCode": 15, "ErrorMessage": None, "NodeId": node, "Host": host,
        "Port": 9092, "Key": "group",
    }  # fmt: skip
    values["Coordinators"] = [dict(values)]
    response = encode("definition", "FindCoordinatorResponse", version, values)
    assert find_coordinator(response, version, refuse) is response


def test_a_place_that_cannot_be_had() -> None:
    def no_place(_node: int, _host: str, _port: int) -> tuple[str, int]:
        raise OSError("no port is left")

    values = {"ErrorCode": 0, "NodeId": 1, "Host": "broker", "Port": 9092}
    response = encode("definition", "FindCoordinatorResponse", 0, values)
    with pytest.raises(OSError, match="no port is left"):
        find_coordinator(response, 0, no_place)


@pytest.mark.parametrize("version", [-1, 14])
def test_a_version_that_is_not_known(version: int) -> None:
    with pytest.raises(Malformed):
        metadata(bytes(100), version, place)
