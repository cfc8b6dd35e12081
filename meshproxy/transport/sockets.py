"""Listening sockets, made before a server runs on them, so that they can outlive one; resets."""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
from collections.abc import Sequence

BACKLOG = 4096
"""Connections that may wait to be accepted, as Linux allows by default (net.core.somaxconn, which
bounds it). One that finds no room is tried again after a second."""


def listening_sockets(host: str, port: int) -> list[socket.socket]:
    """A socket for each address that ``host`` stands for; raises OSError.

    ``::`` takes IPv4 connections as well, unless somebody listens there already.
    """
    sockets: list[socket.socket] = []
    try:
        for family, _, _, _, address in socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        ):
            sockets.append(_listening(family, address))
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def sockets_beside(others: Sequence[socket.socket], port: int) -> list[socket.socket]:
    """Listening sockets at the addresses of ``others``, all on one port; raises OSError.

    0 stands for any port that is free at the first address.
    """
    sockets: list[socket.socket] = []
    try:
        for other in others:
            host, _, *scope = other.getsockname()
            six = other.family == socket.AF_INET6
            v6_only = six and bool(other.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY))
            sockets.append(_bound(other.family, (host, port, *scope), v6_only))
            port = sockets[0].getsockname()[1]
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def reset(transport: asyncio.Transport) -> None:
    """Cut a connection so that the other side cannot take it for a proper end."""
    sock = transport.get_extra_info("socket")
    if sock is not None and not transport.is_closing():
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


def _listening(family: int, address: tuple[object, ...]) -> socket.socket:
    if family == socket.AF_INET6 and address[0] == "::":
        try:
            return _bound(family, address, v6_only=False)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
    return _bound(family, address, v6_only=True)


def _bound(family: int, address: tuple[object, ...], v6_only: bool) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, v6_only)
        sock.bind(address)
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock
