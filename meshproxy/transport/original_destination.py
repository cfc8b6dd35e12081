"""Where a redirected connection was going before netfilter turned it towards us."""

from __future__ import annotations

import errno
import ipaddress
import socket
import struct

SOL_IP = 0
SOL_IPV6 = 41
SO_ORIGINAL_DST = 80
"""linux/netfilter_ipv4.h; IP6T_SO_ORIGINAL_DST has the same number."""


def original_destination(sock: socket.socket) -> tuple[str, int] | None:
    """(address, port) that the client connected to; None when nothing was redirected.

    A v4-mapped address on a dual-stack socket is given as IPv4. Needs no capability.
    """
    if sock.family == socket.AF_INET or _mapped(sock):
        return _ask(sock, SOL_IP, 16, "!2xH4s", socket.AF_INET)
    return _ask(sock, SOL_IPV6, 28, "!2xHI16s", socket.AF_INET6)


def _mapped(sock: socket.socket) -> bool:
    address = ipaddress.ip_address(sock.getsockname()[0].partition("%")[0])
    return isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None


def _ask(
    sock: socket.socket, level: int, size: int, layout: str, family: int
) -> tuple[str, int] | None:
    try:
        raw = sock.getsockopt(level, SO_ORIGINAL_DST, size)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOPROTOOPT, errno.EOPNOTSUPP):
            return None
        raise
    fields = struct.unpack_from(layout, raw)
    return socket.inet_ntop(family, fields[-1]), fields[0]
