"""Whatever bytes come, the parsers read them or raise `Malformed`; they are never led astray."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from meshproxy.wire.kafka import addresses, api_versions, fetch, groups, produce
from meshproxy.wire.kafka.primitives import Malformed
from meshproxy.wire.kafka.requests import correlation_id, read_request_head
from tests.wire.kafka.messages import (
    KEYS,
    NEWEST,
    encode,
    frame,
    request_header,
    response_header,
    samples,
)
from tests.wire.kafka.test_addresses import place

REQUESTS = tuple(
    f"{api}Request"
    for api in NEWEST
    if api not in ("Metadata", "FindCoordinator", "DescribeCluster", "ApiVersions")
)
RESPONSES: dict[str, Callable[[bytes, int], object]] = {
    "ProduceResponse": lambda data, version: produce.read_response(data, version, place),
    "FetchResponse": lambda data, version: (
        fetch.read_response(data, version),
        fetch.rewrite(data, version, place),
    ),
    "MetadataResponse": lambda data, version: addresses.metadata(data, version, place),
    "FindCoordinatorResponse": lambda data, version: addresses.find_coordinator(
        data, version, place
    ),
    "DescribeClusterResponse": lambda data, version: addresses.describe_cluster(
        data, version, place
    ),
    "ApiVersionsResponse": api_versions.clamp,
}
READERS = [(name, NEWEST[name.removesuffix("Request")]) for name in REQUESTS] + [
    (name, NEWEST[name.removesuffix("Response")]) for name in RESPONSES
]
KINDS = st.sampled_from(READERS).flatmap(
    lambda kind: st.tuples(st.just(kind[0]), st.integers(0, kind[1]))
)


def read(name: str, version: int, data: bytes) -> None:
    """Read a message as the product does."""
    if name in RESPONSES:
        correlation_id(data)
        RESPONSES[name](data, version)
        return
    head = read_request_head(data)
    if head.key == KEYS["Produce"]:
        request = produce.read_request(data, head)
        produce.replaced(data, request, dict.fromkeys(range(len(request.batches)), (b"new",)))
    else:
        groups.group_of(data, head)
        if head.key in (KEYS["OffsetCommit"], KEYS["TxnOffsetCommit"]):
            groups.read_offset_commit(data, head)


def survives(name: str, version: int, data: bytes) -> bool:
    """Whether it could be read; what else than `Malformed` it raises fails the test."""
    try:
        read(name, version, data)
    except Malformed:
        return False
    return True


def start(name: str, version: int) -> bytes:
    if name in RESPONSES:
        return response_header(name, version, [])
    return request_header(name, version)


@given(KINDS, st.binary(max_size=300))
def test_arbitrary_bytes(kind: tuple[str, int], body: bytes) -> None:
    name, version = kind
    survives(name, version, frame(start(name, version) + body))


@given(st.binary(max_size=60))
@example(b"")
@example(b"\x00\x00\x00\x08" + bytes(8))
def test_arbitrary_heads(data: bytes) -> None:
    survives("ProduceRequest", 0, data)


@given(
    KINDS,
    st.integers(0, 3),
    st.lists(
        st.tuples(
            st.integers(0, 10_000),
            st.sampled_from(
                [b"", b"\x00", b"\x7f", b"\x80", b"\xff", b"\xff" * 4, b"\x7f\xff\xff\xff"]
            ),
            st.integers(0, 4),
        ),
        min_size=1,
        max_size=4,
    ),
)
def test_mutated_messages(
    kind: tuple[str, int], number: int, changes: list[tuple[int, bytes, int]]
) -> None:
    name, version = kind
    values = samples(name, version, 4, unknown=True)[number]
    data = encode("definition", name, version, values)
    assert survives(name, version, data)
    for at, new, dropped in changes:
        cut = 14 + at % max(1, len(data) - 14)
        data = data[:cut] + new + data[cut + dropped :]
    survives(name, version, data)


@pytest.mark.parametrize(("name", "newest"), READERS)
def test_cut_off_anywhere(name: str, newest: int) -> None:
    for version in (0, newest // 2, newest):
        data = encode("definition", name, version, samples(name, version, 1, unknown=True)[0])
        for end in range(len(data)):
            survives(name, version, data[:end])


COUNTS = [b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff\x0f", b"\xff\xff\xff\xff\x07"]


@pytest.mark.parametrize(("name", "newest"), READERS)
def test_counts_that_promise_too_much_cost_nothing(name: str, newest: int) -> None:
    """In the place of every byte stands the greatest count that can be written."""
    versions = sorted({0, newest})
    messages = [
        (version, encode("definition", name, version, samples(name, version, 1, unknown=True)[0]))
        for version in versions
    ]
    tracemalloc.start()
    for version, data in messages:
        for at in range(14, min(len(data), 200)):
            for count in COUNTS:
                survives(name, version, data[:at] + count + data[at + 1 :])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20
