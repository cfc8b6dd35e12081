"""The inode of a TCP socket by its addresses: netlink's sock_diag (sock_diag(7))."""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence
from functools import lru_cache

from meshproxy.linking.ownership import QUEUED, UNKNOWN
from meshproxy.linking.sockets import Host, Socket

NETLINK_SOCK_DIAG = 4
SOCK_DIAG_BY_FAMILY = 20
NLM_F_REQUEST = 1
INET_DIAG_NOCOOKIE = 0xFFFFFFFF

WAITING = frozenset({1, 3, 8, 12})
"""ESTABLISHED, SYN_RECV, CLOSE_WAIT, NEW_SYN_RECV (include/net/tcp_states.h): states in which a
socket without inode is one that was not accepted yet, not one that was closed."""

LISTEN = 10

BATCH = 32
"""Questions asked at once: all the answers must fit into the socket's buffer."""

_HEAD = struct.Struct("=IHHII")
_REQUEST = struct.Struct("=BBBBI")
_HOSTS = struct.Struct("!HH16s16s")
_TAIL = struct.pack("=III", 0, INET_DIAG_NOCOOKIE, INET_DIAG_NOCOOKIE)
_LENGTH = _HEAD.size + _REQUEST.size + _HOSTS.size + len(_TAIL)
_KIND = struct.Struct("=IHHI")
_ANSWER = struct.Struct("=17xB54xIIII")
"""nlmsghdr, then inet_diag_msg: idiag_state, idiag_rqueue, idiag_wqueue, idiag_uid, idiag_inode."""

_REMEMBERED = 2048


class SockDiag:
    """Asks for single sockets, never for lists. Needs no capability.

    Raises OSError where the kernel has no sock_diag, or it is forbidden.
    """

    def __init__(self) -> None:
        self._netlink = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, NETLINK_SOCK_DIAG
        )
        self._sequence = 0

    def close(self) -> None:
        """Close the netlink socket."""
        self._netlink.close()

    def look(self, sockets: Sequence[Socket]) -> list[tuple[int, int]]:
        """The inode of each socket, `QUEUED` or `UNKNOWN`, and the bytes that it has to read."""
        found: list[tuple[int, int]] = []
        for first in range(0, len(sockets), BATCH):
            found += self._ask(sockets[first : first + BATCH])
        return found

    def _ask(self, sockets: Sequence[Socket]) -> list[tuple[int, int]]:
        found = [(UNKNOWN, 0)] * len(sockets)
        base = self._sequence = self._sequence + BATCH & 0x7FFFFFFF
        questions = []
        for position, each in enumerate(sockets):
            body = _question(each.local, each.remote)
            if body:
                questions.append(
                    _HEAD.pack(_LENGTH, SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST, base + position, 0)
                    + body
                )
        if not questions:
            return found
        self._netlink.sendto(b"".join(questions), (0, 0))
        # The kernel has answered when sendto returns: nothing is waited for.
        missing = len(questions)
        while missing:
            answer = self._netlink.recv(4096)
            _, kind, _, sequence = _KIND.unpack_from(answer)
            if 0 <= sequence - base < len(sockets):
                missing -= 1
                if kind == SOCK_DIAG_BY_FAMILY and len(answer) >= _ANSWER.size:
                    found[sequence - base] = _reading(answer)
        return found


@lru_cache(_REMEMBERED)
def _question(local: Host, remote: Host) -> bytes:
    """inet_diag_req_v2 (linux/inet_diag.h); empty for what is not a numeric address."""
    family = socket.AF_INET6 if ":" in local[0] else socket.AF_INET
    try:
        source = socket.inet_pton(family, local[0].partition("%")[0])
        target = socket.inet_pton(family, remote[0].partition("%")[0])
    except OSError:
        return b""
    return (
        _REQUEST.pack(family, socket.IPPROTO_TCP, 0, 0, INET_DIAG_NOCOOKIE)
        + _HOSTS.pack(local[1], remote[1], source, target)
        + _TAIL
    )


def _reading(answer: bytes) -> tuple[int, int]:
    state, unread, _, _, inode = _ANSWER.unpack_from(answer)
    if state == LISTEN:  # there is no such connection: the kernel falls back on the listener
        return UNKNOWN, 0
    if not inode:
        inode = QUEUED if state in WAITING else UNKNOWN
    return inode, unread
