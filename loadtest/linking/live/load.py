"""The clients: a closed loop with so many requests in flight, or Poisson arrivals at a rate."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

from loadtest.linking.live.services.behaviour import INBOUND_NONCE, ITEMS

ANSWER_SECONDS = 15.0
POSTED = 0.3
HEAD_LIMIT = 1 << 16
UUIDS = 0.5


@dataclass(frozen=True, slots=True)
class Load:
    """What is asked of a service. Either ``in_flight`` or ``rate`` (requests a second) is 0."""

    behaviours: Sequence[str]
    in_flight: int
    rate: float
    seconds: float
    requests: int
    """It ends after so many seconds or requests, whichever comes first."""


@dataclass(slots=True)
class Sent:
    """What the clients saw."""

    answered: int = 0
    failures: list[str] = field(default_factory=list)


class Users:
    """Tokens like JWTs. There are fewer users than requests in flight."""

    def __init__(self, count: int, rng: Random) -> None:
        self._rng = rng
        self._tokens = [_token(number) for number in range(count)]

    def authorization(self) -> str:
        return "Bearer " + self._rng.choice(self._tokens)


def _token(number: int) -> str:
    claims = {"sub": f"user-{number}", "iss": "rig", "key": secrets.token_hex(8)}
    parts = [b'{"alg":"HS256"}', json.dumps(claims).encode(), secrets.token_bytes(32)]
    return ".".join(urlsafe_b64encode(part).decode().rstrip("=") for part in parts)


def new_request(behaviour: str, users: Users, rng: Random) -> bytes:
    """A request with a new order and a nonce."""
    order = str(uuid.uuid4()) if rng.random() < UUIDS else f"ORD-{rng.randrange(10**11, 10**12)}"
    item = rng.randrange(ITEMS)
    if rng.random() < POSTED:
        line, body = f"POST /route/{behaviour}?item={item}", json.dumps({"order_id": order})
    else:
        line, body = f"GET /route/{behaviour}/orders/{order}?item={item}", ""
    lines = [
        f"{line} HTTP/1.1",
        "Host: shop",
        f"Authorization: {users.authorization()}",
        f"{INBOUND_NONCE}: {secrets.token_hex(8)}",
    ]
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()


class Client:
    """One connection, one request at a time; opened when it is needed."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._writer: asyncio.StreamWriter | None = None
        self._reader: asyncio.StreamReader

    async def ask(self, request: bytes) -> int:
        """Send a request; returns the status. Raises OSError and EOFError."""
        if self._writer is None:
            self._reader, self._writer = await asyncio.open_connection(
                "127.0.0.1", self._port, limit=HEAD_LIMIT
            )
        self._writer.write(request)
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
        await self._reader.readexactly(length)
        if b"connection: close" in head:
            self.close()
        return int(head.split(b" ", 2)[1])

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


class Generator:
    """Sends the requests of one load."""

    def __init__(self, port: int, load: Load, rng: Random) -> None:
        self._port = port
        self._load = load
        self._rng = rng
        self._users = Users(max(2, (load.in_flight or 16) // 2), rng)
        self._sent = Sent()
        self._begun = 0
        self._ends_at = time.monotonic() + load.seconds
        self._idle: list[Client] = []

    async def run(self) -> Sent:
        """Send everything, and wait for the answers."""
        if self._load.in_flight:
            await asyncio.gather(*(self._closed() for _ in range(self._load.in_flight)))
        else:
            await self._open()
        for client in self._idle:
            client.close()
        return self._sent

    @property
    def _goes_on(self) -> bool:
        return self._begun < self._load.requests and time.monotonic() < self._ends_at

    async def _closed(self) -> None:
        client = Client(self._port)
        while self._goes_on:
            await self._ask(client)
        self._idle.append(client)

    async def _open(self) -> None:
        async with asyncio.TaskGroup() as group:
            due = time.monotonic()
            while self._goes_on:
                due += self._rng.expovariate(self._load.rate)
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                group.create_task(self._ask_idle())

    async def _ask_idle(self) -> None:
        client = self._idle.pop() if self._idle else Client(self._port)
        await self._ask(client)
        self._idle.append(client)

    async def _ask(self, client: Client) -> None:
        self._begun += 1
        request = new_request(self._rng.choice(self._load.behaviours), self._users, self._rng)
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                status = await client.ask(request)
        except (OSError, EOFError, TimeoutError) as error:
            client.close()
            self._sent.failures.append(repr(error))
            return
        if status == 200:
            self._sent.answered += 1
        else:
            self._sent.failures.append(f"status {status}")
