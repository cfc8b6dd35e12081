"""Streams one body: ``bulk_client up|down PORT BYTES`` prints how many bytes arrived.

Up is a POST in chunks of 64 KiB; the number is the receiver's. Down is a GET.
"""

from __future__ import annotations

import socket
import sys

CHUNK = 64 * 1024
FRAME = b"%x\r\n%b\r\n" % (CHUNK, bytes(CHUNK))
POST = b"POST /up HTTP/1.1\r\nHost: bulk\r\nTransfer-Encoding: chunked\r\n\r\n"
STALL_SECONDS = 30.0
"""A stream that stands still for so long has failed."""


def connect(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port))
    connection.settimeout(STALL_SECONDS)
    return connection


def read_head(connection: socket.socket) -> tuple[int, bytes]:
    """The announced length of the body, and the part of it that came with the head."""
    data = b""
    while b"\r\n\r\n" not in data:
        received = connection.recv(CHUNK)
        if not received:
            sys.exit(f"the connection ended in the head: {data!r}")
        data += received
    head, _, rest = data.partition(b"\r\n\r\n")
    length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
    if not head.startswith(b"HTTP/1.1 200") or not length:
        sys.exit(f"an unexpected answer: {head!r}")
    return int(length), rest


def down(port: int, size: int) -> int:
    """Fetch a body of `size` bytes; return how many came."""
    with connect(port) as connection:
        connection.sendall(b"GET /down/%d HTTP/1.1\r\nHost: bulk\r\n\r\n" % size)
        length, rest = read_head(connection)
        received = len(rest)
        buffer = bytearray(1 << 20)
        while received < length:
            count = connection.recv_into(buffer)
            if not count:
                break
            received += count
        return received


def up(port: int, size: int) -> int:
    """Send a chunked body of `size` bytes; return how many the receiver counted."""
    with connect(port) as connection:
        connection.sendall(POST)
        whole, rest = divmod(size, CHUNK)
        for _ in range(whole):
            connection.sendall(FRAME)
        last = b"%x\r\n%b\r\n" % (rest, bytes(rest)) if rest else b""
        connection.sendall(last + b"0\r\n\r\n")
        length, body = read_head(connection)
        while len(body) < length:
            received = connection.recv(CHUNK)
            if not received:
                break
            body += received
        return int(body)


if __name__ == "__main__":
    direction = {"up": up, "down": down}[sys.argv[1]]
    sys.stdout.write(str(direction(int(sys.argv[2]), int(sys.argv[3]))))
