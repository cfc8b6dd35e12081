"""A real HAProxy behind a sidecar, and in front of one."""

from __future__ import annotations

import aiohttp
import pytest

from tests.services.conftest import Sidecar
from tests.services.kit.daemon import Daemons
from tests.services.kit.haproxy import start_haproxy
from tests.services.kit.load import load
from tests.services.kit.origin import PACKED, Origin, body_of, digest
from tests.support.raw import Peer

pytestmark = pytest.mark.services

LARGE = 64 * 2**20
MODES = {
    "keep-alive": ("option http-keep-alive", "http-reuse always"),
    "server-close": ("option http-server-close",),
    "httpclose": ("option httpclose",),
}


@pytest.fixture(params=MODES)
async def base(
    request: pytest.FixtureRequest, daemons: Daemons, inbound: Sidecar, origin: Origin
) -> str:
    """HAProxy, a sidecar, HAProxy again, the origin: the URL of the first."""
    behind = await start_haproxy(daemons, origin.port, MODES[request.param])
    sidecar = await inbound(behind)
    front = await start_haproxy(daemons, sidecar.inbound[0], MODES[request.param])
    return f"http://127.0.0.1:{front}"


async def test_requests(base: str, origin: Origin) -> None:
    assert await load(f"{base}/headers", clients=10, rounds=50, pause=(0, 0)) == {"200": 500}
    assert all(len(fields.getall("traceparent")) == 1 for fields in origin.seen)


async def test_bodies(base: str, session: aiohttp.ClientSession) -> None:
    body = body_of(LARGE)
    async with session.put(f"{base}/upload", data=body) as response:
        assert await response.json() == {"length": LARGE, "sha256": digest(body)}
    for query in (f"bytes={LARGE}", f"bytes={LARGE}&length=1"):
        async with session.get(f"{base}/download?{query}") as response:
            assert digest(await response.read()) == digest(body)
    async with session.get(f"{base}/packed") as response:
        assert await response.read() == PACKED


async def test_an_upload_that_waits_for_a_100(base: str) -> None:
    client = await Peer.connect(int(base.rpartition(":")[2]))
    body = body_of(2**20)
    await client.send(
        b"PUT /upload HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n"
        b"Content-Length: %d\r\n\r\n" % len(body)
    )
    assert (await client.head()).startswith(b"HTTP/1.1 100 ")
    await client.send(body)
    status, _, answer = await client.answer()
    assert status == 200
    assert digest(body).encode() in answer
    await client.close()


async def test_web_socket(base: str, session: aiohttp.ClientSession) -> None:
    async with session.ws_connect(f"{base}/socket") as socket:
        await socket.send_str("hello")
        assert await socket.receive_str() == "hello"


async def test_connections_closed_while_idle(
    daemons: Daemons, inbound: Sidecar, origin: Origin
) -> None:
    """Requests come when HAProxy is just about to close: none of them is lost."""
    haproxy = await start_haproxy(daemons, origin.port, ["timeout http-keep-alive 500ms"])
    url = f"http://127.0.0.1:{(await inbound(haproxy)).inbound[0]}/number/1"
    assert await load(url, clients=100, rounds=8, pause=(0.495, 0.503)) == {"200": 800}
