"""One event loop, aiohttp on both sides with its pool of connections: ``aio SETTINGS``."""

from __future__ import annotations

import asyncio
import secrets
import sys
from collections.abc import AsyncIterator, Coroutine
from random import SystemRandom

import aiohttp
from aiohttp import web

from loadtest.linking.live.services.behaviour import (
    CALL_NONCE,
    ITEMS,
    NO_REQUEST,
    SERVICE_HEADERS,
    Call,
    Message,
    Request,
    Stage,
    background_message,
    choose_echo,
    item_of,
    message,
    plan,
    request_of,
)
from loadtest.linking.live.services.settings import Settings, Truth


class Service:
    """The handler, its background task, and what both call with."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._truth = Truth(settings.truth)
        self._random = SystemRandom()
        self._tasks: set[asyncio.Task[None]] = set()
        self._session: aiohttp.ClientSession

    async def run(self, _app: web.Application) -> AsyncIterator[None]:
        """Have a session while the application runs."""
        async with aiohttp.ClientSession() as self._session:
            if self._settings.background > 0:
                self._spawn(self._background(1 / self._settings.background))
            yield

    async def handle(self, received: web.Request) -> web.Response:
        headers = {n: received.headers[n] for n in SERVICE_HEADERS if n in received.headers}
        request = request_of(received.path_qs, headers, await received.read())
        answer = ""
        for stage in plan(request.behaviour, self._random):
            if stage.late:
                self._spawn(self._finish(request, stage))
            else:
                answer = await self._stage(request, stage, answer)
        return web.json_response({"item": item_of(received.path_qs)})

    async def _finish(self, request: Request, stage: Stage) -> None:
        await self._stage(request, stage, "")

    async def _stage(self, request: Request, stage: Stage, answer: str) -> str:
        await asyncio.sleep(stage.think)
        behaviour = "late" if stage.late else request.behaviour
        calls = [self._call(request, behaviour, call, answer) for call in stage.calls]
        return (await asyncio.gather(*calls))[-1]

    async def _call(self, request: Request, behaviour: str, call: Call, answer: str) -> str:
        echo = choose_echo(request, self._settings.echo, answer, self._random)
        item = self._random.randrange(ITEMS)
        sent = message(call.destination, request, echo, answer, item)
        for _ in range(call.attempts):
            nonce = secrets.token_hex(8)
            self._truth.tell(behaviour, echo, request.nonce, nonce)
            status, found = await self._send(call.destination, sent, nonce)
            if status < 500:
                return str(found.get("id", answer))
        return answer

    async def _send(
        self, destination: str, sent: Message, nonce: str
    ) -> tuple[int, dict[str, object]]:
        url = f"http://127.0.0.1:{self._settings.destinations[destination]}{sent.path}"
        headers = {**sent.headers, CALL_NONCE: nonce}
        async with self._session.request(
            sent.method, url, data=sent.body, headers=headers
        ) as response:
            return response.status, await response.json()

    async def _background(self, interval: float) -> None:
        turn = 0
        while True:
            await asyncio.sleep(interval)
            destination = ("flags", "stock")[turn % 2]
            turn += 1
            nonce = secrets.token_hex(8)
            self._truth.tell("background", "none", NO_REQUEST, nonce)
            sent = background_message(destination, self._random.randrange(ITEMS))
            await self._send(destination, sent, nonce)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def main(path: str) -> None:
    settings = Settings.read(path)
    service = Service(settings)
    app = web.Application()
    app.cleanup_ctx.append(service.run)
    app.router.add_route("*", "/{path:.*}", service.handle)
    web.run_app(app, host="127.0.0.1", port=settings.port, access_log=None, print=None)


if __name__ == "__main__":
    main(*sys.argv[1:])
