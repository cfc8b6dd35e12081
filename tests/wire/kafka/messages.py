"""Messages of Kafka for the tests, made from the message definitions of Apache Kafka.

What a message holds is a dictionary by the names of its definition. It is encoded by three: by
kafka-python and by kio, and by `by_definition`, which alone can write tagged fields that nobody
knows (under the key `UNKNOWN`). `test_oracles.py` holds the three against each other.
"""

from __future__ import annotations

import importlib
import io
import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from random import Random
from typing import Any, get_args
from uuid import UUID

from kafka.protocol.api_message import ApiMessage
from kafka.protocol.schemas import load_json
from kio.schema.errors import ErrorCode
from kio.serial import entity_writer

UNKNOWN = "?"
"""Under this key: (tag, bytes) of tagged fields that no definition has."""

Values = dict[str, Any]
Encoder = Callable[[str, int, Values], bytes]

ALL_NEWER = 32767

CLIENT_ID = "client-ü"
CORRELATION_ID = 7

NEWEST = {
    "Produce": 13, "Fetch": 18, "Metadata": 13, "FindCoordinator": 6, "DescribeCluster": 2,
    "ApiVersions": 4, "OffsetCommit": 10, "OffsetFetch": 10, "JoinGroup": 9, "SyncGroup": 5,
    "Heartbeat": 4, "LeaveGroup": 5, "ConsumerGroupHeartbeat": 1, "TxnOffsetCommit": 5,
}  # fmt: skip

KEYS = {
    "Produce": 0, "Fetch": 1, "Metadata": 3, "FindCoordinator": 10, "DescribeCluster": 60,
    "ApiVersions": 18, "OffsetCommit": 8, "OffsetFetch": 9, "JoinGroup": 11, "SyncGroup": 14,
    "Heartbeat": 12, "LeaveGroup": 13, "ConsumerGroupHeartbeat": 68, "TxnOffsetCommit": 28,
}  # fmt: skip

CONSUMER_GROUP_HEARTBEAT = {
    "name": "ConsumerGroupHeartbeatRequest",
    "type": "request",
    "flexibleVersions": "0+",
    "fields": [
        {"name": "GroupId", "type": "string", "versions": "0+"},
        {"name": "MemberId", "type": "string", "versions": "0+"},
        {"name": "MemberEpoch", "type": "int32", "versions": "0+"},
        {"name": "InstanceId", "type": "string", "versions": "0+", "nullableVersions": "0+"},
        {"name": "RackId", "type": "string", "versions": "0+", "nullableVersions": "0+"},
        {"name": "RebalanceTimeoutMs", "type": "int32", "versions": "0+"},
        {
            "name": "SubscribedTopicNames",
            "type": "[]string",
            "versions": "0+",
            "nullableVersions": "0+",
        },
        {
            "name": "SubscribedTopicRegex",
            "type": "string",
            "versions": "1+",
            "nullableVersions": "1+",
        },
        {"name": "ServerAssignor", "type": "string", "versions": "0+", "nullableVersions": "0+"},
        {
            "name": "TopicPartitions",
            "type": "[]TopicPartitions",
            "versions": "0+",
            "nullableVersions": "0+",
            "fields": [
                {"name": "TopicId", "type": "uuid", "versions": "0+"},
                {"name": "Partitions", "type": "[]int32", "versions": "0+"},
            ],
        },
    ],
}
"""Apache Kafka's definition; kafka-python has none."""


@cache
def definition(name: str) -> dict[str, Any]:
    """The definition of a message such as ``FetchResponse``."""
    return CONSUMER_GROUP_HEARTBEAT if name.startswith("ConsumerGroup") else load_json(name)


def covers(versions: str | None, version: int) -> bool:
    """Whether ``3``, ``3+`` or ``3-5`` covers a version."""
    if not versions or versions == "none":
        return False
    first, _, last = versions.rstrip("+").partition("-")
    end = ALL_NEWER if versions.endswith("+") else int(last or first)
    return int(first) <= version <= end


def flexible(name: str, version: int) -> bool:
    return covers(definition(name)["flexibleVersions"], version)


def members(parent: dict[str, Any], version: int, tagged: bool) -> list[dict[str, Any]]:
    """The fields of a structure in one version, in their order; tagged ones by tag."""
    found = [
        field
        for field in parent["fields"]
        if covers(field["versions"], version)
        and covers(field.get("taggedVersions"), version) is tagged
    ]
    return sorted(found, key=lambda field: field["tag"]) if tagged else found


# What messages hold


TEXTS = ["", "a", "orders", "bücher", "注文", "a" * 130, "🙂" * 40]
INTEGERS = {"int8": 7, "int16": 15, "int32": 31, "int64": 63}


def samples(name: str, version: int, count: int, unknown: bool = False) -> list[Values]:
    """Various contents of a message, the same ones each time: empty, null, odd and plain fields.

    With ``unknown``, also tagged fields that nobody knows.
    """
    dice = Random(f"{name} {version}")
    unknown = unknown and flexible(name, version)
    return [_structure_of(definition(name), version, dice, unknown, False) for _ in range(count)]


def _structure_of(
    parent: dict[str, Any], version: int, dice: Random, unknown: bool, notable: bool
) -> Values:
    values = {
        field["name"]: _content(field, version, dice, unknown, notable)
        for field in members(parent, version, False)
    }
    for field in members(parent, version, True):
        # A tagged field with its default value may be written or not: it is absent here.
        if dice.random() < 0.5:
            values[field["name"]] = _content(field, version, dice, unknown, True)
    if unknown:
        tags = {dice.choice([100, 127, 128, 2**32 - 1]): dice.randbytes(dice.choice([0, 3, 200]))
                for _ in range(dice.randrange(3))}  # fmt: skip
        values[UNKNOWN] = sorted(tags.items())
    return values


def _content(
    field: dict[str, Any], version: int, dice: Random, unknown: bool, notable: bool
) -> Any:
    """``notable``: not what is the default."""
    kind = field["type"]
    if covers(field.get("nullableVersions"), version) and not notable and dice.random() < 0.3:
        return None
    if kind.startswith("[]"):
        element = {**field, "type": kind[2:], "nullableVersions": None}
        count = dice.randrange(1, 4) if notable else dice.choice([0, 1, 1, 2, 3])
        return [_content(element, version, dice, unknown, False) for _ in range(count)]
    if "fields" in field:
        return _structure_of(field, version, dice, unknown, notable)
    return _simple(field["name"], kind, dice, notable)


def _simple(name: str, kind: str, dice: Random, notable: bool) -> Any:
    if name == "ErrorCode":  # kio knows no others
        return dice.choice([0, 0, dice.randrange(-1, 110)])
    if name in ("LogAppendTimeMs", "CommitTimestamp"):  # a datetime in kio
        return dice.choice([-1, dice.randrange(2**41)])
    if name == "RetentionTimeMs":  # a timedelta in kio
        return dice.randrange(2**31)
    if kind in INTEGERS:
        end = 2 ** INTEGERS[kind]
        return (
            dice.randrange(end) if notable else dice.choice([-1, 0, 1, dice.randrange(-end, end)])
        )
    if kind == "string":
        return dice.choice(TEXTS[1:] if notable else TEXTS)
    if kind == "bool":
        return notable or dice.random() < 0.5
    if kind == "uuid":
        return dice.randbytes(16) if notable else dice.choice([bytes(16), dice.randbytes(16)])
    assert kind in ("bytes", "records"), kind
    return dice.randbytes(dice.choice([0, 1, 20, 200]))


# The encoders


def by_definition(name: str, version: int, values: Values) -> bytes:
    return _structure(definition(name), version, flexible(name, version), values)


def uvarint(value: int) -> bytes:
    encoded = b""
    while value > 127:
        encoded += bytes([value % 128 + 128])
        value //= 128
    return encoded + bytes([value])


def _structure(parent: dict[str, Any], version: int, compact: bool, values: Values) -> bytes:
    encoded = b"".join(
        _value(field, version, compact, values[field["name"]])
        for field in members(parent, version, False)
    )
    if not compact:
        return encoded
    tags = [
        (field["tag"], _value(field, version, compact, values[field["name"]]))
        for field in members(parent, version, True)
        if field["name"] in values
    ] + values.get(UNKNOWN, [])
    return encoded + tagged_fields(tags)


def tagged_fields(tags: list[tuple[int, bytes]]) -> bytes:
    return uvarint(len(tags)) + b"".join(
        uvarint(tag) + uvarint(len(data)) + data for tag, data in tags
    )


def _value(field: dict[str, Any], version: int, compact: bool, value: Any) -> bytes:
    kind = field["type"]
    if kind.startswith("[]"):
        element = {**field, "type": kind[2:]}
        data = b"".join(_value(element, version, compact, each) for each in value or [])
        return _length("i", compact, value) + data
    if "fields" in field:
        return _structure(field, version, compact, value)
    if kind == "string":
        text = None if value is None else value.encode()
        return _length("h", compact, text) + (text or b"")
    if kind in ("bytes", "records"):
        return _length("i", compact, value) + (value or b"")
    if kind == "uuid":
        assert isinstance(value, bytes)
        return value
    return struct.pack(
        {"bool": ">?", "int8": ">b", "int16": ">h", "int32": ">i", "int64": ">q"}[kind], value
    )


def _length(old: str, compact: bool, value: Any) -> bytes:
    size = -1 if value is None else len(value)
    return uvarint(size + 1) if compact else struct.pack(">" + old, size)


@cache
def kafka_python_class(name: str) -> type[ApiMessage] | None:
    for room in ("producer", "consumer", "metadata", "admin"):
        found = getattr(importlib.import_module(f"kafka.protocol.{room}"), name, None)
        if found is not None:
            return found  # type: ignore[no-any-return]
    return None


def by_kafka_python(name: str, version: int, values: Values) -> bytes:
    found = kafka_python_class(name)
    assert found is not None
    return bytes(found[version](**_held(found._struct._fields, version, values)).encode())


def _held(members: Any, version: int, values: Values) -> Values:
    """By the names of kafka-python, which differ from the definition's for sets of bits."""
    by_name = {
        "authorized_operations" if name.endswith("AuthorizedOperations") else name: value
        for name, value in values.items()
    }
    return {
        field.name: _for_kafka_python(field, version, by_name[field._name])
        for field in members
        if field._name in by_name
    }


def _for_kafka_python(field: Any, version: int, value: Any) -> Any:
    if value is None:
        return None
    if field.is_struct_array():
        return [_container(field, version, each) for each in value]
    if field.is_struct():
        return _container(field, version, value)
    if isinstance(value, bytes) and field.type_str == "uuid":
        return UUID(bytes=value)
    if field._name == "authorized_operations":
        return {bit for bit in range(32) if value >> bit & 1}
    return value


def _container(field: Any, version: int, values: Values) -> Any:
    return field.data_class(version=version, **_held(field.fields.values(), version, values))


def read_by_kafka_python(name: str, version: int, body: bytes) -> Any:
    """All fields that kafka-python finds in the body of a message."""
    found = kafka_python_class(name)
    assert found is not None
    return found.decode(body, version=version).to_dict(json=False)


@cache
def kio_class(name: str, version: int) -> Any:
    api, kind = re.fullmatch(r"(\w+)(Request|Response)", name).groups()  # type: ignore[union-attr]
    snake = re.sub(r"(?<!^)(?=[A-Z])", "_", api).lower()
    try:
        module = importlib.import_module(f"kio.schema.{snake}.v{version}.{kind.lower()}")
    except ModuleNotFoundError:
        return None
    return getattr(module, name)


def by_kio(name: str, version: int, values: Values) -> bytes:
    found = kio_class(name, version)
    with io.BytesIO() as written:
        entity_writer(found)(written, _entity(found, definition(name), version, values))
        return written.getvalue()


def _entity(found: Any, parent: dict[str, Any], version: int, values: Values) -> Any:
    """kio has the fields of each version in the order of the definition, by names of its own."""
    wanted = [field for field in parent["fields"] if covers(field["versions"], version)]
    slots = fields(found)
    assert len(slots) == len(wanted), (slots, wanted)
    held = {
        slot.name: _for_kio(slot, field, version, values[field["name"]])
        for slot, field in zip(slots, wanted, strict=True)
        if field["name"] in values
    }
    return found(**held)


def _for_kio(slot: Any, field: dict[str, Any], version: int, value: Any) -> Any:
    if value is None:
        return None
    if field["type"].startswith("[]"):
        if "fields" not in field:
            return tuple(value)
        return tuple(_entity(_inner(slot.type), field, version, each) for each in value)
    if "fields" in field:
        return _entity(_inner(slot.type), field, version, value)
    kind = slot.metadata["kafka_type"]
    if kind == "error_code":
        return ErrorCode(value)
    if kind == "uuid":
        return UUID(bytes=value) if any(value) else None
    if kind.startswith("timedelta"):
        return timedelta(milliseconds=value)
    if kind == "datetime_i64":
        moment = datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=value)
        return None if value < 0 else moment
    return value


def _inner(annotation: Any) -> Any:
    """The entity in ``E``, ``E | None``, ``tuple[E, ...]`` or ``tuple[E, ...] | None``."""
    if is_dataclass(annotation):
        return annotation
    for argument in get_args(annotation):
        found = _inner(argument)
        if found is not None:
            return found
    return None


ENCODERS: dict[str, Encoder] = {
    "definition": by_definition,
    "kafka-python": by_kafka_python,
    "kio": by_kio,
}


def encoders(name: str, version: int) -> list[str]:
    """Which encoders have a message in this version."""
    found = ["definition"]
    if kafka_python_class(name) is not None:
        found.append("kafka-python")
    if kio_class(name, version) is not None:
        found.append("kio")
    return found


Variant = tuple[int, str]


def variants(name: str, oldest: int = 0, newest: int = ALL_NEWER) -> list[Variant]:
    """Versions of a message and who encodes them: all there are."""
    end = min(newest, NEWEST[re.sub("Request$|Response$", "", name)])
    return [
        (version, encoder)
        for version in range(oldest, end + 1)
        for encoder in encoders(name, version)
    ]


def frames(name: str, version: int, encoder: str, count: int = 6) -> Iterator[tuple[Values, bytes]]:
    """Various messages with what they hold."""
    for values in samples(name, version, count, unknown=encoder == "definition"):
        yield values, encode(encoder, name, version, values)


def encode(encoder: str, name: str, version: int, values: Values) -> bytes:
    """The whole frame of a message."""
    body = ENCODERS[encoder](name, version, values)
    if name.endswith("Request"):
        return frame(request_header(name, version, tags=values.get(UNKNOWN, [])) + body)
    return frame(response_header(name, version, values.get(UNKNOWN, [])) + body)


def frame(data: bytes) -> bytes:
    return struct.pack(">i", len(data)) + data


def request_header(
    name: str,
    version: int,
    client_id: str | None = CLIENT_ID,
    tags: list[tuple[int, bytes]] | None = None,
) -> bytes:
    """Header 1, or 2 in flexible versions, where the client id is not compact all the same."""
    text = None if client_id is None else client_id.encode()
    key = KEYS[name.removesuffix("Request")]
    header = (
        struct.pack(">hhi", key, version, CORRELATION_ID)
        + _length("h", False, text)
        + (text or b"")
    )
    return header + (tagged_fields(tags or []) if flexible(name, version) else b"")


def response_header(name: str, version: int, tags: list[tuple[int, bytes]]) -> bytes:
    """Header 0, or 1 in flexible versions, but not for ApiVersions (KIP-511)."""
    header = struct.pack(">i", CORRELATION_ID)
    if flexible(name, version) and name != "ApiVersionsResponse":
        return header + tagged_fields(tags)
    return header
