"""SIGHUP reads the file again, and costs nobody a request."""

from __future__ import annotations

import asyncio
import signal
import socket
from copy import deepcopy
from typing import Any

import pytest

from tests.support.fixtures import Spawn
from tests.support.process import SidecarProcess
from tests.support.raw import App, Peer

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def route_to(app: App) -> dict[str, Any]:
    """HTTP only, so that no connection is made for a server that might speak first."""
    return {"upstream": f"127.0.0.1:{app.port}", "protocol": "http"}


async def reload(sidecar: SidecarProcess, **changes: Any) -> None:
    config = deepcopy(sidecar.config) | changes
    sidecar.write(config)
    sidecar.signal(signal.SIGHUP)


async def exchange(client: Peer, app: App) -> None:
    await client.send(GET)
    upstream = await app.accept()
    await upstream.head()
    await upstream.send(OK)
    assert (await client.answer())[0] == 200


async def test_connections_stay_and_requests_go_by_the_new_file(spawn: Spawn, app: App) -> None:
    other = await App().start()
    sidecar = await spawn({"inbound": [route_to(app)]})
    idle, busy = await sidecar.client(), await sidecar.client()
    upstream = None
    for client in (idle, busy):
        await client.send(GET)
        upstream = upstream or await app.accept()
        await upstream.head()
        await upstream.send(OK)
        assert (await client.answer())[0] == 200
    assert upstream is not None
    await busy.send(GET)
    await upstream.head()
    (listener,) = sidecar.config["inbound"]
    await reload(
        sidecar,
        inbound=[listener | route_to(other)],
        sampling={"rules": [{"match": {"path": "/"}, "ratio": 0}]},
    )
    await sidecar.logged("configuration reloaded")
    await upstream.send(OK)  # what was in flight ends where it began
    assert (await busy.answer())[0] == 200
    another = None
    for client in (idle, busy):
        await client.send(GET)
        another = another or await other.accept()
        assert b"-02\r\n" in await another.head()  # not sampled any more
        await another.send(OK)
        assert (await client.answer())[0] == 200
    assert f"127.0.0.1:{other.port}" in (await sidecar.get("/config"))[1]
    await other.stop()


async def test_listeners_come_and_go(spawn: Spawn, app: App) -> None:
    route = route_to(app)
    sidecar = await spawn({"inbound": [route], "outbound": [route, route]})
    client = await sidecar.client(sidecar.outbound[1])
    await exchange(client, app)
    await reload(sidecar, outbound=sidecar.config["outbound"][:1])
    await sidecar.logged("configuration reloaded")
    with pytest.raises(ConnectionRefusedError):
        await sidecar.client(sidecar.outbound[1])
    await exchange(client, app)  # who was there may stay


@pytest.mark.parametrize("mistake", ["unknown key", "taken port", "exporter", "certificate"])
async def test_a_bad_file_changes_nothing_and_that_is_said(
    mistake: str, spawn: Spawn, app: App
) -> None:
    sidecar = await spawn({"inbound": [route_to(app)]})
    (listener,) = sidecar.config["inbound"]
    elsewhere = {"listen": f"127.0.0.1:{sidecar.free_port()}"}
    with socket.create_server(("127.0.0.1", 0)) as taken:
        changes: dict[str, Any] = {
            "unknown key": {"sampeling": {}},
            "taken port": {
                "outbound": [
                    {"listen": f"127.0.0.1:{taken.getsockname()[1]}", "mode": "forward-proxy"}
                ]
            },
            "exporter": {
                "export": [{"type": "otlp", "endpoint": "https://a", "ca": str(sidecar.path)}]
            },
            "certificate": {
                "inbound": [
                    listener | {"tls": {"cert": str(sidecar.path), "key": str(sidecar.path)}}
                ]
            },
        }[mistake]
        before = (await sidecar.get("/config"))[1]
        await reload(sidecar, admin=elsewhere, **changes)
        record = await sidecar.logged("configuration not reloaded; the old one stays")
    assert record["level"] == "error"
    assert record["error"]
    assert (await sidecar.get("/config"))[1] == before  # also on the old admin port
    assert await sidecar.metric("meshproxy_config_reloads_total", result="failed") == 1
    client = await sidecar.client()
    await client.send(GET)
    await (await app.accept()).head()
    assert sidecar.errors == []


async def test_the_admin_port_may_move(spawn: Spawn, app: App) -> None:
    sidecar = await spawn({"inbound": [route_to(app)]})
    port = sidecar.free_port()
    await reload(sidecar, admin={"listen": f"127.0.0.1:{port}"})
    await sidecar.logged("configuration reloaded")
    with pytest.raises(ConnectionRefusedError):
        await sidecar.get("/readyz")
    sidecar.admin = port
    assert (await sidecar.get("/readyz"))[0] == 200


async def test_reloads_under_load_lose_no_request(spawn: Spawn) -> None:
    async def serve(peer: Peer) -> None:
        try:
            while True:
                await peer.head()
                await peer.send(OK)
        except (asyncio.IncompleteReadError, ConnectionError, TimeoutError):
            return

    apps = [await App(serve).start() for _ in range(2)]
    sidecar = await spawn({"inbound": [route_to(apps[0])]})
    (listener,) = sidecar.config["inbound"]
    over = asyncio.Event()

    async def ask() -> None:
        while not over.is_set():
            client = await sidecar.client()
            for _ in range(10):
                await client.send(GET)
                assert (await client.answer())[0] == 200
            await client.close()

    asking = [asyncio.create_task(ask()) for _ in range(10)]
    for number in range(6):
        app = apps[(number + 1) % 2]
        await reload(sidecar, inbound=[listener | route_to(app)])
        await sidecar.logged("configuration reloaded")
    over.set()
    await asyncio.gather(*asking)
    assert await sidecar.metric("meshproxy_config_reloads_total", result="ok") == 6
    for app in apps:
        assert app.accepted
        await app.stop()
