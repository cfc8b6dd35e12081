"""The three encoders of the tests agree, so that each may judge the product."""

from __future__ import annotations

from typing import Any

import pytest

from tests.wire.kafka.messages import (
    ENCODERS,
    NEWEST,
    UNKNOWN,
    by_definition,
    encoders,
    flexible,
    kafka_python_class,
    read_by_kafka_python,
    samples,
)

REQUESTS = [
    (f"{api}Request", version)
    for api in NEWEST
    if api not in ("Metadata", "FindCoordinator", "DescribeCluster", "ApiVersions")
    for version in range(NEWEST[api] + 1)
]
RESPONSES = [
    (f"{api}Response", version)
    for api in ("Produce", "Fetch", "Metadata", "FindCoordinator", "DescribeCluster", "ApiVersions")
    for version in range(NEWEST[api] + 1)
]

ALL = REQUESTS + RESPONSES


@pytest.mark.parametrize(("name", "version"), ALL)
def test_all_encoders_write_the_same(name: str, version: int) -> None:
    for values in samples(name, version, 5):
        written = {by: ENCODERS[by](name, version, values) for by in encoders(name, version)}
        assert len(written) >= 2
        assert len(set(written.values())) == 1, (values, written)


@pytest.mark.parametrize(
    ("name", "version"),
    [each for each in ALL if flexible(*each) and kafka_python_class(each[0]) is not None],
)
def test_unknown_tags_are_written_where_they_may_be(name: str, version: int) -> None:
    """As kafka-python reads them; kio refuses unknown tags."""
    for values in samples(name, version, 5, unknown=True):
        if name == "ApiVersionsResponse":
            values["ErrorCode"] = 0  # with an error kafka-python takes it for version 0
        known = _known(values)
        with_tags = by_definition(name, version, _strict(values, known))
        without = by_definition(name, version, known)
        assert read_by_kafka_python(name, version, with_tags) == read_by_kafka_python(
            name, version, without
        )


STRICT = {
    "CurrentLeader", "DivergingEpoch", "FinalizedFeatures", "NodeEndpoints", "ReplicaState",
    "SnapshotId", "SupportedFeatures",
}  # fmt: skip
"""Tagged structures: in them kafka-python takes no tags that it does not know."""


def _strict(values: Any, known: Any) -> Any:
    """The values, but tagged structures as they are in ``known``."""
    if isinstance(values, dict):
        return {
            name: known[name] if name in STRICT else _strict(each, known.get(name))
            for name, each in values.items()
        }
    if isinstance(values, list) and known is not None:
        return [_strict(each, same) for each, same in zip(values, known, strict=True)]
    return values


def _known(value: Any) -> Any:
    """The same without unknown tags."""
    if isinstance(value, dict):
        return {name: _known(each) for name, each in value.items() if name != UNKNOWN}
    if isinstance(value, list):
        return [_known(each) for each in value]
    return value
