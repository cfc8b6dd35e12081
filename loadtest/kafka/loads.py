"""What is sent: codecs, sizes of records and batches, and the tasks that clients are given."""

from __future__ import annotations

import json
from random import Random
from typing import Final, Literal

import msgspec

Codec = Literal["none", "gzip", "snappy", "lz4", "zstd"]
Direction = Literal["produce", "fetch"]
CODECS: Final[tuple[Codec, ...]] = ("none", "gzip", "snappy", "lz4", "zstd")
"""In the order of their numbers in a record batch's attributes."""

PARTITIONS = 4
MESSAGE_BYTES = 4 << 20
"""The largest batch that brokers and proxies are told to take: 1000 × 1 KB and its headers pass."""

TRACEPARENT_BYTES = 55


class Load(msgspec.Struct, frozen=True):
    """Record batches of one kind: so many records, each with a value of so many bytes."""

    codec: Codec
    value_bytes: int
    records: int

    @property
    def title(self) -> str:
        return f"{self.records} × {self.value_bytes} B, {self.codec}"

    @property
    def batch_bytes(self) -> int:
        """About the size of a batch before compression."""
        return self.records * (self.value_bytes + 12) + 61

    def topic(self, direction: Direction) -> str:
        """Its own topic, so that what is fetched is what was filled in."""
        return f"{direction}-{self.codec}-{self.records}-{self.value_bytes}"


SMALL: Final = tuple(Load(codec, 200, 100) for codec in CODECS)
LARGE: Final = tuple(Load(codec, 1000, 1000) for codec in CODECS)
LOADS: Final = (*SMALL, *LARGE)
AIMED: Final = SMALL[0]
"""The load that the targets are about: uncompressed, 100 × 200 B."""


class Task(msgspec.Struct, frozen=True):
    """What a client does in one round. ``batches`` other than 0 says when to end, not the time."""

    direction: Direction
    port: int
    topic: str
    load: Load
    seconds: float = 0.0
    batches: int = 0
    traced: bool = False
    """Whether the records carry a traceparent already."""


class Done(msgspec.Struct, frozen=True):
    """What a client did: acknowledged or received records, from its first request on."""

    records: int
    batches: int
    seconds: float

    @property
    def records_per_second(self) -> float:
        return self.records / self.seconds


class LatencyTask(msgspec.Struct, frozen=True):
    """An open loop: single records at a rate, in turns through each of the ports."""

    ports: list[int]
    topic: str
    load: Load
    rate: int
    seconds: float
    """For each of the ports."""


class Latencies(msgspec.Struct, frozen=True):
    """From when a record was due to its acknowledgement, in microseconds."""

    count: int
    p50: float
    p99: float


def values(load: Load, count: int, seed: int = 7) -> list[bytes]:
    """Different orders as JSON, each of exactly the load's size."""
    random = Random(seed)
    return [_order(random, load.value_bytes) for _ in range(count)]


def traceparent(random: Random) -> str:
    return f"00-{random.getrandbits(128):032x}-{random.getrandbits(64):016x}-01"


def _order(random: Random, size: int) -> bytes:
    lines: list[dict[str, object]] = []
    order = {
        "order": f"ORD-{random.randrange(10**12):012d}",
        "customer": random.randrange(10**7),
        "placed": 1_790_000_000_000 + random.randrange(10**9),
        "lines": lines,
    }
    while len(encoded := json.dumps(order)) < size:
        lines.append({"sku": f"{random.getrandbits(40):010x}", "count": random.randrange(1, 9)})
    # Cut, because the size is what counts and nobody parses it.
    return encoded.encode()[:size]
