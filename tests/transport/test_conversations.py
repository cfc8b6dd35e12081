"""A filter that speaks a protocol holds the conversations in it; bytes go through it, in order."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from meshproxy.demo.processes import Ports
from meshproxy.sidecar.app import StartError
from tests.support.fixtures import Start
from tests.support.raw import App, Peer
from tests.transport.shouting import Begin, Shouting, Talk, answer, frame, heard, say
from tests.transport.test_tls import Pki

PIECE = 2**20
LARGE = 64 * PIECE
HELD = 24 * PIECE
"""More than all socket buffers on the way can hold; far below `LARGE`."""


async def joined(talk: Talk, app: App) -> tuple[Peer, Peer]:
    """A client and an upstream that have exchanged a frame."""
    client = await talk.proxy.client()
    upstream = await app.accept()
    await say(client, b"hello")
    await heard(upstream, b"HELLO")
    await say(upstream, b"hi")
    await heard(client, b"hi")
    return client, upstream


async def test_what_both_sides_say_goes_through_the_filter(talk: Begin, app: App) -> None:
    through = await talk()
    client, upstream = await joined(through, app)
    await client.close()
    await upstream.ended()
    await upstream.close()
    await through.proxy.left()
    conversation = through.conversation
    passage = conversation.passage
    assert (passage.sent, passage.received) == (len(frame(b"hello")), len(frame(b"hi")))
    assert passage.protocol == "kafka"
    assert passage.destination == ("127.0.0.1", app.port)
    assert passage.connected_to == ("127.0.0.1", app.port)
    assert passage.failure is None
    assert passage.socket is not None
    assert passage.socket.local == passage.client
    assert passage.socket.remote == ("127.0.0.1", through.proxy.outbound[0])
    assert conversation.calls == ["client_ended", "upstream_ended", "close"]
    assert await through.proxy.metric("meshproxy_connections_passed_total") == 0
    assert await through.proxy.metric("meshproxy_connections_accepted_total") == 1


async def test_frames_may_come_in_any_pieces(talk: Begin, app: App) -> None:
    client = await (await talk()).proxy.client()
    upstream = await app.accept()
    texts = [b"a", b"", b"some words", b"x" * 50]
    for byte in b"".join(map(frame, texts)):
        await client.send(bytes([byte]))
        await asyncio.sleep(0)
    await heard(upstream, *(text.upper() for text in texts))


async def test_a_filter_may_answer_by_itself(talk: Begin, app: App) -> None:
    client, upstream = await joined(await talk(), app)
    await say(client, b"echo", b"more")
    await heard(client, b"echo")
    await heard(upstream, b"MORE")


async def test_a_server_may_speak_first(talk: Begin, app: App) -> None:
    client = await (await talk()).proxy.client()
    await say(await app.accept(), b"welcome")
    await heard(client, b"welcome")


async def test_tls_to_the_upstream(talk: Begin, tmp_path: Path) -> None:
    pki = Pki(tmp_path)
    app = await App().start(tls=pki.server("localhost", alpn="kafka"))
    through = await talk(upstream=f"localhost:{app.port}", upstream_tls={"ca": pki.ca})
    client, upstream = await joined(through, app)
    await upstream.close()
    assert await client.ended()
    await client.close()
    await through.proxy.left()
    assert through.conversation.passage.failure is None
    await app.stop()


class TestEnds:
    @pytest.mark.parametrize("first", ["client", "upstream"])
    async def test_either_side_may_end_first(self, first: str, talk: Begin, app: App) -> None:
        client, upstream = await joined(await talk(), app)
        one, other = (client, upstream) if first == "client" else (upstream, client)
        await say(one, b"LAST")
        one.half_close()
        await heard(other, b"LAST")
        assert await other.ended()
        await say(other, b"STILL HERE")
        await heard(one, b"STILL HERE")
        other.half_close()
        assert await one.ended()

    async def test_what_is_held_back_goes_out_at_the_end(self, talk: Begin, app: App) -> None:
        client, upstream = await joined(await talk(), app)
        await client.send(b"\0\0\0\x09half")
        client.half_close()
        assert await upstream.rest() == b"\0\0\0\x09half"
        await upstream.close()

    async def test_an_end_right_after_the_first_bytes(self, talk: Begin, app: App) -> None:
        client = await (await talk()).proxy.client()
        await say(client, b"ask")
        client.half_close()
        upstream = await app.accept()
        await heard(upstream, b"ASK")
        assert await upstream.ended()
        await say(upstream, b"answer")
        await upstream.close()
        await heard(client, b"answer")
        assert await client.ended()

    async def test_an_own_answer_after_the_upstream_has_ended_harms_nobody(
        self, talk: Begin, app: App
    ) -> None:
        through = await talk()
        client, upstream = await joined(through, app)
        upstream.half_close()
        assert await client.ended()
        await say(client, b"echo", b"last")
        client.half_close()
        await heard(upstream, b"LAST")
        assert await upstream.ended()
        await through.proxy.left()
        assert through.conversation.passage.failure is None

    @pytest.mark.parametrize("side", ["client", "upstream"])
    async def test_a_reset_is_passed_on(self, side: str, talk: Begin, app: App) -> None:
        through = await talk()
        client, upstream = await joined(through, app)
        one, other = (client, upstream) if side == "client" else (upstream, client)
        one.reset()
        assert not await other.ended()
        await through.proxy.left()
        failure = through.conversation.passage.failure
        assert failure is not None
        assert failure.kind == "reset"
        assert through.conversation.calls[-1:] == ["close"]

    async def test_nobody_there(self, talk: Begin, ports: Ports) -> None:
        port = ports.take()
        through = await talk(upstream=f"127.0.0.1:{port}", peer="events")
        client = await through.proxy.client()
        assert not await client.ended()
        await through.proxy.left()
        name = "meshproxy_upstream_errors_total"
        assert await through.proxy.metric(name, kind="connect_refused", destination="events") == 1
        assert through.filter.conversations == []

    async def test_silence_is_cut_after_its_time(self, talk: Begin, app: App) -> None:
        through = await talk({"connection_idle": "200ms"})
        client, _ = await joined(through, app)
        await client.rest()
        await through.proxy.left()
        failure = through.conversation.passage.failure
        assert failure is not None
        assert failure.kind == "stream_timeout"

    async def test_an_end_at_any_moment_leaves_nothing_behind(self, talk: Begin) -> None:
        async def cut(peer: Peer) -> None:
            peer.reset()

        app = await App(cut).start()
        through = await talk(upstream=f"127.0.0.1:{app.port}")
        for turns in range(60):
            client = await through.proxy.client()
            await say(client, b"work")
            for _ in range(turns % 15):
                await asyncio.sleep(0)
            if turns % 2:
                client.reset()
            else:
                await client.ended()
        await through.proxy.left()
        ends = [each.calls.count("close") for each in through.filter.conversations]
        assert set(ends) <= {1}
        await app.stop()


class TestFlowControl:
    async def test_a_slow_client_stops_the_upstream(self, talk: Begin, app: App) -> None:
        client = await (await talk()).proxy.client(slow=True)
        upstream = await app.accept()
        sent = await upstream.flood(LARGE, frame(bytes(PIECE - 4)))
        assert sent < HELD
        feeding = asyncio.create_task(
            upstream.flood(LARGE - sent, frame(bytes(PIECE - 4)), stall=5)
        )
        for _ in range(LARGE // PIECE):
            await heard(client, bytes(PIECE - 4))
        assert sent + await feeding == LARGE

    async def test_a_slow_upstream_stops_the_client(self, talk: Begin) -> None:
        app = await App().start(slow=True)
        client = await (await talk(upstream=f"127.0.0.1:{app.port}")).proxy.client()
        upstream = await app.accept()
        sent = await client.flood(LARGE, frame(b"a" * (PIECE - 4)))
        assert sent < HELD
        feeding = asyncio.create_task(
            client.flood(LARGE - sent, frame(b"a" * (PIECE - 4)), stall=5)
        )
        for _ in range(LARGE // PIECE):
            await heard(upstream, b"A" * (PIECE - 4))
        assert sent + await feeding == LARGE
        await app.stop()

    async def test_a_client_that_never_reads_is_not_answered_without_end(
        self, talk: Begin, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Each ``echo`` is answered with more than was sent."""
        monkeypatch.setattr(Shouting, "word", bytes(4000))
        through = await talk()
        client = await through.proxy.client(slow=True)
        asks = frame(b"echo") * 512
        sent = await client.flood(32 * PIECE, asks)
        assert sent < 32 * PIECE
        asked = sent // len(frame(b"echo"))
        for _ in range(min(asked, 4000)):
            assert await answer(client) == bytes(4000)


class TestWork:
    async def test_what_comes_after_waits_for_it(self, talk: Begin, app: App) -> None:
        through = await talk()
        client, upstream = await joined(through, app)
        through.filter.gate.clear()
        await say(client, b"one", b"work two", b"three")
        await heard(upstream, b"ONE")
        await say(client, b"four", b"work five", b"work six", b"seven")
        await say(upstream, b"first")  # the other way is free meanwhile
        await heard(client, b"first")
        through.filter.gate.set()
        await heard(upstream, b"WORK TWO", b"THREE", b"FOUR", b"WORK FIVE", b"WORK SIX", b"SEVEN")

    async def test_nothing_is_read_from_the_client_meanwhile(self, talk: Begin, app: App) -> None:
        through = await talk()
        client, upstream = await joined(through, app)
        through.filter.gate.clear()
        await say(client, b"work")
        sent = await client.flood(LARGE, frame(b"a" * (PIECE - 4)))
        assert sent < HELD
        through.filter.gate.set()
        await heard(upstream, b"WORK")
        for _ in range(sent // PIECE):
            await heard(upstream, b"A" * (PIECE - 4))

    async def test_the_clients_end_waits_for_it(self, talk: Begin, app: App) -> None:
        through = await talk()
        client, upstream = await joined(through, app)
        through.filter.gate.clear()
        await say(client, b"work", b"last")
        client.half_close()
        await say(upstream, b"first")
        await heard(client, b"first")
        assert through.conversation.calls == []
        through.filter.gate.set()
        await heard(upstream, b"WORK", b"LAST")
        assert await upstream.ended()
        await upstream.close()

    async def test_the_clients_end_may_itself_cause_some(self, talk: Begin, app: App) -> None:
        through = await talk()
        client, upstream = await joined(through, app)
        through.filter.gate.clear()
        await client.send(b"work")  # no whole frame
        client.half_close()
        await say(upstream, b"first")
        await heard(client, b"first")
        through.filter.gate.set()
        await heard(upstream, b"WORK")
        assert await upstream.ended()
        await upstream.close()
        await through.proxy.left()
        assert through.conversation.calls == ["client_ended", "upstream_ended", "close"]

    async def test_work_that_fails_is_counted_and_the_connection_goes_on(
        self, talk: Begin, app: App
    ) -> None:
        through = await talk()
        client, upstream = await joined(through, app)
        await say(client, b"work fails", b"next")
        await heard(upstream, b"failed", b"NEXT")
        assert await errors(through) == 1

    async def test_of_many_connections_at_once(self, talk: Begin, app: App) -> None:
        through = await talk()
        through.filter.gate.clear()
        clients = [await through.proxy.client() for _ in range(5)]
        upstreams = [await app.accept() for _ in clients]
        for number, client in enumerate(clients):
            await say(client, b"work %d" % number)
        through.filter.gate.set()
        got = [await answer(upstream) for upstream in upstreams]
        assert sorted(got) == [b"WORK %d" % number for number in range(5)]

    @pytest.mark.parametrize("side", ["client", "upstream"])
    async def test_when_the_connection_is_gone_before_it_is_done(
        self, side: str, talk: Begin, app: App
    ) -> None:
        through = await talk()
        client, upstream = await joined(through, app)
        through.filter.gate.clear()
        await say(client, b"work")
        await say(upstream, b"x")
        await heard(client, b"x")
        if side == "client":  # not read from, so a reset is only seen by writing to it
            client.reset()
            await say(upstream, b"y")
        upstream.reset()
        await through.proxy.left()
        assert through.conversation.calls == ["close"]
        through.filter.gate.set()


class TestExceptions:
    """Out of a conversation they cut it: nobody knows what it still holds back."""

    @pytest.mark.parametrize(
        "step", ["from_client", "from_upstream", "passed", "resume", "client_ended"]
    )
    async def test_one_cuts_the_connection_and_is_counted(
        self, step: str, talk: Begin, app: App
    ) -> None:
        through = await talk()
        client, upstream = await joined(through, app)
        through.filter.fails = step
        await (say(upstream, b"x") if step == "from_upstream" else say(client, b"work"))
        if step == "client_ended":
            client.half_close()
            await heard(upstream, b"WORK")
        assert not await client.ended()
        assert not await upstream.ended()
        await through.proxy.left()
        assert await errors(through) == 1
        failure = through.conversation.passage.failure
        assert failure is not None
        assert failure.kind == "filter_error"
        assert through.conversation.calls == ["close"]

    async def test_one_where_a_conversation_should_begin(self, talk: Begin, app: App) -> None:
        through = await talk()
        through.filter.fails = "converse"
        client = await through.proxy.client()
        assert not await client.ended()
        await through.proxy.left()
        assert await errors(through) == 1

    async def test_one_at_its_end_changes_nothing(self, talk: Begin, app: App) -> None:
        through = await talk()
        client, upstream = await joined(through, app)
        through.filter.fails = "close"
        await upstream.close()
        assert await client.ended()
        await client.close()
        await through.proxy.left()
        assert await errors(through) == 1


async def errors(through: Talk) -> float:
    return await through.proxy.metric("meshproxy_filter_errors_total", filter="shouting")


async def test_filters_are_told_that_time_passes(talk: Begin) -> None:
    through = await talk({"connection_idle": "200ms"})  # so that it ticks quickly
    through.filter.fails = "on_tick"
    async with asyncio.timeout(5):
        while through.filter.ticks < 3:
            await asyncio.sleep(0.02)
    assert await errors(through) >= 3


async def test_without_a_filter_that_speaks_it_nothing_starts(start: Start, app: App) -> None:
    route: dict[str, Any] = {"upstream": f"127.0.0.1:{app.port}", "protocol": "kafka"}
    with pytest.raises(StartError, match=r"outbound\[0\].protocol: .* kafka is installed"):
        await start({"outbound": [route]}, filters=[])


async def test_what_nobody_waits_for_is_done_bit_by_bit(talk: Begin, app: App) -> None:
    through = await talk()
    client, upstream = await joined(through, app)
    await say(client, b"bits 1000000")
    await heard(upstream, b"BITS 1000000")
    other, answering = await joined(through, app)
    busy = through.filter.conversations[0]
    assert busy.bits  # while others had their turns
    await say(upstream, b"answer")
    busy.bits = 3
    await heard(client, b"answer")
    assert (busy.bits, busy.more) == (0, False)
    for peer in (client, upstream, other, answering):
        await peer.close()


async def test_what_it_has_not_done_is_left_when_the_connection_ends(talk: Begin, app: App) -> None:
    through = await talk()
    client, upstream = await joined(through, app)
    await say(client, b"bits 1000000000")
    await heard(upstream, b"BITS 1000000000")
    client.reset()
    await through.proxy.left()
    left = through.conversation.bits
    await joined(through, app)
    assert through.filter.conversations[0].bits == left > 0


async def test_what_it_notices_is_logged(
    talk: Begin, app: App, capsys: pytest.CaptureFixture[str]
) -> None:
    through = await talk()
    client, upstream = await joined(through, app)
    await say(client, b"strange")
    await heard(upstream, b"STRANGE")
    (line,) = [each for each in capsys.readouterr().err.splitlines() if "strange" in each]
    for fact in ("warning", "test", "It was said.", f"127.0.0.1:{app.port}"):
        assert fact in line
