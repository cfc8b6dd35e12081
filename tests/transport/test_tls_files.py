"""Certificate files change while the sidecar runs."""

from __future__ import annotations

import asyncio
import os
import signal
import ssl
from pathlib import Path
from typing import Any

import pytest

from tests.support.fixtures import Spawn
from tests.support.raw import App, Peer
from tests.transport.test_tls import OK, Pki, exchange, serial_of

QUICK = {"pool_idle": "200ms"}
"""The sidecar looks at the clock often enough for the shortest limit."""


@pytest.fixture
def authority(tmp_path: Path) -> Pki:
    return Pki(tmp_path / "pki")


async def opened(port: int, context: ssl.SSLContext) -> Peer:
    return await Peer.connect(port, tls=context, name="cart.example")


async def test_new_connections_get_the_new_certificate(
    spawn: Spawn, app: App, authority: Pki
) -> None:
    files = authority.issue("cart.example")
    config = {"inbound": [{"upstream": f"127.0.0.1:{app.port}", "tls": files}], "limits": QUICK}
    sidecar = await spawn(config)
    (port,) = sidecar.inbound
    trusting = authority.client()
    old = await opened(port, trusting)
    await old.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    upstream = await app.accept()
    await upstream.head()

    authority.issue("cart.example")
    await sidecar.logged("certificate reloaded")
    new = await opened(port, trusting)
    assert serial_of(new) != serial_of(old)

    Path(files["key"]).write_text("no key")
    record = await sidecar.logged("certificate not reloaded; the old one stays")
    assert record["level"] == "error"
    assert record["file"] == files["cert"]
    another = await opened(port, trusting)
    assert serial_of(another) == serial_of(new)

    Path(files["key"]).unlink()
    await sidecar.logged("certificate not reloaded; the old one stays")
    authority.issue("cart.example")
    await sidecar.logged("certificate reloaded")
    assert serial_of(await opened(port, trusting)) != serial_of(new)

    await upstream.send(OK)  # what began with the first certificate goes on
    assert (await old.answer())[2] == b"ok"


def mounted(volume: Path, name: str, authority: Pki) -> None:
    """Put a certificate into a directory in the way of Kubernetes: all links change at once."""
    data = volume / f"..{name}"
    data.mkdir()
    for kind, file in authority.issue("cart.example", name).items():
        os.rename(file, data / f"tls.{kind}")
    link = volume / "..data_tmp"
    link.symlink_to(data.name)
    link.rename(volume / "..data")


async def test_a_secret_that_kubernetes_swaps_is_followed(
    spawn: Spawn, app: App, authority: Pki, tmp_path: Path
) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    mounted(volume, "one", authority)
    for kind in ("cert", "key"):
        (volume / f"tls.{kind}").symlink_to(f"..data/tls.{kind}")
    files = {kind: str(volume / f"tls.{kind}") for kind in ("cert", "key")}
    config = {"inbound": [{"upstream": f"127.0.0.1:{app.port}", "tls": files}], "limits": QUICK}
    sidecar = await spawn(config)
    (port,) = sidecar.inbound
    before = serial_of(await opened(port, authority.client()))
    mounted(volume, "two", authority)
    await sidecar.logged("certificate reloaded")
    assert serial_of(await opened(port, authority.client())) != before


async def test_a_new_authority_is_followed(spawn: Spawn, authority: Pki, tmp_path: Path) -> None:
    """The upstream gets a certificate from another authority, whose file comes later."""
    other = Pki(tmp_path / "other")
    app = await App().start(tls=other.server("localhost"))
    route = {"upstream": f"localhost:{app.port}", "upstream_tls": {"ca": authority.ca}}
    sidecar = await spawn({"outbound": [route], "limits": QUICK})
    client = await sidecar.client()
    await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (await client.answer())[0] == 502
    Path(authority.ca).write_bytes(Path(other.ca).read_bytes())
    await sidecar.logged("certificate reloaded")
    await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    upstream = await app.accept()
    await upstream.head()
    await upstream.send(OK)
    assert (await client.answer())[0] == 200
    await app.stop()


async def test_a_reload_forgets_an_authority_that_is_gone(
    spawn: Spawn, authority: Pki, tmp_path: Path
) -> None:
    app = await App().start(tls=authority.server("localhost"))
    route = {"upstream": f"localhost:{app.port}", "upstream_tls": {"ca": authority.ca}}
    sidecar = await spawn({"outbound": [route], "limits": QUICK})
    client = await sidecar.client()
    await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    upstream = await app.accept()
    await upstream.head()
    await upstream.send(OK)
    await client.answer()
    await upstream.close()
    Path(authority.ca).write_bytes(Path(Pki(tmp_path / "other").ca).read_bytes())
    sidecar.signal(signal.SIGHUP)
    await sidecar.logged("configuration reloaded")
    await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (await client.answer())[0] == 502
    await app.stop()


async def test_a_reload_to_tls_keeps_the_connections_that_are_open(
    spawn: Spawn, app: App, authority: Pki
) -> None:
    plain: dict[str, Any] = {"upstream": f"127.0.0.1:{app.port}"}
    sidecar = await spawn({"inbound": [plain]})
    (port,) = sidecar.inbound
    old = await Peer.connect(port)
    await old.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    upstream = await app.accept()
    await upstream.head()

    files = authority.issue("cart.example")
    (listener,) = sidecar.config["inbound"]
    sidecar.write(sidecar.config | {"inbound": [listener | {"tls": files}]})
    sidecar.signal(signal.SIGHUP)
    await sidecar.logged("configuration reloaded")
    await upstream.send(OK)
    assert (await old.answer())[2] == b"ok"
    await exchange(old, upstream)
    new = await opened(port, authority.client())
    await exchange(new, upstream)

    sidecar.write(sidecar.config | {"inbound": [listener]})
    sidecar.signal(signal.SIGHUP)
    await sidecar.logged("configuration reloaded")
    clients = [new, old, await Peer.connect(port)]
    for client in clients:
        await exchange(client, upstream)
    await asyncio.gather(*(client.close() for client in clients))
