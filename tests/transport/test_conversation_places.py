"""The servers that a protocol tells its clients about are reached through ports of the sidecar."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml

from meshproxy.demo.processes import Ports
from meshproxy.transport import places
from tests.support.raw import App, Peer
from tests.transport.shouting import Begin, Shout, Talk, answer, frame, heard, say
from tests.transport.test_tls import Pki


@pytest.fixture
async def broker() -> AsyncIterator[App]:
    """A server that the upstream tells of."""
    broker = await App().start()
    yield broker
    await broker.stop()


async def ask(client: Peer, number: int, app: App) -> int:
    """The port at which ``app``, as server ``number``, is reached."""
    return await ask_at(client, number, app.port)


async def ask_at(client: Peer, number: int, port: int, host: str = "127.0.0.1") -> int:
    await say(client, f"server {number} {host}:{port}".encode())
    found, _, local = (await answer(client)).decode().rpartition(":")
    assert found == "127.0.0.1"
    return int(local)


async def refusal(client: Peer, number: int, port: int, host: str = "127.0.0.1") -> str:
    """Why a server is not to be reached."""
    await say(client, f"server {number} {host}:{port}".encode())
    return (await answer(client)).decode()


async def exchange(through: Talk, port: int, app: App) -> Peer:
    """A client of a port, whose frames come to ``app``."""
    client = await through.proxy.client(port)
    await say(client, b"hello")
    upstream = await app.accept()
    await heard(upstream, b"HELLO")
    await say(upstream, b"hi")
    await heard(client, b"hi")
    return client


async def test_a_server_is_reached_at_its_own_port(talk: Begin, broker: App) -> None:
    through = await talk(peer="events")
    client = await through.proxy.client()
    port = await ask(client, 3, broker)
    other = await exchange(through, port, broker)
    passage = through.conversation.passage
    assert passage.destination == passage.connected_to == ("127.0.0.1", broker.port)
    assert passage.peer == "events"
    assert passage.scope.listen == f"127.0.0.1:{through.proxy.outbound[0]}"
    assert passage.socket is not None
    assert passage.socket.local == ("127.0.0.1", other.port)
    assert passage.socket.remote == ("127.0.0.1", port)
    name = "meshproxy_connections"
    assert await through.proxy.metric(name, listener=passage.scope.listen) == 2


async def test_it_accepts_at_once(
    talk: Begin, broker: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anybody serves the port, since the event loop had no turn yet."""
    through = await talk()
    early: list[socket.socket] = []

    def connect(self: Shout, server: int, destination: tuple[str, int]) -> bytes:
        early.append(socket.create_connection(self.places.local(server, destination), timeout=5))
        return b"connected"

    monkeypatch.setattr(Shout, "_place", connect)
    client = await through.proxy.client()
    await say(client, f"server 1 127.0.0.1:{broker.port}".encode())
    await heard(client, b"connected")
    early[0].send(frame(b"hello"))
    upstream = await broker.accept()
    await heard(upstream, b"HELLO")
    early[0].close()
    await upstream.close()


async def test_ports_are_those_after_the_listeners_own(
    talk: Begin, broker: App, ports: Ports
) -> None:
    free = run_of_free_ports(3)
    through = await talk(listen=f"127.0.0.1:{free}")
    client = await through.proxy.client(free)
    assert await ask(client, 1, broker) == free + 2
    assert await ask(client, 0, broker) == free + 1


async def test_or_those_that_are_configured(talk: Begin, broker: App) -> None:
    free = run_of_free_ports(3)
    through = await talk(kafka={"broker_ports": free})
    client = await through.proxy.client()
    assert await ask(client, 2, broker) == free + 2
    with socket.create_server(("127.0.0.1", free + 1)):
        assert await ask(client, 1, broker) not in (free + 1, 0)
    for beyond in (-1, 70000):
        assert await ask(client, beyond, broker) > 0
    await exchange(through, await ask(client, 1, broker), broker)


def run_of_free_ports(count: int) -> int:
    """The first of so many free ports in a row."""
    for first in range(20000, 30000, count):
        held: list[socket.socket] = []
        try:
            for port in range(first, first + count):
                held.append(socket.create_server(("127.0.0.1", port)))
            return first
        except OSError:
            continue
        finally:
            for each in held:
                each.close()
    raise AssertionError("no ports")


async def test_any_free_ports_beside_port_0(talk: Begin, app: App, broker: App) -> None:
    through = await talk(listen="127.0.0.1:0")
    (listener,) = (each for _, each in through.proxy.sidecar._listeners._open.values())
    own = listener.sockets[0].getsockname()[1]
    client = await through.proxy.client(own)
    await exchange(through, await ask(client, 0, broker), broker)


async def test_the_host_is_the_one_that_the_client_knows(talk: Begin, broker: App) -> None:
    free = run_of_free_ports(2)
    through = await talk(listen=f"[::]:{free}")
    for host in ("127.0.0.1", "::1"):
        client = await through.proxy.client(free, host=host)
        await say(client, f"server 0 127.0.0.1:{broker.port}".encode())
        found, _, port = (await answer(client)).decode().rpartition(":")
        assert found == host
        other = await through.proxy.client(int(port), host=host)
        await say(other, b"hello")
        await heard(await broker.accept(), b"HELLO")


async def test_a_server_keeps_its_port_and_may_move(talk: Begin, app: App, broker: App) -> None:
    through = await talk()
    client = await through.proxy.client()
    port = await ask(client, 1, broker)
    staying = await exchange(through, port, broker)
    assert await ask(client, 1, broker) == port
    moved = await App().start()
    assert await ask(client, 1, moved) == port
    await exchange(through, port, moved)
    await say(staying, b"still here")
    assert await ask(client, 2, broker) != port
    await moved.stop()


async def test_tls_is_as_to_the_upstream(talk: Begin, tmp_path: Path) -> None:
    pki = Pki(tmp_path)
    bootstrap = await App().start(tls=pki.server("localhost"))
    other = await App().start(tls=pki.server("127.0.0.1"))
    through = await talk(upstream=f"localhost:{bootstrap.port}", upstream_tls={"ca": pki.ca})
    client = await through.proxy.client()
    await exchange(through, await ask_at(client, 1, other.port, "127.0.0.1"), other)
    misnamed = await ask_at(client, 2, other.port, "localhost")
    assert not await (await through.proxy.client(misnamed)).ended()
    await bootstrap.stop()
    await other.stop()


async def test_all_are_asked_for_the_server_name_that_is_configured(
    talk: Begin, tmp_path: Path
) -> None:
    pki = Pki(tmp_path)
    apps = [await App().start(tls=pki.server("kafka.example")) for _ in range(2)]
    tls = {"ca": pki.ca, "server_name": "kafka.example"}
    through = await talk(upstream=f"127.0.0.1:{apps[0].port}", upstream_tls=tls)
    client = await through.proxy.client()
    await exchange(through, await ask(client, 1, apps[1]), apps[1])
    for app in apps:
        await app.stop()


async def test_a_server_that_is_not_there(talk: Begin, ports: Ports) -> None:
    through = await talk()
    client = await through.proxy.client()
    gone = await through.proxy.client(await ask_at(client, 1, ports.take()))
    assert not await gone.ended()
    name = "meshproxy_upstream_errors_total"
    assert await through.proxy.metric(name, kind="connect_refused") == 1
    await say(client, b"echo")
    await heard(client, b"echo")


async def test_what_would_lead_back_is_refused(talk: Begin, broker: App) -> None:
    through = await talk()
    client = await through.proxy.client()
    own = through.proxy.outbound[0]
    assert "leads back" in await refusal(client, 1, own)
    assert "leads back" in await refusal(client, 1, own, "localhost")
    port = await ask(client, 1, broker)
    assert "leads back" in await refusal(client, 2, port)
    assert "leads back" in await refusal(client, 1, port)
    await exchange(through, port, broker)


async def test_there_is_a_limit(talk: Begin, broker: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "MOST", 3)
    through = await talk()
    client = await through.proxy.client()
    opened = [await ask(client, number, broker) for number in range(3)]
    assert len(set(opened)) == 3
    assert "open already" in await refusal(client, 3, broker.port)
    assert await ask(client, 0, broker) == opened[0]


async def test_the_limit_of_connections_holds_for_all(talk: Begin, app: App, broker: App) -> None:
    through = await talk({"connections": 2})
    client = await through.proxy.client()
    port = await ask(client, 1, broker)
    await exchange(through, port, broker)
    for where in (port, through.proxy.outbound[0]):
        await (await through.proxy.client(where)).ended()
    refused = "meshproxy_refused_total"
    assert await through.proxy.metric(refused, reason="too_many_connections") == 2


async def test_ports_that_are_open_before_anybody_asks(talk: Begin, app: App, broker: App) -> None:
    """A client may know no other: it was there before we were started again."""
    free = run_of_free_ports(4)
    through = await talk(listen=f"127.0.0.1:{free}", kafka={"broker_ids": [0, 2]})
    client = await exchange(through, free + 3, app)  # the upstream tells where server 2 is
    with pytest.raises(ConnectionRefusedError):
        await through.proxy.client(free + 2)
    assert await ask(client, 2, broker) == free + 3
    assert await client.ended()  # it is not connected with server 2, and comes again
    other = await exchange(through, free + 3, broker)
    assert await ask(other, 2, broker) == free + 3
    await exchange(through, free + 1, app)


async def test_one_that_is_taken_is_not_opened_elsewhere(
    talk: Begin, capsys: pytest.CaptureFixture[str]
) -> None:
    free = run_of_free_ports(3)
    with socket.create_server(("127.0.0.1", free + 1)):
        await talk(listen=f"127.0.0.1:{free}", kafka={"broker_ids": [0, 1, 70000]})
    said = [each for each in capsys.readouterr().err.splitlines() if "not open ahead" in each]
    assert len(said) == 2
    assert f'"port":{free + 1},"reason":"the port is taken"' in said[0]


@pytest.mark.parametrize("how", ["the sidecar stops", "the listener is removed"])
async def test_who_stays_is_told_our_ports_to_the_end(
    how: str, talk: Begin, app: App, broker: App, ports: Ports
) -> None:
    """Clients that were told a server's own address would go past us from then on."""
    free = run_of_free_ports(5)
    through = await talk({"drain": "5s"}, listen=f"127.0.0.1:{free}")
    client = await through.proxy.client(free)
    upstream = await app.accept()
    port = await ask(client, 1, broker)
    await say(client, b"a long wait")
    await heard(upstream, b"A LONG WAIT")
    if how == "the sidecar stops":
        through.proxy.sidecar.request_stop()
        await closed(through, port)
    else:
        await without_listener(through)
    assert await ask(client, 1, broker) == port
    assert await ask(client, 2, broker) == free + 3
    await say(upstream, b"over")
    await heard(client, b"over")
    assert await client.ended()
    await upstream.close()


async def closed(through: Talk, port: int) -> None:
    """Wait until nobody listens there."""
    async with asyncio.timeout(5):
        while ("127.0.0.1", port) in through.proxy.sidecar._runtime.own_listeners:
            await asyncio.sleep(0.01)


async def without_listener(through: Talk) -> None:
    path = through.proxy._path
    config = yaml.safe_load(path.read_text())
    config["outbound"] = [{"mode": "forward-proxy", "listen": "127.0.0.1:0"}]
    path.write_text(yaml.safe_dump(config))
    await through.proxy.sidecar.reload()


async def test_ports_close_with_the_sidecar(talk: Begin, broker: App) -> None:
    through = await talk()
    client = await through.proxy.client()
    port = await ask(client, 1, broker)
    await client.close()
    through.proxy.sidecar.request_stop()
    async with asyncio.timeout(5):
        while through.proxy.sidecar.state != "stopped":
            await asyncio.sleep(0.01)
    with pytest.raises(ConnectionRefusedError):
        await through.proxy.client(port)
    assert not through.proxy.sidecar._runtime.own_listeners
