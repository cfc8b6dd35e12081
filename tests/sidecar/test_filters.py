"""Tracing never breaks traffic: a filter that raises is counted, and the message passes."""

from __future__ import annotations

import pytest

from meshproxy.filter import Environment, Exchange, Filter, Passage
from tests.support.fixtures import Start
from tests.support.raw import App

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Raises(Filter):
    """Changes what it sees, and then raises where ``at`` says."""

    name = "raises"
    at = ""
    ended = 0

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        type(self).ended = 0

    def _raise(self, where: str) -> None:
        if where == self.at:
            raise RuntimeError("no such luck")

    def on_request(self, exchange: Exchange) -> object:
        exchange.request.added.append(b"X-Half: done")
        exchange.request.drop(b"x-keep")
        self._raise("on_request")
        return "state"

    def on_response(self, exchange: Exchange, state: object) -> None:
        assert state == "state"
        self._raise("on_response")

    def on_end(self, exchange: Exchange, state: object) -> None:
        assert state == "state"
        type(self).ended += 1
        self._raise("on_end")

    def on_open(self, passage: Passage) -> object:
        self._raise("on_open")
        return "state"

    def on_close(self, passage: Passage, state: object) -> None:
        type(self).ended += 1
        self._raise("on_close")


class Adds(Filter):
    """A filter beside it, which works."""

    name = "adds"

    def on_request(self, exchange: Exchange) -> object:
        exchange.request.added.append(b"X-Added: yes")
        return None


def raising(where: str) -> type[Raises]:
    return type("RaisesHere", (Raises,), {"at": where})


@pytest.mark.parametrize(
    ("where", "sent", "ended"),
    [
        ("on_request", b"X-Keep: 1\r\nX-Added: yes\r\n", 0),
        ("on_response", b"X-Half: done\r\nX-Added: yes\r\n", 0),
        ("on_end", b"X-Half: done\r\nX-Added: yes\r\n", 1),
    ],
)
async def test_a_message_passes_without_the_filter_that_raised(
    where: str, sent: bytes, ended: int, start: Start, app: App
) -> None:
    raises = raising(where)
    proxy = await start(
        {"outbound": [{"upstream": f"127.0.0.1:{app.port}"}]}, filters=[raises, Adds]
    )
    client = await proxy.client()
    await client.send(b"GET / HTTP/1.1\r\nHost: a\r\nX-Keep: 1\r\n\r\n")
    upstream = await app.accept()
    await upstream.expect(b"GET / HTTP/1.1\r\nHost: a\r\n" + sent + b"\r\n")
    await upstream.send(OK)
    await client.expect(OK)
    assert raises.ended == ended
    assert await proxy.metric("meshproxy_filter_errors_total", filter="raises") == 1


@pytest.mark.parametrize(("where", "ended"), [("on_open", 0), ("on_close", 1)])
async def test_a_connection_passes_without_the_filter_that_raised(
    where: str, ended: int, start: Start, app: App
) -> None:
    raises = raising(where)
    proxy = await start({"outbound": [{"upstream": f"127.0.0.1:{app.port}"}]}, filters=[raises])
    client = await proxy.client()
    await client.send(b"\x00ask")
    upstream = await app.accept()
    await upstream.expect(b"\x00ask")
    await upstream.close()
    assert await client.ended()
    await client.close()
    await proxy.left()
    assert raises.ended == ended
    assert await proxy.metric("meshproxy_filter_errors_total", filter="raises") == 1
