"""TLS at both ends: terminated in front of the service, originated behind it."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme
from websockets.asyncio.client import connect as websocket
from websockets.asyncio.server import ServerConnection, serve

from tests.support.fixtures import Start
from tests.support.inprocess import InProcess, attributes
from tests.support.raw import PATIENCE, App, Peer

GET = b"GET / HTTP/1.1\r\nHost: cart.example\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

Json = dict[str, Any]


class Pki:
    """An authority, and files of certificates that it has issued."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(exist_ok=True)
        self.authority = trustme.CA()
        self.ca = str(directory / "ca.pem")
        self.authority.cert_pem.write_to_path(self.ca)

    def issue(self, name: str, file: str = "") -> Json:
        """Files of a certificate for ``name``: ``cert`` and ``key``."""
        leaf = self.authority.issue_cert(name)
        stem = self.directory / (file or name)
        cert, key = stem.with_suffix(".crt"), stem.with_suffix(".key")
        for path, pems in ((key, [leaf.private_key_pem]), (cert, leaf.cert_chain_pems)):
            path.write_bytes(b"".join(pem.bytes() for pem in pems))
        return {"cert": str(cert), "key": str(key)}

    def server(self, name: str, *, clients: bool = False, alpn: str = "http/1.1") -> ssl.SSLContext:
        """How a server called ``name`` speaks; ``clients`` must then show a certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(**_chain(self.issue(name, f"server-{name}")))
        context.set_alpn_protocols([alpn])
        if clients:
            context.verify_mode = ssl.CERT_REQUIRED
            self.authority.configure_trust(context)
        return context

    def client(self, files: Json | None = None) -> ssl.SSLContext:
        """How a client speaks that trusts the authority; ``files`` is its own certificate."""
        context = ssl.create_default_context(cafile=self.ca)
        context.set_alpn_protocols(["h2", "http/1.1"])
        if files is not None:
            context.load_cert_chain(**_chain(files))
        return context


def _chain(files: Json) -> Json:
    return {"certfile": files["cert"], "keyfile": files["key"]}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture
async def secure() -> Any:
    """An upstream server that speaks TLS: ``await secure(context)``."""
    running: list[App] = []

    async def begin(context: ssl.SSLContext) -> App:
        running.append(await App().start(tls=context))
        return running[-1]

    yield begin
    for app in running:
        await app.stop()


def terminating(app: App, files: Json, **more: Any) -> Json:
    return {"inbound": [{"upstream": f"127.0.0.1:{app.port}", "tls": files | more}]}


def originating(app: App, **tls: Any) -> Json:
    return {"outbound": [{"upstream": f"localhost:{app.port}", "peer": "pay", "upstream_tls": tls}]}


async def exchange(client: Peer, upstream: Peer) -> bytes:
    """One request and its answer; returns the head as the upstream saw it."""
    await client.send(GET)
    head = await upstream.head()
    await upstream.send(OK)
    assert (await client.answer())[2] == b"ok"
    return head


def object_of(peer: Peer) -> ssl.SSLObject:
    """What is known of the TLS of a connection."""
    found: ssl.SSLObject = peer._writer.get_extra_info("ssl_object")
    return found


def serial_of(peer: Peer) -> str:
    """The serial number of the certificate that the other side has shown."""
    certificate = object_of(peer).getpeercert()
    assert certificate is not None
    return str(certificate["serialNumber"])


class TestTermination:
    async def test_requests_are_decrypted_and_traced_as_https(
        self, start: Start, app: App, authority: Pki
    ) -> None:
        sidecar = await start(terminating(app, authority.issue("cart.example")))
        client = await sidecar.client(tls=authority.client(), name="cart.example")
        assert object_of(client).selected_alpn_protocol() == "http/1.1"
        await client.send(GET)
        upstream = await app.accept()
        head = await upstream.head()
        assert b"X-Forwarded-Proto: https\r\n" in head
        await upstream.send(OK)
        await client.answer()
        first = await sidecar.span()
        assert attributes(first)["url.scheme"] == "https"
        assert attributes(first)["server.port"] == 443
        await exchange(client, upstream)  # kept alive, both of them
        assert app.accepted == 1

    async def test_a_client_must_show_a_certificate_if_that_is_asked_for(
        self, start: Start, app: App, authority: Pki
    ) -> None:
        files = authority.issue("cart.example")
        sidecar = await start(terminating(app, files, client_ca=authority.ca))
        stranger = await sidecar.client(tls=authority.client(), name="cart.example")
        assert await answer_or_end(stranger) == b""
        known = authority.client(authority.issue("caller.example"))
        client = await sidecar.client(tls=known, name="cart.example")
        await client.send(GET)
        upstream = await app.accept()
        await upstream.head()
        await upstream.send(OK)
        assert (await client.answer())[0] == 200
        assert app.accepted == 1

    async def test_a_stranger_s_certificate_is_not_enough(
        self, start: Start, app: App, authority: Pki, tmp_path: Path
    ) -> None:
        files = authority.issue("cart.example")
        sidecar = await start(terminating(app, files, client_ca=authority.ca))
        other = Pki(tmp_path / "other")
        context = authority.client(other.issue("caller.example"))
        stranger = await sidecar.client(tls=context, name="cart.example")
        assert await answer_or_end(stranger) == b""
        assert app.accepted == 0

    async def test_plain_http_to_a_tls_port_ends_cleanly(
        self, start: Start, app: App, authority: Pki
    ) -> None:
        sidecar = await start(terminating(app, authority.issue("cart.example")))
        client = await sidecar.client()
        await client.send(GET)
        assert b"HTTP/1.1 200" not in await client.rest()
        served = await sidecar.client(tls=authority.client(), name="cart.example")
        await served.send(GET)
        upstream = await app.accept()
        await upstream.head()
        await upstream.send(OK)
        assert (await served.answer())[0] == 200

    async def test_a_client_that_never_shakes_hands_is_cut(
        self, start: Start, app: App, authority: Pki
    ) -> None:
        config = terminating(app, authority.issue("cart.example"))
        sidecar = await start(config | {"limits": {"header_timeout": "200ms"}})
        client = await sidecar.client()
        await client.send(b"\x16\x03\x01")
        assert await client.rest() == b""

    async def test_a_half_closed_client_does_not_hang(
        self, start: Start, app: App, authority: Pki
    ) -> None:
        sidecar = await start(terminating(app, authority.issue("cart.example")))
        client = await sidecar.client(tls=authority.client(), name="cart.example")
        await client.send(GET)
        upstream = await app.accept()
        await upstream.head()
        await client.close()
        await sidecar.left()
        assert await upstream.rest() == b""

    async def test_opaque_bytes_end_with_the_side_that_ends(
        self, start: Start, app: App, authority: Pki
    ) -> None:
        config = terminating(app, authority.issue("cart.example"))
        config["inbound"][0]["protocol"] = "opaque"
        sidecar = await start(config)
        client = await sidecar.client(tls=authority.client(), name="cart.example")
        upstream = await app.accept()
        await upstream.send(b"hello")
        await client.expect(b"hello")
        await client.send(b"bye")
        await upstream.expect(b"bye")
        upstream.half_close()  # TLS here cannot end one way alone
        assert await client.ended()
        await upstream.close()


async def answer_or_end(peer: Peer) -> bytes:
    """What comes back for a request; nothing if the connection ends, in whatever way."""
    try:
        await peer.send(GET)
        return await peer.rest()
    except (ssl.SSLError, ConnectionError):
        return b""


class TestOrigination:
    async def test_requests_are_encrypted(
        self, start: Start, authority: Pki, secure: Callable[..., Any]
    ) -> None:
        app = await secure(authority.server("localhost"))
        sidecar = await start(originating(app, ca=authority.ca))
        client = await sidecar.client()
        await client.send(GET)
        upstream = await app.accept()
        assert object_of(upstream).selected_alpn_protocol() == "http/1.1"
        await upstream.head()
        await upstream.send(OK)
        assert (await client.answer())[0] == 200
        assert attributes(await sidecar.span())["url.full"].startswith("https://")
        await exchange(client, upstream)
        assert app.accepted == 1

    async def test_another_name_is_asked_for_and_verified(
        self, start: Start, authority: Pki, secure: Callable[..., Any]
    ) -> None:
        asked: list[str | None] = []
        context = authority.server("pay.example")
        context.sni_callback = lambda _, name, __: asked.append(name)
        app = await secure(context)
        sidecar = await start(originating(app, ca=authority.ca, server_name="pay.example"))
        client = await sidecar.client()
        await client.send(GET)
        await exchange_with(app, client)
        assert asked == ["pay.example"]

    @pytest.mark.parametrize(
        ("name", "trusted", "why"),
        [
            ("pay.example", True, b"mismatch"),
            ("localhost", False, b"certificate that fails"),
        ],
        ids=["name", "authority"],
    )
    async def test_a_wrong_certificate_is_a_502_that_says_so(
        self,
        start: Start,
        authority: Pki,
        secure: Callable[..., Any],
        tmp_path: Path,
        name: str,
        trusted: bool,
        why: bytes,
    ) -> None:
        app = await secure(authority.server(name))
        ca = authority.ca if trusted else Pki(tmp_path / "other").ca
        sidecar = await start(originating(app, ca=ca))
        client = await sidecar.client()
        await client.send(GET)
        status, _, body = await client.answer()
        assert status == 502
        assert b"localhost:%d" % app.port in body
        assert why.lower() in body.lower()
        span = await sidecar.span()
        assert attributes(span)["error.type"] == "tls"
        assert span.events[0].name == "exception"
        assert (await sidecar.get("/metrics"))[1].count('kind="tls"') == 1

    async def test_a_wrong_certificate_is_accepted_if_verification_is_off(
        self, start: Start, authority: Pki, secure: Callable[..., Any]
    ) -> None:
        app = await secure(authority.server("pay.example"))
        sidecar = await start(originating(app, verify=False))
        client = await sidecar.client()
        await client.send(GET)
        await exchange_with(app, client)

    async def test_the_client_s_certificate_is_shown(
        self, start: Start, authority: Pki, secure: Callable[..., Any]
    ) -> None:
        app = await secure(authority.server("localhost", clients=True))
        own = authority.issue("cart.example")
        sidecar = await start(originating(app, ca=authority.ca, **own))
        client = await sidecar.client()
        await client.send(GET)
        upstream = await app.accept()
        shown = object_of(upstream).getpeercert()
        assert shown is not None
        assert ("DNS", "cart.example") in shown["subjectAltName"]
        await upstream.head()
        await upstream.send(OK)
        assert (await client.answer())[0] == 200

    async def test_a_server_that_misses_a_certificate_costs_a_502(
        self, start: Start, authority: Pki, secure: Callable[..., Any]
    ) -> None:
        app = await secure(authority.server("localhost", clients=True))
        sidecar = await start(originating(app, ca=authority.ca))
        client = await sidecar.client()
        await client.send(GET)
        assert (await client.answer())[0] == 502

    async def test_a_server_that_speaks_no_tls_costs_a_502(self, start: Start, app: App) -> None:
        sidecar = await start(originating(app, verify=False))
        client = await sidecar.client()
        await client.send(GET)
        upstream = await app.accept()
        await upstream.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        status, _, body = await client.answer()
        assert status == 502
        assert b"TLS" in body
        assert attributes(await sidecar.span())["error.type"] == "tls"

    async def test_a_server_that_never_shakes_hands_costs_a_504(
        self, start: Start, app: App
    ) -> None:
        config = originating(app, verify=False) | {"limits": {"connect_timeout": "200ms"}}
        sidecar = await start(config)
        client = await sidecar.client()
        await client.send(GET)
        assert (await client.answer())[0] == 504
        assert attributes(await sidecar.span())["error.type"] == "connect_timeout"


async def exchange_with(app: App, client: Peer) -> None:
    """Answer a request that is on its way."""
    upstream = await app.accept()
    await upstream.head()
    await upstream.send(OK)
    assert (await client.answer())[0] == 200


class TestBodies:
    """Through TLS on both sides."""

    @pytest.fixture
    async def both(
        self, start: Start, authority: Pki, secure: Callable[..., Any]
    ) -> tuple[InProcess, App, ssl.SSLContext]:
        app = await secure(authority.server("localhost"))
        inbound = {
            "upstream": f"localhost:{app.port}",
            "tls": authority.issue("cart.example"),
            "upstream_tls": {"ca": authority.ca},
        }
        return await start({"inbound": [inbound]}), app, authority.client()

    async def test_arrive_whole(self, both: tuple[InProcess, App, ssl.SSLContext]) -> None:
        sidecar, app, context = both
        client = await sidecar.client(tls=context, name="cart.example")
        body = os.urandom(300_000)
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 300000\r\n\r\n")
        upstream = await app.accept()
        await upstream.head()
        _, received = await asyncio.gather(client.send(body), upstream.read(len(body)))
        assert received == body
        await upstream.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        chunked = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        head = await client.head()
        assert b"chunked" in head
        _, received = await asyncio.gather(upstream.send(chunked), client.read(len(chunked)))
        assert received == chunked

    async def test_wait_for_a_slow_reader(
        self, both: tuple[InProcess, App, ssl.SSLContext]
    ) -> None:
        sidecar, app, context = both
        client = await sidecar.client(tls=context, name="cart.example", slow=True)
        await client.send(GET)
        upstream = await app.accept()
        await upstream.head()
        size = 2**26
        await upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        sent = await upstream.flood(size)
        assert sent < size / 2  # the rest waits where it comes from
        await client.head()
        await client.read(sent // 2)
        client.reset()

    async def test_wait_for_a_slow_server(
        self, both: tuple[InProcess, App, ssl.SSLContext]
    ) -> None:
        sidecar, app, context = both
        client = await sidecar.client(tls=context, name="cart.example")
        size = 2**26
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size)
        upstream = await app.accept()
        await upstream.head()
        upstream._reader._transport.pause_reading()  # type: ignore[attr-defined]
        assert await client.flood(size) < size / 2
        client.reset()


async def test_a_websocket_passes_through_tls_on_both_sides(start: Start, authority: Pki) -> None:
    async def echo(connection: ServerConnection) -> None:
        async for message in connection:
            await connection.send(message)

    async with serve(echo, "127.0.0.1", 0, ssl=authority.server("localhost")) as server:
        port = server.sockets[0].getsockname()[1]
        inbound = {
            "upstream": f"localhost:{port}",
            "tls": authority.issue("cart.example"),
            "upstream_tls": {"ca": authority.ca},
        }
        sidecar = await start({"inbound": [inbound]})
        async with (
            asyncio.timeout(PATIENCE),
            websocket(
                f"wss://127.0.0.1:{sidecar.inbound[0]}/chat",
                ssl=authority.client(),
                server_hostname="cart.example",
            ) as client,
        ):
            for message in ("hello", "x" * 200_000):
                await client.send(message)
                assert await client.recv() == message
        assert attributes(await sidecar.span())["http.response.status_code"] == 101
