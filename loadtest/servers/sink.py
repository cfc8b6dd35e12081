"""Takes OTLP over HTTP and says what came: ``sink PORT``.

The path is ``/{peer}/v1/traces``, so that a late batch of one peer is never counted for another.
While load runs a batch is only put aside; it is decoded when ``GET /{peer}/counts`` asks, which
is between measurements. ``GET /{peer}/reset`` forgets what came from that peer.
"""

from __future__ import annotations

import asyncio
import gzip
import sys
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import cast

import httptools
import msgspec
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from loadtest.servers.listening import serve

EVIDENCE = "meshproxy.link.evidence"
PROPAGATION = "meshproxy.propagation"


class Counts(msgspec.Struct):
    """What arrived since the last reset."""

    spans: int = 0
    batches: int = 0
    bytes: int = 0
    evidence: dict[str, int] = {}
    propagation: dict[str, int] = {}


@dataclass(slots=True)
class Store:
    """Batches as they came, and what the decoded ones held."""

    waiting: list[tuple[bool, bytes]] = field(default_factory=list)
    counts: Counts = field(default_factory=Counts)

    def add(self, gzipped: bool, body: bytes) -> None:
        self.waiting.append((gzipped, body))

    def reset(self) -> Counts:
        self.waiting.clear()
        self.counts = Counts()
        return self.counts

    def decode(self) -> Counts:
        """Decode what waits, all of it: the count of spans is exact, not sampled."""
        counts = self.counts
        evidence, propagation = Counter(counts.evidence), Counter(counts.propagation)
        for gzipped, body in self.waiting:
            counts.batches += 1
            counts.bytes += len(body)
            request = ExportTraceServiceRequest.FromString(
                gzip.decompress(body) if gzipped else body
            )
            for resource in request.resource_spans:
                for scope in resource.scope_spans:
                    counts.spans += len(scope.spans)
                    for span in scope.spans:
                        for attribute in span.attributes:
                            if attribute.key == EVIDENCE:
                                evidence[attribute.value.string_value] += 1
                            elif attribute.key == PROPAGATION:
                                propagation[attribute.value.string_value] += 1
        self.waiting.clear()
        counts.evidence, counts.propagation = dict(evidence), dict(propagation)
        return counts


STORES: defaultdict[bytes, Store] = defaultdict(Store)
"""By the peer's name."""


class Sink(asyncio.Protocol):
    """One connection of an exporter, or of the bench that asks."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._parser = httptools.HttpRequestParser(self)
        self._start()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"content-encoding":
            self._gzipped = value == b"gzip"

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        _, peer, action = self._url.split(b"/", 2)
        store = STORES[peer]
        answer = b""
        if action == b"counts":
            answer = msgspec.json.encode(store.decode())
        elif action == b"reset":
            answer = msgspec.json.encode(store.reset())
        else:
            store.add(self._gzipped, b"".join(self._body))
        # An empty ExportTraceServiceResponse is an empty body: everything was accepted.
        self._transport.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (len(answer), answer)
        )
        self._start()

    def _start(self) -> None:
        self._url = b""
        self._gzipped = False
        self._body: list[bytes] = []


if __name__ == "__main__":
    serve(Sink, int(sys.argv[1]))
