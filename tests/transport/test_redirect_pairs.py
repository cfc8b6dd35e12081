"""Two listeners on one address, where no kernel redirects: what needs no root."""

from __future__ import annotations

import signal

import psutil
import pytest

from meshproxy.config.loader import load
from meshproxy.config.problems import ConfigError
from meshproxy.demo.processes import Ports
from tests.support.fixtures import Spawn, Start
from tests.support.process import SidecarProcess
from tests.support.raw import App, Peer

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


async def exchange(client: Peer, app: App, request: bytes = GET) -> None:
    await client.send(request)
    upstream = await app.accept()
    await upstream.head()
    await upstream.send(OK)
    assert (await client.answer())[2] == b"ok"
    await upstream.close()


@pytest.mark.parametrize("redirect_first", [False, True])
async def test_what_was_not_redirected_is_served_in_the_other_mode(
    start: Start, app: App, ports: Ports, redirect_first: bool
) -> None:
    inbound, outbound = (f"127.0.0.1:{ports.take()}" for _ in range(2))
    config = {
        "inbound": [
            {"listen": inbound, "upstream": f"127.0.0.1:{app.port}"},
            {"listen": inbound, "mode": "redirect"},
        ],
        "outbound": [
            {"listen": outbound, "mode": "forward-proxy"},
            {"listen": outbound, "mode": "redirect"},
        ],
    }
    if redirect_first:
        config = {direction: items[::-1] for direction, items in config.items()}
    sidecar = await start(config)
    await exchange(await sidecar.client(int(inbound.rpartition(":")[2])), app)
    proxied = f"GET http://127.0.0.1:{app.port}/ HTTP/1.1\r\nHost: a\r\n\r\n".encode()
    await exchange(await sidecar.client(int(outbound.rpartition(":")[2])), app, proxied)


async def test_a_redirect_alone_refuses_what_was_not_redirected(start: Start) -> None:
    sidecar = await start({"outbound": [{"mode": "redirect"}]})
    client = await sidecar.client()
    await client.ended()
    assert 'reason="not_redirected"' in (await sidecar.get("/metrics"))[1]


async def test_a_reload_makes_a_pair_of_a_redirect_and_back(spawn: Spawn, app: App) -> None:
    redirect = {"mode": "redirect"}
    sidecar = await spawn({"inbound": [redirect]})
    (redirect,) = sidecar.config["inbound"]
    proxy = {"listen": redirect["listen"], "upstream": f"127.0.0.1:{app.port}"}
    for listeners, served in (([proxy, redirect], True), ([redirect], False), ([proxy], True)):
        sidecar.write(sidecar.config | {"inbound": listeners})
        sidecar.signal(signal.SIGHUP)
        await sidecar.logged("configuration reloaded")
        client = await sidecar.client()
        if served:
            await exchange(client, app)
        else:
            await client.ended()
        await client.close()


async def test_listeners_on_any_free_port_have_a_port_each(spawn: Spawn, app: App) -> None:
    upstream = f"127.0.0.1:{app.port}"
    anywhere = {"listen": "127.0.0.1:0", "upstream": upstream}
    sidecar = await spawn({"inbound": [anywhere, anywhere]})
    two = listening_ports(sidecar)
    sidecar.write(sidecar.config | {"inbound": [anywhere]})
    sidecar.signal(signal.SIGHUP)
    await sidecar.logged("configuration reloaded")
    one = listening_ports(sidecar)
    assert one < two
    assert len(two - one) == 1


def listening_ports(sidecar: SidecarProcess) -> set[int]:
    connections = psutil.Process(sidecar._process.pid).net_connections("tcp")
    return {each.laddr.port for each in connections if each.status == psutil.CONN_LISTEN}


PAIR = "inbound: [{upstream: 'a:1', %s}, {mode: redirect, %s}]"
TLS = "tls: {cert: x, key: y}"


@pytest.mark.parametrize(
    ("one", "other", "path"),
    [
        ("trust: edge", "trust: mesh", "inbound[1].trust"),
        ("protocol: http", "protocol: auto", "inbound[1].protocol"),
        (TLS, "protocol: auto", "inbound[1].tls"),
    ],
)
def test_a_pair_has_what_its_socket_decides_in_common(one: str, other: str, path: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(PAIR % (one, other), {}, why_unreadable=None)
    (problem,) = caught.value.problems
    assert str(problem) == f"{path}: must be as in inbound[0], which has the same address"
    assert load(PAIR % (one, one), {}, why_unreadable=None)


@pytest.mark.parametrize("key", ["upstream_tls: {}", "peer: a"])
def test_without_an_upstream_there_is_none_to_describe(key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(f"outbound: [{{mode: redirect, {key}}}]", {})
    (problem,) = caught.value.problems
    assert str(problem) == f"outbound[0].{key.partition(':')[0]}: needs an upstream"
