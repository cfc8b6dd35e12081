"""Calls by ``http.client``, for the services that block; standard library only."""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from random import SystemRandom
from typing import Protocol

from loadtest.linking.live.services.behaviour import (
    CALL_NONCE,
    ITEMS,
    NO_REQUEST,
    Call,
    Message,
    Request,
    Stage,
    background_message,
    choose_echo,
    message,
    plan,
)
from loadtest.linking.live.services.settings import Settings, Truth

TIMEOUT = 10.0
HELPERS = 96
"""Threads for calls that go out at the same time, and for those after the answer."""

CLOSE = {"connection": "close"}


class Connections(Protocol):
    """Where a call gets its connection from, and leaves it."""

    def take(self, destination: str) -> HTTPConnection: ...

    def give(self, destination: str, connection: HTTPConnection) -> None: ...


class PerThread:
    """Every thread keeps a connection of its own to each destination."""

    def __init__(self, ports: dict[str, int]) -> None:
        self._ports = ports
        self._local = threading.local()

    def take(self, destination: str) -> HTTPConnection:
        kept: dict[str, HTTPConnection] = self._local.__dict__
        if destination not in kept:
            kept[destination] = _connection(self._ports[destination])
        return kept[destination]

    def give(self, destination: str, connection: HTTPConnection) -> None:
        """It is kept anyway."""


class Shared:
    """All threads share one pool, last in first out."""

    def __init__(self, ports: dict[str, int]) -> None:
        self._ports = ports
        self._idle: dict[str, list[HTTPConnection]] = {name: [] for name in ports}

    def take(self, destination: str) -> HTTPConnection:
        try:
            return self._idle[destination].pop()
        except IndexError:
            return _connection(self._ports[destination])

    def give(self, destination: str, connection: HTTPConnection) -> None:
        self._idle[destination].append(connection)


class Fresh:
    """A connection for each call."""

    def __init__(self, ports: dict[str, int]) -> None:
        self._ports = ports

    def take(self, destination: str) -> HTTPConnection:
        return _connection(self._ports[destination])

    def give(self, destination: str, connection: HTTPConnection) -> None:
        connection.close()


def _connection(port: int) -> HTTPConnection:
    return HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)


class Work:
    """Does what requests ask for. One for each process."""

    def __init__(
        self, settings: Settings, connections: type[PerThread | Shared | Fresh] = PerThread
    ) -> None:
        self._settings = settings
        self._truth = Truth(settings.truth)
        self._connections: Connections = connections(dict(settings.destinations))
        self._headers = CLOSE if connections is Fresh else {}
        self._random = SystemRandom()
        self._helpers = ThreadPoolExecutor(HELPERS)

    def answer(self, request: Request) -> list[Stage]:
        """Make the calls of a request; returns the stages that come after its answer."""
        answer = ""
        late = []
        for stage in plan(request.behaviour, self._random):
            if stage.late:
                late.append(stage)
            else:
                answer = self._stage(request, stage, answer)
        return late

    def finish(self, request: Request, late: Sequence[Stage]) -> None:
        """Make the calls that come after the answer, in this thread."""
        for stage in late:
            self._stage(request, stage, "")

    def finish_elsewhere(self, request: Request, late: Sequence[Stage]) -> None:
        """Have another thread make the calls that come after the answer."""
        if late:
            self._helpers.submit(self.finish, request, late)

    def start_background(self, share: float = 1.0) -> None:
        """Make this process's ``share`` of the calls that no request causes."""
        rate = self._settings.background * share
        if rate > 0:
            threading.Thread(target=self._background, args=(1 / rate,), daemon=True).start()

    def _stage(self, request: Request, stage: Stage, answer: str) -> str:
        time.sleep(stage.think)
        behaviour = "late" if stage.late else request.behaviour
        if len(stage.calls) == 1:
            return self._call(request, behaviour, stage.calls[0], answer)
        waiting = [
            self._helpers.submit(self._call, request, behaviour, call, answer)
            for call in stage.calls
        ]
        return [each.result() for each in waiting][-1]

    def _call(self, request: Request, behaviour: str, call: Call, answer: str) -> str:
        """Send a call until it works; returns the id in its answer, or else ``answer``."""
        echo = choose_echo(request, self._settings.echo, answer, self._random)
        item = self._random.randrange(ITEMS)
        sent = message(call.destination, request, echo, answer, item)
        for _ in range(call.attempts):
            nonce = secrets.token_hex(8)
            self._truth.tell(behaviour, echo, request.nonce, nonce)
            status, body = self._send(call.destination, sent, nonce)
            if status < 500:
                return str(json.loads(body).get("id", answer))
        return answer

    def _send(self, destination: str, sent: Message, nonce: str) -> tuple[int, bytes]:
        connection = self._connections.take(destination)
        headers = {**sent.headers, CALL_NONCE: nonce, **self._headers}
        try:
            connection.request(sent.method, sent.path, sent.body, headers)
            response = connection.getresponse()
            body = response.read()
        except BaseException:
            connection.close()
            raise
        self._connections.give(destination, connection)
        return response.status, body

    def _background(self, interval: float) -> None:
        time.sleep(interval * self._random.random())
        turn = 0
        while True:
            destination = ("flags", "stock")[turn % 2]
            turn += 1
            nonce = secrets.token_hex(8)
            self._truth.tell("background", "none", NO_REQUEST, nonce)
            sent = background_message(destination, self._random.randrange(ITEMS))
            self._send(destination, sent, nonce)
            time.sleep(interval)
