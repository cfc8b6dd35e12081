"""A way to the mock brokers on which connections can be cut at a chosen moment."""

from __future__ import annotations

import asyncio
import struct
from typing import Self

from tests.kafka.mock_cluster import MockCluster

PIECE = 65536
SYNC_GROUP = struct.pack(">h", 14)
SYNC_DELAY = 0.3


def _named(address: str) -> bytes:
    """How a response names a broker."""
    host, _, port = address.rpartition(":")
    return host.encode() + struct.pack(">i", int(port))


class Relay:
    """A port for each broker; responses name these ports in place of the brokers' own.

    `lose_request` and `lose_answer` cut the connection that next carries ``marked``, in the middle
    of the request with it, or before its answer passes.

    The mock brokers take a group to be complete when its leader's SyncGroup is there, and turn away
    the members whose own comes later. So SyncGroup waits a moment when it has what only the leader
    sends: names of ``topics``.
    """

    def __init__(self, cluster: MockCluster) -> None:
        self._cluster = cluster
        self._servers: list[asyncio.Server] = []
        self._names: list[tuple[bytes, bytes]] = []
        self._writers: set[asyncio.StreamWriter] = set()
        self._marked = b""
        self._answer = False
        self.brokers: dict[int, str] = {}
        self.cuts = 0
        self.topics: list[bytes] = []

    async def start(self) -> Self:
        for node, address in self._cluster.brokers.items():
            host, _, port = address.rpartition(":")

            async def relay(
                reader: asyncio.StreamReader,
                writer: asyncio.StreamWriter,
                host: str = host,
                port: int = int(port),
            ) -> None:
                await self._relay(reader, writer, host, port)

            server = await asyncio.start_server(relay, "127.0.0.1", 0)
            self._servers.append(server)
            ours = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
            self._names.append((_named(address), _named(ours)))
            self.brokers[node] = ours
        return self

    @property
    def broker(self) -> str:
        """One of them, for a sidecar."""
        return self.brokers[1]

    async def stop(self) -> None:
        for server in self._servers:
            server.close()
        for writer in tuple(self._writers):
            writer.transport.abort()
        for server in self._servers:
            await server.wait_closed()

    def lose_request(self, marked: bytes) -> None:
        self._marked, self._answer = marked, False

    def lose_answer(self, marked: bytes) -> None:
        self._marked, self._answer = marked, True

    async def _relay(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, port: int
    ) -> None:
        upstream, to_upstream = await asyncio.open_connection(host, port)
        ends = (writer, to_upstream)
        self._writers.update(ends)
        line = Line(self, ends)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(line.requests(reader, to_upstream))
                group.create_task(line.answers(upstream, writer))
        except* ConnectionError:
            pass
        finally:
            self._writers.difference_update(ends)
            for end in ends:
                end.transport.abort()

    def is_due(self, data: bytes) -> bool:
        """Whether a request is the one to be cut off."""
        if not self._marked or self._marked not in data:
            return False
        self._marked = b""
        self.cuts += 1
        return True

    def is_leaders_sync(self, data: bytes) -> bool:
        return data[4:6] == SYNC_GROUP and any(topic in data for topic in self.topics)

    @property
    def loses_answer(self) -> bool:
        return self._answer

    def renamed(self, data: bytes) -> bytes:
        """A response with our ports in it; names are taken to come in one piece."""
        for theirs, ours in self._names:
            data = data.replace(theirs, ours)
        return data


class Line:
    """One connection through a relay."""

    def __init__(self, relay: Relay, ends: tuple[asyncio.StreamWriter, ...]) -> None:
        self._relay = relay
        self._ends = ends
        self._lost = False

    async def requests(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(PIECE):
            if self._relay.is_due(data):
                if not self._relay.loses_answer:
                    writer.write(data[: len(data) // 2])
                    await writer.drain()
                    self._cut()
                    return
                self._lost = True
            if self._relay.is_leaders_sync(data):
                await asyncio.sleep(SYNC_DELAY)
            writer.write(data)
            await writer.drain()
        self._cut()

    async def answers(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(PIECE):
            if self._lost:
                break
            writer.write(self._relay.renamed(data))
            await writer.drain()
        self._cut()

    def _cut(self) -> None:
        for end in self._ends:
            end.transport.abort()
