"""However the network cuts the bytes, what comes out is the same."""

from __future__ import annotations

import asyncio
from itertools import pairwise

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.support.fixtures import Through
from tests.support.raw import App, Peer

REQUESTS = (
    b"\r\nGET /a HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n"
    b"POST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\nGET / HTTP/"
    b"PUT /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"a;x=y\r\n0123456789\r\n1\r\n\r\r\n0\r\nT: u\r\n\r\n"
    b"HEAD /d HTTP/1.1\r\nHost: a\r\n\r\n"
)
RESPONSES = (
    b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n\r\n0\r\n0\r\nT: u\r\n\r\n",
    b"HTTP/1.1 204 No Content\r\nX: y\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n",
)
SENT = REQUESTS.removeprefix(b"\r\n")


def pieces(whole: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(cuts), len(whole)]
    return [whole[a:b] for a, b in pairwise(places) if a < b]


async def send_in_pieces(peer: Peer, parts: list[bytes]) -> None:
    for part in parts:
        await peer.send(part)
        await asyncio.sleep(0)


CUTS = st.lists(st.integers(1, len(REQUESTS) - 1), max_size=12)


@given(CUTS, st.lists(st.lists(st.integers(1, 60), max_size=6), min_size=4, max_size=4))
@settings(
    max_examples=30,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # a failure waits: shrinking takes ages
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
async def test_any_split_gives_what_the_whole_gives(
    outbound: Through, app: App, cuts: list[int], answer_cuts: list[list[int]]
) -> None:
    proxy = await outbound()
    client = await proxy.client()
    await send_in_pieces(client, pieces(REQUESTS, cuts))
    ends = [SENT.index(mark) for mark in (b"POST /b", b"PUT /c", b"HEAD /d")] + [len(SENT)]
    begin = 0
    upstream = await app.accept()
    for end, response, where in zip(ends, RESPONSES, answer_cuts, strict=True):
        await upstream.expect(SENT[begin:end])
        await send_in_pieces(upstream, pieces(response, [at for at in where if at < len(response)]))
        begin = end
    await client.expect(b"".join(RESPONSES))
    client.reset()
    await proxy.left()
    await upstream.close()
