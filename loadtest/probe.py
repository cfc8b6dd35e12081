"""Asks a local port whether somebody listens there, and what it has to say."""

from __future__ import annotations

import http.client
import socket

from loadtest.processes import NotReadyError


def get(port: int, path: str, seconds: float = 5.0) -> bytes:
    """The body of the answer to a GET.

    Raises OSError or `http.client.HTTPException` when there is none within ``seconds``, and
    `NotReadyError` when its status is not 200.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=seconds)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
    finally:
        connection.close()
    if answer.status != http.client.OK:
        raise NotReadyError(f"{path} was answered with {answer.status}")
    return body


def answer_to(port: int, path: str) -> bytes | None:
    """The same; None when there is none, or its status is not 200."""
    try:
        return get(port, path)
    except (OSError, http.client.HTTPException, NotReadyError):
        return None


def listens(port: int) -> bool:
    """Whether a connection is accepted."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
