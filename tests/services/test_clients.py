"""Real clients through a sidecar: curl, Node.js, Java's HttpClient, wrk."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import NamedTuple

import pytest
import trustme

from tests.services.conftest import Sidecar, exporter
from tests.services.kit.daemon import Daemons
from tests.services.kit.nginx import start_nginx
from tests.services.kit.origin import PACKED, Origin, body_of, digest
from tests.services.kit.programs import program
from tests.services.kit.run import run
from tests.support.fixtures import Spawn
from tests.support.otlp import Collector, values
from tests.support.process import SidecarProcess

pytestmark = pytest.mark.services

CLIENTS = Path(__file__).parent / "clients"
LARGE = 32 * 2**20


async def curl(*options: str) -> str:
    """What curl prints; an HTTP status of 400 or more fails."""
    return await run(
        program("curl"), "--silent", "--show-error", "--fail", "--max-time", "30", *options
    )


# curl


@pytest.fixture
async def base(inbound: Sidecar, origin: Origin) -> str:
    """The base URL of a sidecar in front of the origin."""
    return f"http://127.0.0.1:{(await inbound(origin.port)).inbound[0]}"


@pytest.fixture
def upload(daemons: Daemons) -> Path:
    """A large file."""
    path = daemons.folder / "upload"
    path.write_bytes(body_of(LARGE))
    return path


UPLOADED = {"length": LARGE, "sha256": digest(body_of(LARGE))}


@pytest.mark.parametrize(
    "options",
    [
        pytest.param((), id="plain"),
        pytest.param(("--header", "Expect: 100-continue"), id="expect"),
        pytest.param(("--header", "Transfer-Encoding: chunked"), id="chunked"),
        pytest.param(("--http1.0",), id="http-1.0"),
    ],
)
async def test_curl_uploads(base: str, upload: Path, options: tuple[str, ...]) -> None:
    answer = await curl("--upload-file", str(upload), *options, f"{base}/upload")
    assert json.loads(answer) == UPLOADED


@pytest.mark.parametrize("version", ["--http1.0", "--http1.1", "--http2"])
async def test_curl_downloads(base: str, daemons: Daemons, version: str) -> None:
    """``--http2`` offers an upgrade to h2c, which is not taken."""
    into = daemons.folder / "download"
    for query in (f"bytes={LARGE}", f"bytes={LARGE}&length=1"):
        said = await curl(
            version, "--output", str(into), "--write-out", "%{http_code}",
            f"{base}/download?{query}",
        )  # fmt: skip
        assert said == "200"
        assert digest(into.read_bytes()) == UPLOADED["sha256"]


async def test_curl_reuses_its_connection(base: str, daemons: Daemons) -> None:
    urls = [f"{base}/number/{number}" for number in range(5)]
    said = await curl("--write-out", " %{num_connects}\n", *urls)
    assert said.splitlines() == ["0 1", "1 0", "2 0", "3 0", "4 0"]


async def test_curl_takes_compressed_bodies(base: str, daemons: Daemons) -> None:
    into = daemons.folder / "packed"
    await curl("--output", str(into), f"{base}/packed")
    assert into.read_bytes() == PACKED
    assert (await curl("--compressed", f"{base}/packed")).startswith("line 0 of a text")


@pytest.fixture
async def forward(spawn: Spawn, collector: Collector) -> SidecarProcess:
    return await spawn(
        {
            "service": {"name": "caller"},
            "outbound": [{"mode": "forward-proxy"}],
            "export": [exporter(collector.endpoint)],
        }
    )


async def test_curl_through_a_forward_proxy(
    forward: SidecarProcess, origin: Origin, upload: Path, collector: Collector
) -> None:
    proxy = ("--proxy", f"http://127.0.0.1:{forward.outbound[0]}")
    there = f"http://localhost:{origin.port}"
    assert await curl(*proxy, f"{there}/number/7") == "7"
    answer = await curl(*proxy, "--upload-file", str(upload), f"{there}/upload")
    assert json.loads(answer) == UPLOADED
    seen = origin.seen[0]
    assert seen["Host"] == f"localhost:{origin.port}"
    assert "Proxy-Connection" not in seen
    spans = await collector.wait_for(2)
    assert [values(span)["url.full"] for span in spans] == [
        f"{there}/number/7",
        f"{there}/upload",
    ]


class Secure(NamedTuple):
    """An nginx that speaks TLS, as ``localhost``."""

    port: int
    ca: str


@pytest.fixture
async def secure(daemons: Daemons) -> Secure:
    authority = trustme.CA()
    ca, server = daemons.folder / "ca.pem", daemons.folder / "server.pem"
    authority.cert_pem.write_to_path(str(ca))
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(server))
    port = daemons.port()
    await start_nginx(
        daemons,
        f"listen 127.0.0.1:{port} ssl http2; "
        f"ssl_certificate {server}; ssl_certificate_key {server}; "
        "location / { return 200 '$scheme $server_protocol'; }",
    )
    return Secure(port, str(ca))


async def test_curl_to_a_tls_server_through_connect(
    forward: SidecarProcess, secure: Secure, collector: Collector
) -> None:
    proxy = ("--proxy", f"http://127.0.0.1:{forward.outbound[0]}")
    url = f"https://localhost:{secure.port}/"
    assert await curl(*proxy, "--cacert", secure.ca, "--http1.1", url) == "https HTTP/1.1"
    (span,) = await collector.wait_for(1)
    assert span.name == "CONNECT"
    assert values(span)["server.address"] == "localhost"
    assert values(span)["server.port"] == secure.port


@pytest.mark.parametrize(
    ("version", "expected"), [("--http1.1", "https HTTP/1.1"), ("--http2", "https HTTP/2.0")]
)
async def test_tls_passes_unread(
    inbound: Sidecar, secure: Secure, version: str, expected: str
) -> None:
    sidecar = await inbound(secure.port)
    url = f"https://localhost:{sidecar.inbound[0]}/"
    assert await curl("--ipv4", "--cacert", secure.ca, version, url) == expected


async def test_http_2_passes_unread(daemons: Daemons, inbound: Sidecar) -> None:
    port = daemons.port()
    await start_nginx(
        daemons,
        f"listen 127.0.0.1:{port} http2; location / {{ return 200 $server_protocol; }}",
    )
    url = f"http://127.0.0.1:{(await inbound(port)).inbound[0]}/"
    assert await curl("--http2-prior-knowledge", url) == "HTTP/2.0"


async def test_curl_is_told_when_nobody_is_there(forward: SidecarProcess, daemons: Daemons) -> None:
    proxy = ("--proxy", f"http://127.0.0.1:{forward.outbound[0]}")
    there = f"http://127.0.0.1:{daemons.port()}/"
    said = await run(program("curl"), "--silent", *proxy, "--write-out", "%{http_code}", there)
    assert said.endswith("502")


# Others


async def test_node(base: str) -> None:
    said = await run(program("node"), str(CLIENTS / "client.mjs"), base)
    assert json.loads(said) == {
        "getsAtOnce": True,
        "upload": True,
        "uploadInPieces": True,
        "packed": True,
        "keptSockets": 1,
        "continued": True,
        "afterAbort": 200,
    }


async def test_java(base: str) -> None:
    """Its default is to offer every server an upgrade to HTTP/2 first."""
    said = await run(program("java"), str(CLIENTS / "Client.java"), base)
    expected = {
        "version": "HTTP_1_1",
        "getsAtOnce": "true",
        "upload": "true",
        "chunked": "true",
        "continued": "true",
        "download": str(8 * 2**20),
    }
    assert dict(line.split() for line in said.splitlines()) == {
        f"{prefix}.{name}": value
        for prefix in ("default", "http1")
        for name, value in expected.items()
    }


async def test_wrk(daemons: Daemons, inbound: Sidecar) -> None:
    """A burst over many connections without one error."""
    nginx = await start_nginx(daemons, "location / { return 200 ok; }")
    sidecar = await inbound(nginx.port)
    url = f"http://127.0.0.1:{sidecar.inbound[0]}/"
    said = await run(program("wrk"), "-t1", "-c64", "-d3s", "--timeout", "5s", url)
    assert "Socket errors" not in said, said
    assert "Non-2xx" not in said, said
    done = re.search(r"(\d+) requests in", said)
    assert done is not None
    assert int(done[1]) > 1000
