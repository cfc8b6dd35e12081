"""Opening a connection to an upstream, with a time limit and failures that have names."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import os
import socket
import ssl
from collections.abc import Callable
from typing import TypeVar, cast

from meshproxy.filter import Failure
from meshproxy.transport.runtime import Host, Runtime, plain_host

P = TypeVar("P")


class ConnectError(Exception):
    """No connection could be opened; ``failure`` says why."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.failure = Failure(kind, message)


async def open_connection(
    runtime: Runtime,
    factory: Callable[[], P],
    destination: Host,
    tls: ssl.SSLContext | None,
    server_name: str | None,
    timeout: float,
) -> tuple[asyncio.Transport, P]:
    """Connect to a name or an address; raises `ConnectError`."""
    where = f"{destination[0]}:{destination[1]}"
    try:
        async with asyncio.timeout(timeout):
            sock = await _socket_to(runtime, destination)
            return await _attach(runtime, factory, sock, tls, server_name or destination[0])
    except TimeoutError:
        raise ConnectError(
            "connect_timeout", f"{where} did not accept a connection within {timeout:g} s."
        ) from None
    except socket.gaierror as error:
        raise ConnectError(
            "name_resolution", f"{destination[0]} does not resolve: {error.strerror}."
        ) from None
    except UnicodeError:
        raise ConnectError(
            "name_resolution", f"{destination[0]} does not resolve: it cannot be a name."
        ) from None
    except ConnectionRefusedError:
        raise ConnectError("connect_refused", f"{where} refused the connection.") from None
    except ssl.SSLCertVerificationError as error:
        why = error.verify_message.rstrip(".")
        raise ConnectError("tls", f"{where} has a certificate that fails: {why}.") from None
    except ssl.SSLError as error:
        raise ConnectError("tls", f"TLS with {where} failed: {error.reason or error}.") from None
    except OSError as error:
        text = error.strerror or str(error) or type(error).__name__
        raise ConnectError("connect_error", f"{where} cannot be reached: {text}.") from None


async def _attach(
    runtime: Runtime,
    factory: Callable[[], P],
    sock: socket.socket,
    tls: ssl.SSLContext | None,
    server_name: str,
) -> tuple[asyncio.Transport, P]:
    own = plain_host(sock.getsockname())
    try:
        transport, protocol = await runtime.loop.create_connection(
            cast(Callable[[], asyncio.BaseProtocol], factory),
            sock=sock,
            ssl=tls,
            server_hostname=server_name if tls else None,
        )
        return transport, cast(P, protocol)
    except BaseException:
        runtime.own_sockets.discard(own)
        sock.close()
        raise


async def _socket_to(runtime: Runtime, destination: Host) -> socket.socket:
    """A connected socket to the first address that answers."""
    failure: OSError | None = None
    for family, address in await _addresses(runtime.loop, destination):
        try:
            return await _connect(runtime, family, address)
        except OSError as error:
            failure = failure or error
    raise failure or OSError(errno.EHOSTUNREACH, "no address")


async def _addresses(
    loop: asyncio.AbstractEventLoop, destination: Host
) -> list[tuple[int, tuple[str, int]]]:
    host, port = destination
    try:
        version = ipaddress.ip_address(host).version
    except ValueError:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return [(family, (str(to[0]), int(to[1]))) for family, _, _, _, to in found]
    return [(socket.AF_INET if version == 4 else socket.AF_INET6, (host, port))]


async def _connect(runtime: Runtime, family: int, address: tuple[str, int]) -> socket.socket:
    """Connect without blocking, and say at once that the socket is ours.

    Redirection may lead this very connection back to us; it must be known as ours before it is
    accepted.
    """
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    own: Host | None = None
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        code = sock.connect_ex(address)
        own = plain_host(sock.getsockname())
        runtime.own_sockets.add(own)
        if code == errno.EINPROGRESS:
            await _writable(runtime.loop, sock)
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code))
    except BaseException:
        if own is not None:
            runtime.own_sockets.discard(own)
        sock.close()
        raise
    return sock


async def _writable(loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:
    ready: asyncio.Future[None] = loop.create_future()
    descriptor = sock.fileno()

    def wake() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_writer(descriptor, wake)
    try:
        await ready
    finally:
        loop.remove_writer(descriptor)
