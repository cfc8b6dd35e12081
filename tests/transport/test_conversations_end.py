"""Conversations over reloads and at the end of the sidecar: nobody is cut in mid-word."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import yaml

from meshproxy.filter import Environment, Filter
from meshproxy.sidecar import app as sidecar_app
from meshproxy.transport import connect
from tests.support.fixtures import Start
from tests.support.raw import PATIENCE, App, Peer
from tests.transport.shouting import Begin, Talk, answer, heard, say


async def joined(through: Talk, app: App) -> tuple[Peer, Peer]:
    """A client and its upstream; nothing is under way."""
    client = await through.proxy.client()
    upstream = await app.accept()
    await say(client, b"hello")
    await heard(upstream, b"HELLO")
    await say(upstream, b"hi")
    await heard(client, b"hi")
    return client, upstream


async def port_of(client: Peer, app: App) -> int:
    await say(client, f"server 1 127.0.0.1:{app.port}".encode())
    return int((await answer(client)).rpartition(b":")[2])


async def reload(through: Talk, **listener: Any) -> None:
    """Read the file again, with other keys of the listener, or without it: ``listen=None``."""
    path = through.proxy._path
    config = yaml.safe_load(path.read_text())
    (route,) = config["outbound"]
    if listener.get("listen", "") is None:
        config["outbound"] = [{"mode": "forward-proxy", "listen": "127.0.0.1:0"}]
    else:
        config["outbound"] = [route | listener]
    path.write_text(yaml.safe_dump(config))
    await through.proxy.sidecar.reload()


class TestReload:
    async def test_connections_and_ports_stay(self, talk: Begin, app: App) -> None:
        through = await talk()
        client, upstream = await joined(through, app)
        port = await port_of(client, app)
        before = through.filter
        await reload(through, kafka={"consumer_spans": True})
        after = through.filter
        assert after is not before
        assert through.conversation.speaker is after
        await say(client, b"more")
        await heard(upstream, b"MORE")
        assert await port_of(client, app) == port
        other = await through.proxy.client(port)
        await say(other, b"new")
        await heard(await app.accept(), b"NEW")
        (conversation,) = after.conversations
        for each in (*before.conversations, conversation):
            assert each.passage.scope.kafka is not None
            assert each.passage.scope.kafka.consumer_spans

    async def test_also_of_a_connection_that_is_about_to_begin(
        self, talk: Begin, app: App, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        found = connect._addresses
        connecting, go_on = asyncio.Event(), asyncio.Event()

        async def resolve(*arguments: Any) -> Any:
            connecting.set()
            await go_on.wait()
            return await found(*arguments)

        monkeypatch.setattr(connect, "_addresses", resolve)
        through = await talk()
        client = await through.proxy.client()
        await connecting.wait()
        await reload(through, kafka={"consumer_spans": True})
        go_on.set()
        await say(client, b"hello")
        await heard(await app.accept(), b"HELLO")
        conversation = through.conversation
        assert conversation.speaker is through.filter
        assert conversation.passage.scope.kafka is not None
        assert conversation.passage.scope.kafka.consumer_spans

    async def test_one_that_cannot_be_renewed_is_cut(self, talk: Begin, app: App) -> None:
        through = await talk()
        client, _ = await joined(through, app)
        through.filter.fails = "renew"
        await reload(through, kafka={"consumer_spans": True})
        assert not await client.ended()

    @pytest.mark.parametrize("gone", [True, False])
    async def test_with_another_upstream_they_end_when_nothing_is_under_way(
        self, gone: bool, talk: Begin, app: App
    ) -> None:
        other = await App().start()
        through = await talk({"header_timeout": "200ms"})  # so that it ticks quickly
        idle, _ = await joined(through, app)
        port = await port_of(idle, app)
        busy, upstream = await joined(through, app)
        await say(busy, b"wait")
        await heard(upstream, b"WAIT")
        await reload(
            through, **{"listen": None} if gone else {"upstream": f"127.0.0.1:{other.port}"}
        )
        assert await idle.ended()
        with pytest.raises(ConnectionRefusedError):
            await through.proxy.client(port)
        await say(upstream, b"answer")
        await heard(busy, b"answer")
        assert await busy.ended()
        assert await upstream.ended()
        if not gone:
            client, _ = await joined(through, other)
            assert await port_of(client, app) == port
        await other.stop()

    async def test_without_the_filter_it_is_refused(
        self, talk: Begin, app: App, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        through = await talk()
        client, upstream = await joined(through, app)
        monkeypatch.setattr(sidecar_app, "load_filters", lambda _: [])
        await reload(through)
        name = "meshproxy_config_reloads_total"
        assert await through.proxy.metric(name, result="failed") == 1
        await say(client, b"more")
        await heard(upstream, b"MORE")

    async def test_filters_find_again_what_they_kept(
        self, start: Start, app: App, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Keeps(Filter):
            name = "keeps"
            found: list[object] = []  # noqa: RUF012

            def __init__(self, environment: Environment) -> None:
                super().__init__(environment)
                self.found.append(environment.kept.setdefault("keeps", object()))

        monkeypatch.setattr(sidecar_app, "load_filters", lambda environment: [Keeps(environment)])
        proxy = await start({"outbound": [{"upstream": f"127.0.0.1:{app.port}"}]})
        await proxy.sidecar.reload()
        one, other = Keeps.found
        assert one is other


class TestDrain:
    async def test_who_is_quiet_leaves_at_once(self, talk: Begin, app: App) -> None:
        through = await talk({"drain": "1m"})
        client, upstream = await joined(through, app)
        through.proxy.sidecar.request_stop()
        assert await client.ended()
        assert await upstream.ended()
        await stopped(through)
        assert through.conversation.passage.failure is None

    async def test_who_waits_for_an_answer_leaves_with_it(self, talk: Begin, app: App) -> None:
        through = await talk({"drain": "1m"})
        client, upstream = await joined(through, app)
        await say(client, b"poll")
        await heard(upstream, b"POLL")
        through.proxy.sidecar.request_stop()
        await draining(through)
        await say(client, b"and one more", b"echo")
        await heard(client, b"echo")
        await heard(upstream, b"AND ONE MORE")
        await say(upstream, b"first")
        await heard(client, b"first")
        await say(upstream, b"last")
        await heard(client, b"last")
        assert await client.ended()
        await stopped(through)

    async def test_work_is_waited_for(self, talk: Begin, app: App) -> None:
        through = await talk({"drain": "1m"})
        client, upstream = await joined(through, app)
        through.filter.gate.clear()
        await say(client, b"work")
        while not through.conversation.work:
            await asyncio.sleep(0)
        through.proxy.sidecar.request_stop()
        await draining(through)
        through.filter.gate.set()
        await heard(upstream, b"WORK")
        await say(upstream, b"done")
        await heard(client, b"done")
        await stopped(through)

    async def test_calls_of_a_request_in_flight_may_still_be_made(
        self, start: Start, app: App, talk: Begin
    ) -> None:
        service = await App().start()
        through = await talk({"drain": "1m"}, inbound=f"127.0.0.1:{service.port}")
        caller = await through.proxy.client(through.proxy.inbound[0])
        await caller.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        served = await service.accept()
        await served.head()
        client, upstream = await joined(through, app)
        through.proxy.sidecar.request_stop()
        await draining(through)
        await say(client, b"more")
        await heard(upstream, b"MORE")
        await say(upstream, b"hi")
        await heard(client, b"hi")
        await joined(through, app)  # also on a new connection
        await served.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        assert (await caller.answer())[0] == 200
        assert await client.ended()
        await stopped(through)
        await service.stop()

    async def test_the_limit_cuts(self, talk: Begin, app: App) -> None:
        through = await talk({"drain": "100ms"})
        client, upstream = await joined(through, app)
        await say(client, b"poll")
        await heard(upstream, b"POLL")
        through.proxy.sidecar.request_stop()
        await client.rest()
        await stopped(through)

    async def test_one_that_cannot_say_whether_it_is_quiet_is_cut(
        self, talk: Begin, app: App
    ) -> None:
        through = await talk({"drain": "1m"})
        client, _ = await joined(through, app)
        through.filter.fails = "quiet"
        through.proxy.sidecar.request_stop()
        assert not await client.ended()
        await stopped(through)


async def draining(through: Talk) -> None:
    async with asyncio.timeout(PATIENCE):
        while through.proxy.sidecar.state != "draining":
            await asyncio.sleep(0)


async def stopped(through: Talk) -> None:
    async with asyncio.timeout(PATIENCE):
        while through.proxy.sidecar.state != "stopped":
            await asyncio.sleep(0.01)
