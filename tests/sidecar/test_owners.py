"""Evidence from the processes and threads of real services, against the truth that they carry."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from tests.sidecar.owner_harness import Judged, Relay, Service

Run = Callable[..., Awaitable[Judged]]


@pytest.fixture
async def run() -> AsyncIterator[Run]:
    """``await run(kind, …)``: how the calls of such a service were judged under load."""
    relay = Relay()
    services: list[Service] = []

    async def under_load(
        kind: str,
        requests: int = 250,
        concurrency: int = 6,
        host: str = "127.0.0.1",
        pause: float = 0.0,
        **options: object,
    ) -> Judged:
        backend = await relay.start("::1" if host == "::1" else "127.0.0.1")
        services.append(Service(kind, backend, host=options.pop("listen", host), **options))
        return await relay.load(host, services[0].port, requests, concurrency, pause)

    yield under_load
    await relay.stop()
    for service in services:
        service.end()


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("prefork", {}),
        ("prefork", {"client": "own"}),
        ("prefork", {"host": "::1"}),
        ("prefork", {"listen": "::"}),
        ("prefork-close", {}),
        ("forks", {}),
    ],
    ids=["prefork", "pooled calls", "IPv6", "IPv4 on a dual-stack listener", "closing", "forks"],
)
async def test_each_process_has_one_request(
    run: Run, kind: str, options: dict[str, object]
) -> None:
    judged = await run(kind, **options)
    assert judged.wrong == 0
    assert judged.outcomes.total() > 200
    assert judged.recall >= (0.95 if kind == "forks" else 0.99)


@pytest.mark.parametrize(
    "options",
    [{}, {"client": "own"}, {"client": "shared", "timeout": 5}],
    ids=["new calls", "own connection", "shared connections with a time limit"],
)
async def test_each_thread_has_one_connection(run: Run, options: dict[str, object]) -> None:
    judged = await run("threads", requests=400, **options)
    assert judged.wrong == 0
    assert judged.recall >= 0.8  # 0.92 to 0.98 on a machine with nothing else to do


@pytest.mark.parametrize("kind", ["pool", "tasks"])
async def test_threads_behind_a_selector_tell_nothing(run: Run, kind: str) -> None:
    judged = await run(kind, workers=6)
    assert judged.wrong == 0
    assert judged.outcomes.total() > 200


@pytest.mark.parametrize("pause", [0.0, 0.06], ids=["they stay", "they leave"])
async def test_threads_that_stay_with_a_connection_for_a_while(run: Run, pause: float) -> None:
    judged = await run("loitering-pool", requests=300, pause=pause, workers=6)
    assert judged.wrong == 0


@pytest.mark.parametrize("kind", ["readers", "helpers"])
async def test_calls_that_others_make_for_a_request(run: Run, kind: str) -> None:
    judged = await run(kind, client="own")
    assert judged.wrong == 0
    assert judged.outcomes["nothing"] + judged.outcomes["narrowed"] > 200


async def test_a_connection_for_each_request_hides_the_threads(run: Run) -> None:
    judged = await run("threads", protocol="HTTP/1.0")
    assert judged.wrong == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may look at another user's processes")
async def test_another_users_service(run: Run) -> None:
    judged = await run("prefork", uid=12345)
    assert judged.wrong == 0
    assert judged.recall >= 0.99
