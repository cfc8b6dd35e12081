"""Answers that the proxy gives itself: short, and saying what happened."""

from __future__ import annotations

from http import HTTPStatus


def reply(status: int, message: str, *, close: bool, head_only: bool = False) -> bytes:
    """A whole response; ``head_only`` for an answer to HEAD."""
    body = f"meshproxy: {message}\n".encode()
    lines = [
        f"HTTP/1.1 {status} {_phrase(status)}",
        "Content-Type: text/plain; charset=utf-8",
        f"Content-Length: {len(body)}",
    ]
    if close:
        lines.append("Connection: close")
    head = "\r\n".join((*lines, "", "")).encode()
    return head if head_only else head + body


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"
