"""Requests and responses for the tests, written by Apache Kafka's message definitions."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping, Sequence
from typing import Any

from tests.wire.kafka.messages import KEYS, Values, by_definition, flexible, kafka_python_class

ALL_KEYS = KEYS | {"SaslHandshake": 17, "SaslAuthenticate": 36, "ListOffsets": 2}

Partition = tuple[str, int]
ORDERS: Partition = ("orders", 0)

RETRIABLE = 6  # NOT_LEADER_OR_FOLLOWER
TOO_LARGE = 10  # MESSAGE_TOO_LARGE
REFUSED = 87  # INVALID_RECORD


def topic_id(name: str) -> bytes:
    """The id that the tests' cluster gives a topic."""
    return hashlib.md5(name.encode()).digest()


def sized(data: bytes) -> bytes:
    return struct.pack(">i", len(data)) + data


def request_head(name: str, version: int, correlation: int = 1, client_id: str = "app") -> bytes:
    head = struct.pack(">hhih", ALL_KEYS[name], version, correlation, len(client_id))
    tags = b"\0" if name in KEYS and flexible(f"{name}Request", version) else b""
    return head + client_id.encode() + tags


def request(
    name: str, version: int, values: Values, correlation: int = 1, client_id: str = "app"
) -> bytes:
    """A whole request such as ``Produce``."""
    body = by_definition(f"{name}Request", version, values)
    return sized(request_head(name, version, correlation, client_id) + body)


def response(name: str, version: int, values: Values, correlation: int = 1) -> bytes:
    """A whole response."""
    compact = flexible(f"{name}Response", version) and name != "ApiVersions"
    head = struct.pack(">i", correlation) + (b"\0" if compact else b"")
    return sized(head + by_definition(f"{name}Response", version, values))


def body(frame: bytes, name: str, version: int, client_id: str = "app") -> Any:
    """What kafka-python reads in a whole message."""
    assert len(frame) == 4 + int.from_bytes(frame[:4], "big")
    if name.endswith("Request"):
        at = 4 + len(request_head(name.removesuffix("Request"), version, 0, client_id))
    else:
        at = 8 + (flexible(name, version) and name != "ApiVersionsResponse")
    reader = kafka_python_class(name)
    assert reader is not None
    return reader.decode(frame[at:], version=version).to_dict(json=False)


def _by_topic(partitions: Mapping[Partition, Any] | Sequence[Partition]) -> dict[str, list[int]]:
    topics: dict[str, list[int]] = {}
    for topic, number in partitions:
        topics.setdefault(topic, []).append(number)
    return topics


# Produce


def produce(
    batches: Mapping[Partition, bytes | None] | bytes,
    correlation: int = 1,
    *,
    version: int = 9,
    acks: int = -1,
    client_id: str = "app",
    transactional_id: str | None = None,
) -> bytes:
    """A Produce request; bytes alone are one batch for the first partition of ``orders``."""
    if isinstance(batches, bytes):
        batches = {ORDERS: batches}
    topics = [
        {
            "Name": name,
            "TopicId": topic_id(name),
            "PartitionData": [{"Index": n, "Records": batches[name, n]} for n in numbers],
        }
        for name, numbers in _by_topic(batches).items()
    ]
    values = {
        "TransactionalId": transactional_id,
        "Acks": acks,
        "TimeoutMs": 30_000,
        "TopicData": topics,
    }
    return request("Produce", version, values, correlation, client_id)


def produced(
    answers: Mapping[Partition, tuple[int, int]] | tuple[int, int],
    correlation: int = 1,
    *,
    version: int = 9,
    **tagged: Any,
) -> bytes:
    """The answer to it: error and base offset of each partition."""
    if isinstance(answers, tuple):
        answers = {ORDERS: answers}
    topics = [
        {
            "Name": name,
            "TopicId": topic_id(name),
            "PartitionResponses": [_acknowledged(n, *answers[name, n]) for n in numbers],
        }
        for name, numbers in _by_topic(answers).items()
    ]
    values = {"Responses": topics, "ThrottleTimeMs": 0, **tagged}
    return response("Produce", version, values, correlation)


def _acknowledged(number: int, error: int, offset: int) -> Values:
    return {
        "Index": number,
        "ErrorCode": error,
        "BaseOffset": -1 if error else offset,
        "LogAppendTimeMs": -1,
        "LogStartOffset": 0,
        "RecordErrors": [],
        "ErrorMessage": None,
    }


def sent_batches(frame: bytes, version: int = 9, client_id: str = "app") -> dict[Partition, bytes]:
    """The batches in a Produce request; topics that go by id under that id in hex."""
    found: dict[Partition, bytes] = {}
    for topic in body(frame, "ProduceRequest", version, client_id)["topic_data"]:
        name = topic["topic_id"].bytes.hex() if version >= 13 else topic["name"]
        for partition in topic["partition_data"]:
            found[name, partition["index"]] = partition["records"]
    return found


def sent_batch(frame: bytes, version: int = 9) -> bytes:
    """The only batch in a Produce request."""
    (found,) = sent_batches(frame, version).values()
    return found


# Fetch


def fetch(correlation: int = 1, *, version: int = 11, client_id: str = "app") -> bytes:
    """A Fetch request; it need not say what it wants, since nobody asks."""
    values = {
        "ReplicaId": -1,
        "MaxWaitMs": 500,
        "MinBytes": 1,
        "MaxBytes": 1 << 20,
        "IsolationLevel": 0,
        "SessionId": 0,
        "SessionEpoch": -1,
        "Topics": [],
        "ForgottenTopicsData": [],
        "RackId": "",
    }
    return request("Fetch", version, values, correlation, client_id)


def fetched(
    records: Mapping[Partition, bytes | None] | bytes,
    correlation: int = 1,
    *,
    version: int = 11,
    **tagged: Any,
) -> bytes:
    """The answer to it; bytes alone are of the first partition of ``orders``."""
    if isinstance(records, bytes):
        records = {ORDERS: records}
    topics = [
        {
            "Topic": name,
            "TopicId": topic_id(name),
            "Partitions": [_fetched(n, records[name, n]) for n in numbers],
        }
        for name, numbers in _by_topic(records).items()
    ]
    values = {
        "ThrottleTimeMs": 0,
        "ErrorCode": 0,
        "SessionId": 0,
        "Responses": topics,
        **tagged,
    }
    return response("Fetch", version, values, correlation)


def _fetched(number: int, records: bytes | None) -> Values:
    return {
        "PartitionIndex": number,
        "ErrorCode": 0,
        "HighWatermark": 100,
        "LastStableOffset": 100,
        "LogStartOffset": 0,
        "AbortedTransactions": None,
        "PreferredReadReplica": -1,
        "Records": records,
    }


# Groups


def heartbeat(group: str, correlation: int = 1, client_id: str = "app") -> bytes:
    values = {"GroupId": group, "GenerationId": 1, "MemberId": "m", "GroupInstanceId": None}
    return request("Heartbeat", 4, values, correlation, client_id)


def heartbeat_answer(correlation: int = 1) -> bytes:
    return sized(struct.pack(">ibihb", correlation, 0, 0, 0, 0))


def offset_commit(
    offsets: Mapping[Partition, int] | int,
    correlation: int = 1,
    *,
    version: int = 8,
    group: str = "shipping",
) -> bytes:
    """OffsetCommit: of each partition the next message to read."""
    if isinstance(offsets, int):
        offsets = {ORDERS: offsets}
    topics = [
        {
            "Name": name,
            "TopicId": topic_id(name),
            "Partitions": [
                {
                    "PartitionIndex": n,
                    "CommittedOffset": offsets[name, n],
                    "CommittedLeaderEpoch": -1,
                    "CommittedMetadata": None,
                }
                for n in numbers
            ],
        }
        for name, numbers in _by_topic(offsets).items()
    ]
    values = {
        "GroupId": group,
        "GenerationIdOrMemberEpoch": 1,
        "MemberId": "m",
        "GroupInstanceId": None,
        "RetentionTimeMs": -1,
        "Topics": topics,
    }
    return request("OffsetCommit", version, values, correlation)


def txn_offset_commit(offset: int, correlation: int = 1) -> bytes:
    """TxnOffsetCommit for the first partition of ``orders``."""
    partition = {
        "PartitionIndex": 0,
        "CommittedOffset": offset,
        "CommittedLeaderEpoch": -1,
        "CommittedMetadata": None,
    }
    values = {
        "TransactionalId": "tx",
        "GroupId": "shipping",
        "ProducerId": 1,
        "ProducerEpoch": 0,
        "GenerationId": 1,
        "MemberId": "m",
        "GroupInstanceId": None,
        "Topics": [{"Name": "orders", "Partitions": [partition]}],
    }
    return request("TxnOffsetCommit", 3, values, correlation)


# The cluster


def metadata(correlation: int = 1, *, version: int = 12) -> bytes:
    values = {
        "Topics": [],
        "AllowAutoTopicCreation": False,
        "IncludeClusterAuthorizedOperations": False,
        "IncludeTopicAuthorizedOperations": False,
    }
    return request("Metadata", version, values, correlation)


def metadata_answer(
    topics: Sequence[str] = (),
    brokers: Mapping[int, tuple[str, int]] | None = None,
    correlation: int = 1,
    *,
    version: int = 12,
) -> bytes:
    """A response that names topics and brokers."""
    values = {
        "ThrottleTimeMs": 0,
        "Brokers": [
            {"NodeId": node, "Host": host, "Port": port, "Rack": None}
            for node, (host, port) in (brokers or {}).items()
        ],
        "ClusterId": "cluster",
        "ControllerId": 1,
        "Topics": [
            {
                "ErrorCode": 0,
                "Name": name,
                "TopicId": topic_id(name),
                "IsInternal": False,
                "Partitions": [],
                "TopicAuthorizedOperations": 0,
            }
            for name in topics
        ],
        "ClusterAuthorizedOperations": 0,
        "ErrorCode": 0,
    }
    return response("Metadata", version, values, correlation)


def api_versions(correlation: int = 1, *, version: int = 3) -> bytes:
    values = {"ClientSoftwareName": "test", "ClientSoftwareVersion": "1"}
    return request("ApiVersions", version, values, correlation)


def api_versions_answer(
    ranges: Mapping[int, tuple[int, int]], correlation: int = 1, *, version: int = 3
) -> bytes:
    keys = [
        {"ApiKey": key, "MinVersion": oldest, "MaxVersion": newest}
        for key, (oldest, newest) in ranges.items()
    ]
    values = {"ErrorCode": 0, "ApiKeys": keys, "ThrottleTimeMs": 0}
    return response("ApiVersions", version, values, correlation)


def ranges(frame: bytes, version: int = 3) -> dict[int, tuple[int, int]]:
    """API key → oldest and newest version."""
    keys = body(frame, "ApiVersionsResponse", version)["api_keys"]
    return {key["api_key"]: (key["min_version"], key["max_version"]) for key in keys}


def sasl_handshake(version: int, correlation: int = 1) -> bytes:
    text = b"PLAIN"
    head = request_head("SaslHandshake", version, correlation)
    return sized(head + struct.pack(">h", len(text)) + text)


def sasl_handshake_answer(correlation: int = 1) -> bytes:
    return sized(struct.pack(">ihih", correlation, 0, 1, 5) + b"PLAIN")


def unknown(correlation: int = 1, content: bytes = b"content") -> bytes:
    """A request of an API that nobody knows."""
    return sized(struct.pack(">hhih", 999, 0, correlation, 3) + b"app" + content)


def answer(correlation: int = 1, content: bytes = b"answer") -> bytes:
    """A response to something that is not read."""
    return sized(struct.pack(">i", correlation) + content)
