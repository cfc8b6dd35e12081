"""Thousands of connections, too few files, and clients that only drip."""

from __future__ import annotations

import asyncio
import resource
import sys
from typing import Any

import pytest

from tests.scale.load import GET, LONG, Client, Server, Watched, all_of, total
from tests.support.fixtures import Spawn

MANY = 5000
FILES_PER_MANY = 2 * MANY + 500
"""Here as well as in the sidecar: a client's end and an upstream's end for each connection."""

MEMORY_PER_CONNECTION = 16.0
"""Kilobytes, with a request in flight: both connections, their buffers, exchange and span."""


def fronting(server: Server, **more: Any) -> dict[str, Any]:
    return {"inbound": [{"upstream": f"127.0.0.1:{server.port}"}], **more}


async def test_five_thousand_connections_at_once(
    spawn: Spawn, server: Server, open_files: int
) -> None:
    if open_files < FILES_PER_MANY:
        pytest.skip(f"needs {FILES_PER_MANY} open files, and may have {open_files}")
    sidecar = await spawn(fronting(server, limits={"pool_idle": "200ms"}))
    watched = Watched(sidecar)
    files, before = watched.files, watched.rss
    held, after = [], []
    for _ in range(2):
        server.holding = []
        clients = await all_of([Client.connect(sidecar.inbound[0]) for _ in range(MANY)])
        answers = [asyncio.ensure_future(client.ask()) for client in clients]
        await server.arrived(MANY)
        held.append(watched.rss)
        assert (await sidecar.get("/readyz"))[0] == 200
        server.release()
        assert set(await all_of(answers)) == {200}
        assert set(await all_of([client.ask() for client in clients])) == {200}
        for client in clients:
            client.transport.close()
        await watched.files_fall_to(files + 5)
        after.append(watched.rss)
    each = (held[0] - before) * 1024 / MANY
    print(f"{each:.1f} kB a connection; {before:.0f} MB at first, {held} held, {after} after")
    assert each < MEMORY_PER_CONNECTION
    assert after[1] < after[0] * 1.1  # what the first round took is used again


async def test_too_many_connections_are_told_so(spawn: Spawn, server: Server) -> None:
    sidecar = await spawn(fronting(server, limits={"connections": 50}))
    await all_answered_or_refused(sidecar.inbound[0], 60, answered=50)


async def all_answered_or_refused(port: int, count: int, answered: int) -> None:
    """Of so many clients that come at once, so many can stay and are served."""
    clients = await all_of([Client.connect(port) for _ in range(count)])
    answers = await all_of([client.ask() for client in clients])
    assert set(answers) <= {200, 502, 503, 0}  # 0: cut before it could read why
    again = await all_of([client.ask() for client in clients])
    assert again.count(200) == answered
    for client in clients:
        client.transport.close()


def start_with_files(monkeypatch: pytest.MonkeyPatch, soft: int, hard: int) -> None:
    """Let processes that are started have no more open files than this."""
    limit = (
        f"import os, resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard})); "
        "os.execv(sys.argv[1], sys.argv[1:])"
    )
    plain = asyncio.create_subprocess_exec

    async def limited(*command: str, **options: Any) -> asyncio.subprocess.Process:
        return await plain(sys.executable, "-c", limit, *command, **options)

    monkeypatch.setattr(asyncio, "create_subprocess_exec", limited)


class TestFiles:
    async def test_the_sidecar_allows_itself_what_it_may(
        self, spawn: Spawn, server: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        start_with_files(monkeypatch, 128, 256)
        sidecar = await spawn(fronting(server, limits={"connections": 3000}))
        pid = Watched(sidecar).pid
        assert resource.prlimit(pid, resource.RLIMIT_NOFILE) == (256, 256)
        warning = await sidecar.logged(
            "fewer connections than limits.connections: too few files may be open"
        )
        assert (warning["configured"], warning["connections"]) == (3000, 96)
        # Clients do not take those that are needed to reach the upstream.
        await all_answered_or_refused(sidecar.inbound[0], 200, answered=96)

    async def test_none_left_stops_nothing(self, spawn: Spawn, server: Server) -> None:
        sidecar = await spawn(fronting(server, limits={"pool_idle": "200ms"}))
        watched = Watched(sidecar)
        files = watched.files
        resource.prlimit(watched.pid, resource.RLIMIT_NOFILE, (files + 41, files + 41))
        for _ in range(2):
            clients = await all_of([Client.connect(sidecar.inbound[0]) for _ in range(200)])
            assert set(await all_of([client.ask() for client in clients])) <= {200, 502, 0}
            busy = watched.cpu
            await asyncio.sleep(1)
            assert watched.cpu - busy < 0.7  # it waits, and does not try again and again
            for client in clients:
                client.transport.close()
            await watched.files_fall_to(files + 1)
            assert (await sidecar.get("/readyz"))[0] == 200
        client = await Client.connect(sidecar.inbound[0])
        assert await client.ask() == 200
        client.transport.close()


async def test_a_thousand_clients_that_drip_disturb_nobody(spawn: Spawn, server: Server) -> None:
    sidecar = await spawn(fronting(server, limits={"header_timeout": "2s"}))
    drips = await all_of([Client.connect(sidecar.inbound[0]) for _ in range(1000)])
    drops = iter(GET[:-4] + b"\r\nX-Slow: " + b"y" * 10_000)
    normal = await Client.connect(sidecar.inbound[0])
    answered = 0
    async with asyncio.timeout(LONG):
        while not all(client.lost.done() for client in drips):
            drop = bytes([next(drops)])
            for client in drips:
                if not client.lost.done():
                    client.transport.write(drop)
            assert await normal.ask() == 200
            answered += 1
            await asyncio.sleep(0.02)
    assert server.requests == answered
    metrics = (await sidecar.get("/metrics"))[1]
    assert total(metrics, "meshproxy_refused_total", 'reason="header_timeout"') == 1000
    normal.transport.close()
