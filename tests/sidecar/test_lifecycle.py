"""A sidecar as a process: how it starts, drains and ends."""

from __future__ import annotations

import asyncio
import signal
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.support.fixtures import Spawn
from tests.support.otlp import Collector
from tests.support.process import SidecarProcess
from tests.support.raw import App, Peer

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def route_to(app: App) -> dict[str, Any]:
    """HTTP only, so that no connection is made for a server that might speak first."""
    return {"upstream": f"127.0.0.1:{app.port}", "protocol": "http"}


async def in_flight(sidecar: SidecarProcess, app: App) -> tuple[Peer, Peer]:
    client = await sidecar.client(sidecar.inbound[0])
    await client.send(GET)
    upstream = await app.accept()
    await upstream.head()
    return client, upstream


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_drains(number: signal.Signals, spawn: Spawn, app: App) -> None:
    sidecar = await spawn({"inbound": [route_to(app)]})
    idle = await sidecar.client()
    client, upstream = await in_flight(sidecar, app)
    sidecar.signal(number)
    await sidecar.logged("draining")
    assert await idle.ended()
    with pytest.raises(ConnectionRefusedError):
        await sidecar.client()
    assert await sidecar.get("/readyz") == (503, "draining\n")
    assert await sidecar.get("/healthz") == (200, "ok\n")
    await upstream.send(OK)
    status, head, body = await client.answer()
    assert (status, body) == (200, b"ok")
    assert b"\r\nConnection: close\r\n" in head
    assert await client.ended()
    assert await sidecar.ended() == 0
    assert sidecar.errors == []


async def test_calls_of_a_request_in_flight_may_still_be_made(spawn: Spawn, app: App) -> None:
    far = await App().start()
    sidecar = await spawn(
        {
            "inbound": [route_to(app)],
            "outbound": [route_to(far)],
        }
    )
    client, upstream = await in_flight(sidecar, app)
    sidecar.signal(signal.SIGTERM)
    await sidecar.logged("draining")
    call = await sidecar.client(sidecar.outbound[0])
    await call.send(GET)
    callee = await far.accept()
    await callee.head()
    await callee.send(OK)
    assert (await call.answer())[0] == 200
    await upstream.send(OK)
    assert (await client.answer())[0] == 200
    assert await sidecar.ended() == 0
    await far.stop()


async def test_the_drain_limit_cuts(spawn: Spawn, app: App) -> None:
    sidecar = await spawn(
        {
            "inbound": [route_to(app), route_to(app) | {"protocol": "opaque"}],
            "limits": {"drain": "200ms"},
        }
    )
    client, upstream = await in_flight(sidecar, app)
    passing = await sidecar.client(sidecar.inbound[1])
    await passing.send(b"\x00")
    await (await app.accept()).expect(b"\x00")
    sidecar.signal(signal.SIGTERM)
    await sidecar.logged("drain limit reached; connections are cut")
    assert not await client.ended()
    await passing.rest()
    await upstream.ended()
    assert await sidecar.ended() == 0


async def test_a_kill_during_the_drain_does_not_hang_anybody(spawn: Spawn, app: App) -> None:
    sidecar = await spawn({"inbound": [route_to(app)]})
    client, upstream = await in_flight(sidecar, app)
    sidecar.signal(signal.SIGTERM)
    await sidecar.logged("draining")
    sidecar.signal(signal.SIGKILL)
    assert await client.rest() == b""
    assert await upstream.rest() == b""
    assert await sidecar.ended() == -signal.SIGKILL


async def test_quitquitquit_drains(spawn: Spawn, app: App, collector: Collector) -> None:
    """Spans that are queued are sent first."""
    sidecar = await spawn(
        {
            "inbound": [route_to(app)],
            "export": [
                {"type": "otlp", "endpoint": collector.endpoint, "queue": {"interval": "1m"}}
            ],
        }
    )
    client, upstream = await in_flight(sidecar, app)
    assert (await sidecar.get("/quitquitquit"))[0] == 405
    assert await sidecar.get("/quitquitquit", "POST") == (200, "draining\n")
    await upstream.send(OK)
    assert (await client.answer())[0] == 200
    (span,) = await collector.wait_for(1)
    assert span.name == "GET /"
    assert await sidecar.ended() == 0


async def test_two_sidecars_on_one_host_need_no_health_port(spawn: Spawn, app: App) -> None:
    config = {"inbound": [route_to(app)]}
    for _ in range(2):
        sidecar = await spawn(config, health=False)
        assert (await sidecar.get("/readyz"))[0] == 200


@pytest.mark.parametrize("what", ["inbound", "admin", "health"])
async def test_a_port_that_is_taken(what: str, spawn: Spawn, app: App) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        inbound = route_to(app)
        config = {"inbound": [inbound | ({"listen": listen} if what == "inbound" else {})]}
        if what != "inbound":
            config |= {what: {"listen": listen}}  # type: ignore[dict-item]
        sidecar = await spawn(config, ready=False)
        record = await sidecar.logged("cannot start", within=20)
        assert record["error"] == f"cannot listen on {listen}: Address already in use"
        assert await sidecar.ended() == 1
        assert sidecar.errors == []


async def test_a_file_with_mistakes(spawn: Spawn) -> None:
    sidecar = await spawn({"inbound": [{"upstreem": "127.0.0.1:1"}]}, ready=False)
    assert await sidecar.ended() == 1
    assert any("inbound[0].upstreem: unknown key" in line for line in sidecar.errors)
    assert sidecar.records == []


async def test_an_exporter_that_cannot_work(spawn: Spawn, app: App, tmp_path: Path) -> None:
    bad = tmp_path / "ca.pem"
    bad.write_text("no certificate")
    sidecar = await spawn(
        {
            "inbound": [route_to(app)],
            "export": [{"type": "otlp", "endpoint": "https://127.0.0.1", "ca": str(bad)}],
        },
        ready=False,
    )
    assert await sidecar.ended() == 1
    said = [str(record) for record in sidecar.records] + sidecar.errors
    assert any("ca" in line for line in said)
    assert not any("Traceback" in line for line in said)


async def test_a_signal_while_it_starts(spawn: Spawn, app: App) -> None:
    sidecar = await spawn({"inbound": [route_to(app)]}, ready=False)
    await sidecar.logged("listening", within=20)
    sidecar.signal(signal.SIGTERM)
    assert await sidecar.ended() == 0


async def test_many_requests_at_once_while_draining_lose_none(spawn: Spawn) -> None:
    async def serve(peer: Peer) -> None:
        try:
            while True:
                await peer.head()
                await peer.send(OK)
        except (asyncio.IncompleteReadError, ConnectionError, TimeoutError):
            return

    app = await App(serve).start()
    sidecar = await spawn({"inbound": [route_to(app)]})
    answered = 0
    draining = asyncio.Event()

    async def ask() -> None:
        """Ask until the answer says that it was the last one."""
        nonlocal answered
        client = await sidecar.client()
        while True:
            await client.send(GET)
            _, head, _ = await client.answer()
            answered += 1
            if answered == 500:
                draining.set()
            if b"Connection: close" in head:
                return

    asking = [asyncio.create_task(ask()) for _ in range(20)]
    await draining.wait()
    sidecar.signal(signal.SIGTERM)
    await asyncio.gather(*asking)
    assert await sidecar.ended() == 0
    await app.stop()
