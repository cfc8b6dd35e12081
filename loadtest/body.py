"""Streams a very large body through a proxy both ways and watches its memory."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass

from loadtest import report
from loadtest.bed import Bed, Running, test_bed
from loadtest.peers.base import Peer
from loadtest.processes import Cores, NotReadyError

GIGABYTE = 10**9
MEBIBYTE = 1 << 20
SAMPLE_SECONDS = 0.1
LIMIT_SECONDS = 240.0
"""For one direction."""
QUARTERS = 4


@dataclass(frozen=True, slots=True)
class Stream:
    """One body that went through, and the proxy's memory meanwhile."""

    direction: str
    bytes: int
    seconds: float
    cpu_seconds: float
    rss_before: int
    samples: tuple[int, ...]
    """Resident bytes, every `SAMPLE_SECONDS`."""
    rss_after: int

    def peaks(self) -> list[int]:
        """The highest sample of each quarter of the time: they rise if memory is not constant."""
        size = max(1, len(self.samples) // QUARTERS)
        parts = [self.samples[i * size : (i + 1) * size] for i in range(QUARTERS)]
        return [max(part) for part in parts if part]


def run(peer: Peer, gigabytes: float) -> list[Stream]:
    """Stream `gigabytes` up, in chunks, and down.

    Raises `NotReadyError` when the peer does not work, or bytes are missing at the end.
    """
    reason = peer.missing()
    if reason:
        raise NotReadyError(reason)
    with test_bed(Cores.of_machine()) as bed:
        running = bed.start(peer, upstream=bed.start_server("bulk"))
        return [stream(bed, running, way, int(gigabytes * GIGABYTE)) for way in ("up", "down")]


def stream(bed: Bed, running: Running, direction: str, size: int) -> Stream:
    """Stream one body.

    Raises `NotReadyError` when it does not end in time, or not all of it arrived.
    """
    proxy = running.process
    rss_before, cpu_before, started = proxy.rss_bytes(), proxy.cpu_seconds(), time.monotonic()
    client = bed.start_program("bulk_client", direction, str(running.port), str(size))
    samples = []
    while client.popen.poll() is None:
        samples.append(proxy.rss_bytes())
        if time.monotonic() - started > LIMIT_SECONDS:
            raise NotReadyError(f"{direction}: not done in {LIMIT_SECONDS:.0f} s")
        time.sleep(SAMPLE_SECONDS)
    seconds = time.monotonic() - started
    if client.popen.returncode != 0 or client.log.read_text() != str(size):
        raise NotReadyError(f"{direction}: {client.log_tail()} of {size} bytes")
    print(f"bench: {direction}: {size / GIGABYTE:.1f} GB in {seconds:.0f} s", file=sys.stderr)
    return Stream(
        direction=direction,
        bytes=size,
        seconds=seconds,
        cpu_seconds=proxy.cpu_seconds() - cpu_before,
        rss_before=rss_before,
        samples=tuple(samples),
        rss_after=proxy.rss_bytes(),
    )


def report_of(peer: Peer, streams: list[Stream], command: str) -> str:
    """The section of RESULTS.md."""
    columns = ["Direction", "GB", "MB/s", "CPU ms/MB", "RSS MiB before", "peak by quarter", "after"]
    names = {"up": "POST, chunked, up", "down": "GET, down"}
    rows = [
        [
            names[each.direction],
            f"{each.bytes / GIGABYTE:.1f}",
            f"{each.bytes / 1e6 / each.seconds:.0f}",
            f"{each.cpu_seconds * 1000 / (each.bytes / 1e6):.3f}",
            f"{each.rss_before / MEBIBYTE:.1f}",
            ", ".join(f"{peak / MEBIBYTE:.1f}" for peak in each.peaks()),
            f"{each.rss_after / MEBIBYTE:.1f}",
        ]
        for each in streams
    ]
    return (
        f"## One very large body through {peer.name}\n\n"
        f"`{command}`, {report.date()}. {report.machine()}.\n\n"
        f"{report.table(columns, rows)}\n"
    )
