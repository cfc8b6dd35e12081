"""Connections that the kernel redirected, in a pod of our own with rules as in a real one."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import trustme
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from meshproxy.demo.processes import Ports
from tests.scale.load import total
from tests.support.otlp import values
from tests.support.raw import PATIENCE, App, Peer
from tests.transport.namespaces import (
    LOOPBACK,
    POD,
    WORLD,
    AppIn,
    CollectorIn,
    Namespaces,
    PodSidecar,
    missing,
)

pytestmark = [pytest.mark.root, pytest.mark.asyncio(loop_scope="module")]

ADMIN = 15000
OTLP = 4318
SHOP = 9000
"""Where the world's server listens."""

SINGLE = {
    "inbound": [{"listen": "0.0.0.0:15006", "mode": "redirect"}],
    "outbound": [{"listen": "127.0.0.1:15001", "mode": "redirect"}],
}
DUAL = {
    "inbound": [{"listen": "[::]:15006", "mode": "redirect"}],
    "outbound": [{"listen": "[::]:15001", "mode": "redirect"}],
}
PAIRS = {
    "inbound": [
        {"listen": "0.0.0.0:15006", "upstream": "127.0.0.1:8080"},
        {"listen": "0.0.0.0:15006", "mode": "redirect"},
    ],
    "outbound": [
        {"listen": "127.0.0.1:15001", "mode": "forward-proxy"},
        {"listen": "127.0.0.1:15001", "mode": "redirect"},
    ],
}

GET = b"GET /cart HTTP/1.1\r\nHost: shop.example:9000\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Pod:
    """A pod with its sidecar and collector, which stay, and servers, which each test has anew."""

    def __init__(self, directory: Path, ports: Ports) -> None:
        self.net = Namespaces()
        self.sidecar = PodSidecar(directory, ports)
        self.collector = CollectorIn()
        self.shop = AppIn()
        self._apps: list[App] = []
        self._config: dict[str, Any] = {}
        self._spans = 0
        self._before = ""

    async def begin(self, config: dict[str, Any], version: int, exempt: bool) -> None:
        """Bring it into the state that a test wants."""
        self.net.redirect(exempt)
        before, self._config = self._config, config
        if not before:
            await self.collector.start_in(self.net.pod, OTLP)
            await self.sidecar.start_in(self.net.pod, config | COMMON)
        elif config is not before:
            await self.reload(config)
        self.shop = await self.server(WORLD[version], SHOP)
        self._before = await self.net.pod.get(ADMIN, "/metrics")
        made = total(self._before, "meshproxy_spans_total")
        self._spans = len(await self.collector.wait_for(int(made)))

    async def reload(self, config: dict[str, Any]) -> None:
        """Give it another configuration."""
        self._config = config
        self.sidecar.write(config | COMMON)
        self.sidecar.signal(signal.SIGHUP)
        await self.sidecar.logged("configuration reloaded")

    async def app(self, host: str, port: int = 8080) -> App:
        """An app in the pod."""
        self._apps.append(await AppIn().start_in(self.net.pod, host, port))
        return self._apps[-1]

    async def server(self, host: str, port: int) -> App:
        """A server of the world."""
        self._apps.append(await AppIn().start_in(self.net.world, host, port))
        return self._apps[-1]

    async def spans(self, count: int) -> list[Span]:
        """So many spans of this test."""
        return (await self.collector.wait_for(self._spans + count))[self._spans :]

    async def span(self) -> dict[str, object]:
        """The attributes of the only span."""
        (span,) = await self.spans(1)
        return {"kind": span.kind} | values(span)

    async def counted(self, name: str, label: str = "") -> float:
        """By how much a counter has grown in this test, over all series that have ``label``."""
        now = await self.net.pod.get(ADMIN, "/metrics")
        return total(now, name, label) - total(self._before, name, label)

    async def accepted(self) -> float:
        """How many connections came to the sidecar."""
        return await self.counted("meshproxy_connections_accepted_total")

    async def refused(self, reason: str) -> float:
        """How many connections were refused for this reason."""
        return await self.counted("meshproxy_refused_total", f'reason="{reason}"')

    async def end(self) -> None:
        """End what the test has begun, until the sidecar knows."""
        await self.net.pod.hang_up()
        await self.net.world.hang_up()
        for app in self._apps:
            await app.stop()
        self._apps.clear()
        async with asyncio.timeout(PATIENCE):
            while total(await self.net.pod.get(ADMIN, "/metrics"), "meshproxy_connections"):
                await asyncio.sleep(0.01)

    async def close(self) -> None:
        """Stop everything."""
        if self._config:
            await self.sidecar.close()
        await self.collector.stop()
        self.net.close()


Start = Callable[..., Awaitable[Pod]]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pods(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[dict[bool, Pod]]:
    """A pod with single-stack listeners, and one with dual-stack ones."""
    why = missing()
    if why:
        pytest.skip(why)
    ports = Ports()
    pods = {dual: Pod(tmp_path_factory.mktemp("pod"), ports) for dual in (False, True)}
    yield pods
    for pod in pods.values():
        await pod.close()
    ports.close()


@pytest_asyncio.fixture(loop_scope="module")
async def pod(pods: dict[bool, Pod]) -> AsyncIterator[Start]:
    begun: list[Pod] = []

    async def begin(config: dict[str, Any], *, version: int = 4, exempt: bool = True) -> Pod:
        pod = pods[config is DUAL]
        begun.append(pod)
        await pod.begin(config, version, exempt)
        return pod

    yield begin
    for each in begun:
        await each.end()


COMMON = {
    "admin": {"listen": f"127.0.0.1:{ADMIN}"},
    "export": [
        {
            "type": "otlp",
            "endpoint": f"http://127.0.0.1:{OTLP}",
            "queue": {"interval": "50ms"},
        }
    ],
}


async def exchange(client: Peer, server: App, request: bytes = GET) -> bytes:
    """One request and its answer; returns the head as the server saw it."""
    await client.send(request)
    upstream = await server.accept()
    head = await upstream.head()
    await upstream.send(OK)
    status, _, body = await client.answer()
    assert (status, body) == (200, b"ok")
    return head


# Where connections go


@pytest.mark.parametrize("version", [4, 6])
async def test_inbound_reaches_the_app_at_the_address_that_was_meant(
    pod: Start, version: int
) -> None:
    it = await pod(DUAL, version=version)
    app = await it.app(POD[version])  # bound to the pod's address alone
    client = await it.net.world.connect(POD[version], 8080)
    head = await exchange(client, app)
    assert f"X-Forwarded-For: {WORLD[version]}\r\n".encode() in head
    assert b"Host: shop.example:9000\r\n" in head
    span = await it.span()
    assert span["kind"] == 2
    assert span["client.address"] == span["network.peer.address"] == WORLD[version]
    assert span["network.peer.port"] == client.port
    assert (span["server.address"], span["server.port"]) == ("shop.example", 9000)


@pytest.mark.parametrize(
    ("config", "version"),
    [(SINGLE, 4), (DUAL, 4), (DUAL, 6)],
    ids=["v4", "v4-mapped", "v6"],
)
async def test_outbound_reaches_the_original_destination(
    pod: Start, config: dict[str, Any], version: int
) -> None:
    it = await pod(config, version=version)
    client = await it.net.pod.connect(WORLD[version], SHOP)
    head = await exchange(client, it.shop)
    assert b"\r\ntraceparent: 00-" in head
    assert b"X-Forwarded-For" not in head
    span = await it.span()
    assert span["kind"] == 3
    assert (span["server.address"], span["server.port"]) == ("shop.example", 9000)
    assert (span["network.peer.address"], span["network.peer.port"]) == (WORLD[version], SHOP)


async def test_the_call_of_a_request_is_linked_to_it(pod: Start) -> None:
    it = await pod(SINGLE)
    app = await it.app(POD[4])
    client = await it.net.world.connect(POD[4], 8080)
    await client.send(b"GET /in HTTP/1.1\r\nHost: pod\r\n\r\n")
    serving = await app.accept()
    await serving.head()
    await exchange(await it.net.pod.connect(WORLD[4], SHOP), it.shop)
    await serving.send(OK)
    await client.answer()
    outer, inner = sorted(await it.spans(2), key=lambda span: span.kind)
    assert inner.trace_id == outer.trace_id
    assert inner.parent_span_id == outer.span_id


async def test_tls_passes_and_its_server_name_is_recorded(pod: Start) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("pay.example").configure_cert(context)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    it = await pod(SINGLE)
    served = AppIn()
    sock = it.net.world.listen(WORLD[4], 8443)
    server = await asyncio.start_server(served._connected, sock=sock, ssl=context)
    out = it.net.pod.socket(sock.family)
    await asyncio.get_running_loop().sock_connect(out, (WORLD[4], 8443))
    client = Peer(
        *await asyncio.open_connection(sock=out, ssl=trusting, server_hostname="pay.example")
    )
    await exchange(client, served)
    await client.close()
    await served.stop()
    server.close()
    span = await it.span()
    assert span["network.protocol.name"] == "tls"
    assert span["tls.client.server_name"] == span["server.address"] == "pay.example"
    assert (span["network.peer.address"], span["network.peer.port"]) == (WORLD[4], 8443)


@pytest.mark.parametrize("port", [SHOP, 3306], ids=["any port", "opaque port"])
async def test_a_server_may_speak_first(pod: Start, port: int) -> None:
    it = await pod(SINGLE)
    server = it.shop if port == SHOP else await it.server(WORLD[4], port)
    client = await it.net.pod.connect(WORLD[4], port)
    upstream = await server.accept()
    await upstream.send(b"220 ready\r\n")
    await client.expect(b"220 ready\r\n")
    await client.send(b"EHLO pod\r\n")
    await upstream.expect(b"EHLO pod\r\n")
    client.half_close()
    assert await upstream.ended()
    await upstream.send(b"221 bye\r\n")
    await client.expect(b"221 bye\r\n")
    await upstream.close()
    assert await client.ended()
    span = await it.span()
    assert span["network.protocol.name"] == "opaque"
    assert span["server.address"] == WORLD[4]


# Failures


async def test_http_to_nobody_is_answered_with_502(pod: Start) -> None:
    it = await pod(SINGLE)
    client = await it.net.pod.connect(WORLD[4], 9001)
    await client.send(GET)
    status, _, body = await client.answer()
    assert status == 502
    assert b"10.77.0.1:9001 refused the connection" in body
    span = await it.span()
    assert span["error.type"] == "connect_refused"


@pytest.mark.parametrize("port", [9001, 3306], ids=["by its bytes", "by its port"])
async def test_anything_else_to_nobody_is_reset(pod: Start, port: int) -> None:
    it = await pod(SINGLE)
    with contextlib.suppress(ConnectionResetError):  # it can come as soon as the connection stands
        client = await it.net.pod.connect(WORLD[4], port)
        if port == 9001:
            await client.send(b"\x00\x01\x02\x03 not a protocol we know\r\n")
        assert not await client.ended()
    assert (await it.span())["error.type"] == "connect_refused"


# Loops


@pytest.mark.parametrize("version", [4, 6])
async def test_a_direct_connection_is_refused(pod: Start, version: int) -> None:
    it = await pod(DUAL)
    attempts = [
        await it.net.pod.connect(LOOPBACK[version], 15001),
        await it.net.pod.connect(LOOPBACK[version], 15006),
        await it.net.world.connect(POD[version], 15006),
    ]
    for client in attempts:
        await client.ended()
    assert await it.refused("not_redirected") == len(attempts)
    assert await it.accepted() == len(attempts)


@pytest.mark.parametrize(
    ("config", "version"),
    [(SINGLE, 4), (DUAL, 4), (DUAL, 6), (PAIRS, 4)],
    ids=["v4", "v4-mapped", "v6", "pair"],
)
async def test_the_sidecar_that_is_redirected_itself_does_not_run_away(
    pod: Start, config: dict[str, Any], version: int
) -> None:
    it = await pod(config, version=version, exempt=False)
    client = await it.net.pod.connect(WORLD[version], SHOP)
    await client.send(GET)
    status, _, _ = await client.answer()
    assert status == 502
    refused = await it.refused("loop")
    assert 1 <= refused <= 4
    # Ours, and those of its own that came back (a spare one for servers that speak first).
    assert await it.accepted() == 1 + refused
    assert it.shop.accepted == 0


async def test_a_forward_proxy_is_not_led_back_to_itself(pod: Start) -> None:
    it = await pod(PAIRS)
    client = await it.net.pod.connect("127.0.0.1", 15001)
    await client.send(b"GET http://127.0.0.1:15001/ HTTP/1.1\r\nHost: 127.0.0.1:15001\r\n\r\n")
    status, _, body = await client.answer()
    assert status == 400
    assert b"this proxy itself" in body
    assert await it.accepted() == 1


# Two listeners on one address


async def test_one_address_serves_what_was_redirected_and_what_was_not(pod: Start) -> None:
    it = await pod(PAIRS)
    by_address = await it.app(POD[4])
    by_upstream = await it.app("127.0.0.1")
    await exchange(await it.net.world.connect(POD[4], 8080), by_address)
    await exchange(await it.net.world.connect(POD[4], 15006), by_upstream)
    await exchange(await it.net.pod.connect(WORLD[4], SHOP), it.shop)
    proxied = b"GET http://10.77.0.1:9001/a HTTP/1.1\r\nHost: 10.77.0.1:9001\r\n\r\n"
    named = await it.server(WORLD[4], 9001)
    head = await exchange(await it.net.pod.connect("127.0.0.1", 15001), named, proxied)
    assert head.startswith(b"GET /a HTTP/1.1\r\n")
    assert await it.accepted() == 4


async def test_a_reload_takes_the_redirect_away_and_brings_it_back(pod: Start) -> None:
    it = await pod(PAIRS)
    kept = await it.net.pod.connect(WORLD[4], SHOP)
    await kept.send(GET)
    upstream = await it.shop.accept()
    await upstream.head()
    alone = {direction: items[:1] for direction, items in PAIRS.items()}
    for config, status in ((alone, 400), (PAIRS, 200), (alone, 400)):
        await it.reload(config)
        client = await it.net.pod.connect(WORLD[4], SHOP)
        if status == 200:
            await exchange(client, it.shop)
            continue
        await client.send(GET)  # to a forward proxy alone, this is no request to a proxy
        assert (await client.answer())[0] == status
    await upstream.send(OK)
    assert (await kept.answer())[2] == b"ok"
