"""Requests of consumer groups, in all versions."""

from __future__ import annotations

import pytest

from meshproxy.wire.kafka.groups import group_of, read_offset_commit
from meshproxy.wire.kafka.primitives import Malformed
from meshproxy.wire.kafka.requests import RequestHead, read_request_head
from tests.wire.kafka.messages import KEYS, Values, encode, frames, samples, variants

APIS = (
    "JoinGroup", "SyncGroup", "Heartbeat", "LeaveGroup", "OffsetCommit", "OffsetFetch",
    "ConsumerGroupHeartbeat", "TxnOffsetCommit",
)  # fmt: skip
ALL = [(f"{api}Request", *variant) for api in APIS for variant in variants(f"{api}Request")]
COMMITS = [each for each in ALL if each[0] in ("OffsetCommitRequest", "TxnOffsetCommitRequest")]
SEVERAL = variants("OffsetFetchRequest", oldest=8)


@pytest.mark.parametrize(("name", "version", "encoder"), ALL)
def test_the_group_of_a_request(name: str, version: int, encoder: str) -> None:
    for values, data in frames(name, version, encoder):
        assert group_of(data, read_request_head(data)) == expected_group(values)


def expected_group(values: Values) -> str | None:
    if "Groups" in values:
        values = values["Groups"][0] if len(values["Groups"]) == 1 else {"GroupId": None}
    return values["GroupId"] or None


@pytest.mark.parametrize(("version", "encoder"), SEVERAL)
@pytest.mark.parametrize("count", [0, 1, 2])
def test_offset_fetch_of_one_group_or_several(version: int, encoder: str, count: int) -> None:
    (values,) = samples("OffsetFetchRequest", version, 1)
    values["Groups"] = [
        {"GroupId": f"group {index}", "MemberId": None, "MemberEpoch": -1, "Topics": None}
        for index in range(count)
    ]
    data = encode(encoder, "OffsetFetchRequest", version, values)
    assert group_of(data, read_request_head(data)) == ("group 0" if count == 1 else None)


@pytest.mark.parametrize("key", [0, 1, 3, 18, 16, 999])
def test_requests_of_no_group(key: int) -> None:
    assert group_of(bytes(50), RequestHead(key, 0, 1, "", 14)) is None


@pytest.mark.parametrize(("name", "version", "encoder"), COMMITS)
def test_offsets_that_are_committed(name: str, version: int, encoder: str) -> None:
    for values, data in frames(name, version, encoder):
        commits = read_offset_commit(data, read_request_head(data))
        assert [(each.topic, each.topic_id, each.partition, each.offset) for each in commits] == [
            (
                topic.get("Name", ""),
                topic.get("TopicId", b""),
                each["PartitionIndex"],
                each["CommittedOffset"],
            )
            for topic in values["Topics"]
            for each in topic["Partitions"]
        ]


def test_other_requests_commit_nothing() -> None:
    with pytest.raises(Malformed):
        read_offset_commit(bytes(50), RequestHead(KEYS["Heartbeat"], 0, 1, "", 14))


@pytest.mark.parametrize(("api", "version"), [("OffsetCommit", 11), ("TxnOffsetCommit", 6)])
def test_versions_that_are_not_known(api: str, version: int) -> None:
    head = RequestHead(KEYS[api], version, 1, "", 14)
    with pytest.raises(Malformed):
        group_of(bytes(50), head)
    with pytest.raises(Malformed):
        read_offset_commit(bytes(50), head)
