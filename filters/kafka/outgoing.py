"""A Produce request while its records are given their headers, on the loop or in a thread."""

from __future__ import annotations

from typing import Final

from filters.kafka.batches import Batch
from filters.kafka.messaging import CARRIED
from meshproxy.filter import Work
from meshproxy.wire.kafka.batches import BatchHead, payload, rebuilt
from meshproxy.wire.kafka.compression import framing
from meshproxy.wire.kafka.primitives import Malformed
from meshproxy.wire.kafka.produce import ProduceRequest
from meshproxy.wire.kafka.splice import inject

LOOP_BYTES: Final = 32768
"""Compressed bytes of a request that are worked on between two other things; more of them would
keep everybody waiting for milliseconds, and go to a thread, which itself costs a tenth of one."""

LARGEST: Final = 2**25
"""Bytes that a batch may decompress to: brokers take no more than a fraction of this."""


class Splicing:
    """One batch of a request. ``failed``: it could not be read, and goes out as it is.

    ``pieces`` are the whole batch with the headers in it, ``added`` to how many of its records some
    were added, ``kept`` how many stayed as they were.
    """

    __slots__ = (
        "_frame",
        "added",
        "batch",
        "failed",
        "head",
        "index",
        "kept",
        "payload",
        "pieces",
    )

    def __init__(self, index: int, frame: bytes, head: BatchHead, batch: Batch) -> None:
        self.index = index
        self.head = head
        self.batch = batch
        self.payload = b""
        self.pieces: tuple[bytes, ...] = ()
        self.added = 0
        self.kept = 0
        self.failed = False
        self._frame = frame

    def read(self) -> None:
        """Uncompress the records. What was damaged on its way is left for the broker to find."""
        try:
            self.payload = payload(self._frame, self.head, LARGEST, checked=True)
        except Malformed:
            self.failed = True

    def write(self) -> None:
        """Put in what the batch's records are to be given."""
        additions = self.batch.additions
        if self.failed or not additions:
            return
        head = self.head
        try:
            injected = inject(self.payload, head.count, additions, CARRIED)
        except Malformed:
            self.failed = True
            return
        if injected.added:
            kind = framing(head.codec, self._frame, head.records_at)
            self.pieces = rebuilt(self._frame, head, injected.payload, kind)
        self.added = injected.added
        self.kept = injected.kept

    def release(self) -> None:
        """Keep no bytes."""
        self._frame = self.payload = b""
        self.pieces = ()

    @property
    def size(self) -> int:
        """Bytes of the batch with the headers in it."""
        return sum(map(len, self.pieces))


class Outgoing(Work):
    """A Produce request: its batches are read, then decided upon, then written.

    ``heavy``: reading and writing are work for a thread. ``done``: both are over.
    """

    def __init__(self, frame: bytes, request: ProduceRequest, now_ns: int) -> None:
        self.frame = frame
        self.request = request
        self.now_ns = now_ns
        self.splicings: list[Splicing] = []
        self.heavy = False
        self.done = False
        self._writing = False
        self._compressed = 0

    def add(self, splicing: Splicing) -> None:
        """One more batch."""
        self.splicings.append(splicing)
        if splicing.head.codec:
            self._compressed += splicing.head.end - splicing.head.records_at
            self.heavy = self._compressed > LOOP_BYTES

    def run(self) -> None:
        """Read, or write, all batches. Those for which that raises go out as they are."""
        raised: Exception | None = None
        for splicing in self.splicings:
            try:
                if self._writing:
                    splicing.write()
                else:
                    splicing.read()
            except Exception as error:
                splicing.failed = True
                raised = error
        if raised is not None:
            raise raised

    def next(self) -> None:
        """What `run` had to do is done."""
        self.done = self._writing
        self._writing = True

    def release(self) -> None:
        """It has gone out: what waits for the answer needs no bytes."""
        self.frame = b""
        for splicing in self.splicings:
            splicing.release()
