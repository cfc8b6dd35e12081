"""Addresses of brokers in responses, replaced by those at which the client finds them.

Only the addresses change, all other bytes stay. The functions take whole responses with their four
size bytes, and return such, the very same object if nothing changed. They raise `Malformed`, and
whatever ``place`` raises.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from meshproxy.wire.kafka.apis import DESCRIBE_CLUSTER, FIND_COORDINATOR, METADATA, flexible
from meshproxy.wire.kafka.primitives import INT32, Patch, Reader, string, uvarint
from meshproxy.wire.kafka.requests import response_body

Place = Callable[[int, str, int], tuple[str, int]]
"""Node id, host and port of a broker → host and port at which the client finds it."""

Topics = list[tuple[bytes, str]]
"""Ids and names of topics."""

NO_ID: Final = bytes(16)
"""The id of a topic that has none (KIP-516)."""
CONTROLLERS: Final = 2
"""The endpoint type of controllers (KIP-919)."""
NODE_ENDPOINTS: Final = 0
"""The tag of new leaders' addresses in answers to Produce and Fetch (KIP-951)."""


def metadata(response: bytes, version: int, place: Place) -> tuple[bytes, Topics]:
    """A response to Metadata, versions 0 to 13; from 10 on, with the ids of topics it names."""
    reader = response_body(response, METADATA, version)
    compact = flexible(METADATA, version)
    patch = Patch(response)
    if version >= 3:
        reader.take(4)  # throttle time
    for _ in range(reader.length(compact)):
        _replace_address(reader, compact, place, patch)
        if version >= 1:
            reader.skip_string(compact)  # rack
        if compact:
            reader.skip_tags()
    return patch.frame(), _topics(reader) if version >= 10 else []


def _topics(reader: Reader) -> Topics:
    """The topics of a response to Metadata, version 10 or newer."""
    topics: Topics = []
    reader.skip_string(True)  # cluster id
    reader.take(4)  # controller
    for _ in range(reader.length(True)):
        reader.take(2)  # error
        name = reader.string(True)
        topic_id = reader.uuid()
        reader.take(1)  # whether internal
        for _ in range(reader.length(True)):
            _skip_partition(reader)
        reader.take(4)  # authorised operations
        reader.skip_tags()
        if name and topic_id != NO_ID:
            topics.append((topic_id, name))
    return topics


def _skip_partition(reader: Reader) -> None:
    reader.take(14)  # error, index, leader and its epoch
    reader.skip_array(True, 4)  # replicas
    reader.skip_array(True, 4)  # those in sync
    reader.skip_array(True, 4)  # those offline
    reader.skip_tags()


def find_coordinator(response: bytes, version: int, place: Place) -> bytes:
    """A response to FindCoordinator, versions 0 to 6."""
    reader = response_body(response, FIND_COORDINATOR, version)
    compact = flexible(FIND_COORDINATOR, version)
    patch = Patch(response)
    if version >= 1:
        reader.take(4)  # throttle time
    if version <= 3:
        reader.take(2)  # error
        if version >= 1:
            reader.skip_string(compact)  # error message
        _replace_address(reader, compact, place, patch)
        return patch.frame()
    for _ in range(reader.length(True)):
        reader.skip_string(True)  # key
        _replace_address(reader, True, place, patch)
        reader.take(2)  # error
        reader.skip_string(True)  # error message
        reader.skip_tags()
    return patch.frame()


def describe_cluster(response: bytes, version: int, place: Place) -> bytes:
    """A response to DescribeCluster, versions 0 to 2.

    Controllers keep their addresses: clients talk to them past the brokers, and their node ids may
    be those of brokers.
    """
    reader = response_body(response, DESCRIBE_CLUSTER, version)
    patch = Patch(response)
    reader.take(6)  # throttle time, error
    reader.skip_string(True)  # error message
    if version >= 1 and response[reader.take(1)] == CONTROLLERS:
        return response
    reader.skip_string(True)  # cluster id
    reader.take(4)  # controller
    for _ in range(reader.length(True)):
        _replace_address(reader, True, place, patch)
        reader.skip_string(True)  # rack
        if version >= 2:
            reader.take(1)  # whether fenced
        reader.skip_tags()
    return patch.frame()


def node_endpoints(response: bytes, reader: Reader, place: Place) -> bytes:
    """A response to Produce or Fetch whose last tagged fields the reader has come to."""
    at = reader.find_tag(NODE_ENDPOINTS)
    if at < 0:
        return response
    field = Reader(response, at, reader.at)
    size = field.uvarint()
    begin = field.at
    patch = Patch(response)
    for _ in range(field.length(True)):
        _replace_address(field, True, place, patch)
        field.skip_string(True)  # rack
        field.skip_tags()
    if patch.growth:
        patch.replace(at, begin, uvarint(size + patch.growth))
    return patch.frame()


def _replace_address(reader: Reader, compact: bool, place: Place, patch: Patch) -> None:
    """Read a node id, host and port, and replace the latter two; none of a node that is unknown."""
    node = reader.int32()
    at = reader.at
    host = reader.string(compact)
    port = reader.int32()
    if node < 0 or not host:
        return
    found = place(node, host, port)
    if found != (host, port):
        patch.replace(at, reader.at, string(found[0], compact) + INT32.pack(found[1]))
