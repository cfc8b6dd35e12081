"""A real nginx behind a sidecar, and in front of one."""

from __future__ import annotations

import asyncio
import gzip
import signal

import aiohttp
import pytest

from tests.services.conftest import Sidecar
from tests.services.kit.daemon import Daemons
from tests.services.kit.load import load
from tests.services.kit.nginx import start_nginx
from tests.services.kit.origin import PACKED, TEXT, Origin, body_of, digest
from tests.support.otlp import Collector, values
from tests.support.raw import Peer

pytestmark = pytest.mark.services

OK = "default_type text/plain; location / { return 200 ok; }"
LARGE = 64 * 2**20


def proxied(port: int, *options: str) -> str:
    """Directives of an nginx in front of ``port``."""
    lines = "".join(f"{option}; " for option in options)
    return f"location / {{ proxy_pass http://127.0.0.1:{port}; {lines} }}"


# Behind the sidecar


async def test_few_requests_a_connection(daemons: Daemons, inbound: Sidecar) -> None:
    """nginx ends a connection after every third request: no client notices."""
    nginx = await start_nginx(daemons, f"keepalive_requests 3; {OK}")
    sidecar = await inbound(nginx.port)
    url = f"http://127.0.0.1:{sidecar.inbound[0]}/"
    assert await load(url, clients=20, rounds=100, pause=(0, 0.002)) == {"200": 2000}


async def test_connections_closed_while_idle(daemons: Daemons, inbound: Sidecar) -> None:
    """Requests come when nginx is just about to close: none of them is lost."""
    nginx = await start_nginx(daemons, f"keepalive_timeout 1s; {OK}")
    sidecar = await inbound(nginx.port)
    url = f"http://127.0.0.1:{sidecar.inbound[0]}/"
    assert await load(url, clients=100, rounds=6, pause=(0.995, 1.003)) == {"200": 600}


async def test_nginx_reloads_under_load(daemons: Daemons, inbound: Sidecar) -> None:
    """At a reload the old workers close their idle connections at once."""
    nginx = await start_nginx(daemons, OK)
    sidecar = await inbound(nginx.port)
    url = f"http://127.0.0.1:{sidecar.inbound[0]}/"
    traffic = asyncio.create_task(load(url, clients=20, rounds=150, pause=(0, 0.02)))
    while not traffic.done():
        nginx.daemon.signal(signal.SIGHUP)
        await asyncio.wait([traffic], timeout=0.2)
    assert await traffic == {"200": 3000}


async def test_pipelined_requests(daemons: Daemons, inbound: Sidecar) -> None:
    nginx = await start_nginx(daemons, "location / { return 200 $request_uri; }")
    client = await Peer.connect((await inbound(nginx.port)).inbound[0])
    paths = [f"/{number}" for number in range(50)]
    await client.send(b"".join(f"GET {p} HTTP/1.1\r\nHost: a\r\n\r\n".encode() for p in paths))
    for path in paths:
        status, _, body = await client.answer()
        assert (status, body) == (200, path.encode())
    await client.close()


async def test_an_upload_that_waits_for_a_100(
    daemons: Daemons, inbound: Sidecar, origin: Origin
) -> None:
    nginx = await start_nginx(daemons, proxied(origin.port))
    client = await Peer.connect((await inbound(nginx.port)).inbound[0])
    body = body_of(2**20)
    for _ in range(2):
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


async def test_compressed_bodies_are_left_alone(
    daemons: Daemons, inbound: Sidecar, session: aiohttp.ClientSession
) -> None:
    """nginx compresses as it sends, chunked; what arrives is bit for bit the same."""
    daemons.file("text.txt", TEXT.decode())
    nginx = await start_nginx(daemons, f"gzip on; gzip_types *; root {daemons.folder};")
    sidecar = await inbound(nginx.port)
    got = []
    for port in (nginx.port, sidecar.inbound[0]):
        url = f"http://127.0.0.1:{port}/text.txt"
        async with session.get(url, headers={"Accept-Encoding": "gzip"}) as response:
            assert response.headers["Content-Encoding"] == "gzip"
            assert response.headers["Transfer-Encoding"] == "chunked"
            got.append(await response.read())
    assert got[0] == got[1]
    assert gzip.decompress(got[1]) == TEXT


async def test_parts_and_conditions_of_files(
    daemons: Daemons, inbound: Sidecar, session: aiohttp.ClientSession
) -> None:
    daemons.file("text.txt", TEXT.decode())
    nginx = await start_nginx(daemons, f"root {daemons.folder};")
    url = f"http://127.0.0.1:{(await inbound(nginx.port)).inbound[0]}/text.txt"
    async with session.get(url, headers={"Range": "bytes=10-19"}) as response:
        assert (response.status, await response.read()) == (206, TEXT[10:20])
    async with session.head(url) as response:
        assert (response.status, response.content_length) == (200, len(TEXT))
        tag = response.headers["ETag"]
    async with session.get(url, headers={"If-None-Match": tag}) as response:
        assert (response.status, await response.read()) == (304, b"")


async def test_an_upload_that_nginx_refuses(
    daemons: Daemons, inbound: Sidecar, session: aiohttp.ClientSession
) -> None:
    """The answer comes while the body is still on its way, and must not get lost with it."""
    nginx = await start_nginx(daemons, f"client_max_body_size 1k; {OK}")
    client = await Peer.connect((await inbound(nginx.port)).inbound[0])
    await client.send(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % LARGE)
    await client.flood(2**20)
    status, _, _ = await client.answer()
    assert status == 413
    await client.close()


async def test_nginx_hangs_up(
    daemons: Daemons, inbound: Sidecar, session: aiohttp.ClientSession, collector: Collector
) -> None:
    nginx = await start_nginx(daemons, "location / { return 444; }")
    url = f"http://127.0.0.1:{(await inbound(nginx.port)).inbound[0]}/"
    async with session.get(url) as response:
        assert response.status == 502
    (span,) = await collector.wait_for(1)
    assert values(span)["error.type"] == "upstream_reset"


# In front of the sidecar


@pytest.fixture(
    params=[
        pytest.param(("proxy_http_version 1.0",), id="http-1.0"),
        pytest.param(("proxy_http_version 1.1", 'proxy_set_header Connection ""'), id="http-1.1"),
        pytest.param(
            ("proxy_http_version 1.1", "proxy_request_buffering off", "proxy_buffering off"),
            id="unbuffered",
        ),
    ]
)
async def front(
    request: pytest.FixtureRequest, daemons: Daemons, inbound: Sidecar, origin: Origin
) -> str:
    """The base URL of an nginx in front of a sidecar in front of the origin."""
    sidecar = await inbound(origin.port)
    nginx = await start_nginx(daemons, proxied(sidecar.inbound[0], *request.param))
    return f"http://127.0.0.1:{nginx.port}"


async def test_requests_from_nginx(front: str, origin: Origin) -> None:
    assert await load(f"{front}/headers", clients=10, rounds=30, pause=(0, 0)) == {"200": 300}
    assert all(len(fields.getall("traceparent")) == 1 for fields in origin.seen)


async def test_uploads_from_nginx(front: str, session: aiohttp.ClientSession) -> None:
    """As it is, with a length; and chunked."""
    body = body_of(LARGE)

    async def pieces() -> object:
        for at in range(0, LARGE, 100_000):
            yield body[at : at + 100_000]

    for data in (body, pieces()):
        async with session.put(f"{front}/upload", data=data) as response:
            assert await response.json() == {"length": LARGE, "sha256": digest(body)}


async def test_downloads_to_nginx(front: str, session: aiohttp.ClientSession) -> None:
    expected = digest(body_of(LARGE))
    for query in (f"bytes={LARGE}", f"bytes={LARGE}&length=1"):
        async with session.get(f"{front}/download?{query}") as response:
            assert digest(await response.read()) == expected
    async with session.get(f"{front}/packed") as response:
        assert await response.read() == PACKED


async def test_web_socket_through_nginx(
    daemons: Daemons, inbound: Sidecar, origin: Origin, session: aiohttp.ClientSession
) -> None:
    sidecar = await inbound(origin.port)
    upgrade = (
        "proxy_http_version 1.1",
        "proxy_set_header Upgrade $http_upgrade",
        "proxy_set_header Connection upgrade",
    )
    nginx = await start_nginx(daemons, proxied(sidecar.inbound[0], *upgrade))
    large = body_of(2**20)
    url = f"http://127.0.0.1:{nginx.port}/socket"
    async with session.ws_connect(url, max_msg_size=2**26) as socket:
        await socket.send_bytes(large)
        assert await socket.receive_bytes() == large
    async with session.get(f"http://127.0.0.1:{nginx.port}/number/1") as response:
        assert await response.text() == "1"


async def test_kept_connections_of_nginx(
    daemons: Daemons, inbound: Sidecar, origin: Origin
) -> None:
    """nginx keeps a few connections to the sidecar, and both of them reuse theirs."""
    sidecar = await inbound(origin.port)
    pool = f"upstream kept {{ server 127.0.0.1:{sidecar.inbound[0]}; keepalive 8; }}"
    server = (
        "location / { proxy_pass http://kept; proxy_http_version 1.1; "
        'proxy_set_header Connection ""; }'
    )
    nginx = await start_nginx(daemons, server, pool)
    url = f"http://127.0.0.1:{nginx.port}/number/1"
    assert await load(url, clients=8, rounds=50, pause=(0, 0)) == {"200": 400}
    lines = (await sidecar.get("/metrics"))[1].splitlines()
    (accepted,) = (line for line in lines if line.startswith("meshproxy_connections_accepted_to"))
    assert float(accepted.rpartition(" ")[2]) <= 16
