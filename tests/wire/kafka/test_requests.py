"""Headers of requests and responses, and the table of APIs."""

from __future__ import annotations

import importlib
import pkgutil
import struct

import pytest
from kio.schema.index import api_key_map

from meshproxy.wire.kafka.apis import APIS, flexible, understood
from meshproxy.wire.kafka.primitives import Malformed
from meshproxy.wire.kafka.requests import correlation_id, read_request_head
from tests.wire.kafka.messages import (
    CLIENT_ID,
    CORRELATION_ID,
    KEYS,
    NEWEST,
    frame,
    kafka_python_class,
    request_header,
    response_header,
)

ALL = [(api, version) for api in NEWEST for version in range(NEWEST[api] + 1)]


@pytest.mark.parametrize(("api", "version"), ALL)
@pytest.mark.parametrize("tags", [[], [(0, b""), (300, bytes(200))]])
def test_the_head_ends_where_the_body_begins(
    api: str, version: int, tags: list[tuple[int, bytes]]
) -> None:
    header = request_header(f"{api}Request", version, tags=tags)
    head = read_request_head(frame(header + b"body"))
    assert (head.key, head.version, head.correlation_id) == (KEYS[api], version, CORRELATION_ID)
    assert head.client_id == CLIENT_ID
    assert head.body_at == 4 + len(header)


@pytest.mark.parametrize(
    ("api", "version"), [each for each in ALL if each[0] != "ConsumerGroupHeartbeat"]
)
def test_heads_that_kafka_python_writes(api: str, version: int) -> None:
    found = kafka_python_class(f"{api}Request")
    assert found is not None
    message = found[version]()
    message.with_header(correlation_id=-5, client_id="mine")
    header = message.encode_header(flexible=found.flexible_version_q(version))
    head = read_request_head(frame(bytes(header)))
    assert (head.key, head.version, head.correlation_id) == (KEYS[api], version, -5)
    assert (head.client_id, head.body_at) == ("mine", 4 + len(header))


def test_no_client_id() -> None:
    head = read_request_head(frame(request_header("MetadataRequest", 9, client_id=None)))
    assert head.client_id == ""


def test_a_client_id_that_is_not_utf_8() -> None:
    assert read_request_head(frame(bytes(8) + b"\x00\x02\xffx")).client_id == "\ufffdx"


def test_controlled_shutdown_0_has_no_client_id() -> None:
    """The one request with header version 0 (RequestHeader.json)."""
    head = read_request_head(frame(struct.pack(">hhii", 7, 0, 9, 1001)))
    assert (head.key, head.correlation_id, head.client_id, head.body_at) == (7, 9, "", 12)


def test_an_unknown_api_has_a_head_all_the_same() -> None:
    head = read_request_head(frame(struct.pack(">hhih", 999, 3, 9, 1) + b"c" + b"body"))
    assert (head.key, head.version, head.correlation_id, head.client_id) == (999, 3, 9, "c")
    assert head.body_at == 15


@pytest.mark.parametrize(
    "data", [b"", bytes(11), frame(bytes(8)), frame(bytes(8) + b"\x00\x05abc")]
)
def test_a_head_that_is_cut_off(data: bytes) -> None:
    with pytest.raises(Malformed):
        read_request_head(data)


@pytest.mark.parametrize("version", [0, 12])
def test_the_correlation_id_of_a_response(version: int) -> None:
    assert correlation_id(frame(response_header("FetchResponse", version, []))) == CORRELATION_ID
    with pytest.raises(Malformed):
        correlation_id(bytes(7))


@pytest.mark.parametrize("key", sorted(api_key_map))
def test_every_api_that_kio_has_is_known(key: int) -> None:
    """Flexible or not, in each version."""
    assert key in APIS
    package = importlib.import_module(f"kio.schema.{api_key_map[key]}")
    for info in pkgutil.iter_modules(package.__path__):
        module = importlib.import_module(f"{package.__name__}.{info.name}.request")
        request = getattr(module, f"{APIS[key].name}Request")
        assert request.__api_key__ == key
        assert flexible(key, request.__version__) == request.__flexible__


def test_what_is_understood() -> None:
    assert {APIS[key].name: APIS[key].newest for key in KEYS.values()} == NEWEST
    assert understood(0, 13)
    assert not understood(0, 14)
    assert not understood(0, -1)
    assert not understood(19, 5)
    assert not understood(999, 0)
    assert not flexible(999, 5)
