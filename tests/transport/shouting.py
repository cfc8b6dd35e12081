"""A protocol of the tests' own: frames of four bytes of length and a text, answered one by one.

`Shouting` puts what the client says into upper case. A text that begins with ``work`` takes a
thread, ``server N HOST:PORT`` is answered with the address at which the client finds that server,
without asking the upstream, and ``echo`` is answered likewise. After ``bits N`` it has N things to
do for which nobody waits; ``strange`` is something to notice.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar

import pytest

from meshproxy.filter import Conversation, Environment, Filter, Passage, Places, Work
from meshproxy.sidecar import app as sidecar_app
from tests.support.fixtures import Start
from tests.support.inprocess import InProcess
from tests.support.raw import App, Peer


def frame(text: bytes) -> bytes:
    """A text as it is sent."""
    return struct.pack("!I", len(text)) + text


async def say(peer: Peer, *texts: bytes) -> None:
    """Send each text as a frame."""
    await peer.send(b"".join(map(frame, texts)))


async def heard(peer: Peer, *texts: bytes) -> None:
    """These frames are what comes next."""
    await peer.expect(b"".join(map(frame, texts)))


async def answer(peer: Peer) -> bytes:
    """The text of the next frame."""
    (size,) = struct.unpack("!I", await peer.read(4))
    return await peer.read(size)


class Frames:
    """Takes frames apart that came in any pieces."""

    def __init__(self) -> None:
        self.rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The texts of the frames that are complete."""
        data = self.rest + data
        texts = []
        at = 0
        while len(data) - at >= 4:
            (size,) = struct.unpack_from("!I", data, at)
            if len(data) - at - 4 < size:
                break
            texts.append(data[at + 4 : at + 4 + size])
            at += 4 + size
        self.rest = data[at:]
        return texts


class Slow(Work):
    """Work that lasts until the test lets it go on."""

    def __init__(self, gate: threading.Event, text: bytes) -> None:
        self._gate = gate
        self._text = text
        self.result = b"failed"

    def run(self) -> None:
        assert threading.current_thread() is not threading.main_thread()
        assert self._gate.wait(10)
        if self._text == b"work fails":
            raise ValueError("cannot be done")
        self.result = self._text.upper()


class Shout(Conversation):
    """One connection."""

    def __init__(self, passage: Passage, places: Places, speaker: Shouting) -> None:
        super().__init__(passage)
        self.places = places
        self.speaker = speaker
        self.client = Frames()
        self.upstream = Frames()
        self.waiting: list[bytes] = []
        self.unanswered = 0
        self.bits = 0
        self.calls: list[str] = []

    def _step(self, name: str) -> None:
        if self.speaker.fails == name:
            raise RuntimeError("no such luck")

    @property
    def quiet(self) -> bool:
        self._step("quiet")
        return not self.unanswered and not self.client.rest and not self.waiting

    def from_client(self, data: bytes, now_ns: int) -> None:
        self._step("from_client")
        assert now_ns >= self.passage.start_ns
        self.waiting += self.client.feed(data)
        self._go_on()

    def _go_on(self) -> None:
        while self.waiting and self.work is None:
            text = self.waiting.pop(0)
            if text.startswith(b"work"):
                self.work = self._result = Slow(self.speaker.gate, text)
            else:
                self._hear(text)

    def _hear(self, text: bytes) -> None:
        if text == b"echo":
            self.to_client.append(frame(self.speaker.word))
        elif text.startswith(b"server "):
            _, server, where = text.decode().split()
            host, _, port = where.rpartition(":")
            self.to_client.append(frame(self._place(int(server), (host, int(port)))))
        else:
            if text.startswith(b"bits "):
                self.bits = int(text[5:])
            if text == b"strange":
                self.notices.append(("something strange", "test", "It was said."))
            self._pass(text.upper())

    def _pass(self, text: bytes) -> None:
        self.unanswered += 1
        self.to_upstream += [frame(text)[:4], text]

    def _place(self, server: int, destination: tuple[str, int]) -> bytes:
        try:
            return ":".join(map(str, self.places.local(server, destination))).encode()
        except OSError as error:
            return str(error).encode()

    def resume(self, now_ns: int) -> None:
        self._step("resume")
        assert self.work is None
        self._pass(self._result.result)
        self._go_on()

    def from_upstream(self, data: bytes, now_ns: int) -> None:
        self._step("from_upstream")
        answers = self.upstream.feed(data)
        self.unanswered -= len(answers)
        self.to_client.append(data)

    def passed(self, now_ns: int) -> None:
        self._step("passed")
        assert not self.to_client
        assert not self.to_upstream
        self.bits = max(0, self.bits - 1)
        self.more = self.bits > 0

    def client_ended(self, now_ns: int) -> None:
        self._step("client_ended")
        self.calls.append("client_ended")
        if self.client.rest == b"work":
            self.work = self._result = Slow(self.speaker.gate, b"work")
        elif self.client.rest:
            self.to_upstream.append(self.client.rest)

    def upstream_ended(self, now_ns: int) -> None:
        self._step("upstream_ended")
        self.calls.append("upstream_ended")

    def renew(self, speaker: Filter) -> None:
        self._step("renew")
        assert isinstance(speaker, Shouting)
        self.speaker = speaker

    def close(self, now_ns: int) -> None:
        assert now_ns == self.passage.end_ns
        self.calls.append("close")
        self._step("close")


class Shouting(Filter):
    """Speaks it in place of Kafka, so that a configuration can name it."""

    name = "shouting"
    protocol = "kafka"
    made: ClassVar[list[Shouting]] = []
    word: ClassVar[bytes] = b"echo"

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self.gate = threading.Event()
        self.gate.set()
        self.conversations: list[Shout] = []
        self.ticks = 0
        self.fails = ""
        self.made.append(self)

    def converse(self, passage: Passage, places: Places) -> Conversation:
        if self.fails == "converse":
            raise RuntimeError("no such luck")
        self.conversations.append(Shout(passage, places, self))
        return self.conversations[-1]

    def on_open(self, passage: Passage) -> object:
        raise AssertionError("a conversation is no connection that passes unread")

    def on_tick(self, now_ns: int) -> None:
        self.ticks += 1
        if self.fails == "on_tick":
            raise RuntimeError("no such luck")


class Talk:
    """A sidecar with one listener for this protocol, in front of ``app``."""

    def __init__(self, proxy: InProcess, speaker: type[Shouting]) -> None:
        self.proxy = proxy
        self._speaker = speaker

    @property
    def filter(self) -> Shouting:
        """The filter as it was made last."""
        return self._speaker.made[-1]

    @property
    def conversation(self) -> Shout:
        """The conversation that began last."""
        return [each for made in self._speaker.made for each in made.conversations][-1]


Begin = Callable[..., Awaitable[Talk]]


@pytest.fixture
async def talk(start: Start, app: App, monkeypatch: pytest.MonkeyPatch) -> Begin:
    """Start such a sidecar: ``await talk()``; arguments are limits and keys of the listener.

    ``inbound`` is the upstream of a listener for HTTP in front of the service.
    """

    async def begin(
        limits: dict[str, Any] | None = None, inbound: str | None = None, **listener: Any
    ) -> Talk:
        speaker = type("ShoutingHere", (Shouting,), {"made": []})
        monkeypatch.setattr(sidecar_app, "load_filters", lambda environment: [speaker(environment)])
        route = {"upstream": f"127.0.0.1:{app.port}", "protocol": "kafka"} | listener
        config: dict[str, Any] = {"outbound": [route], "limits": limits or {}}
        if inbound is not None:
            config["inbound"] = [{"upstream": inbound, "protocol": "http"}]
        return Talk(await start(config), speaker)

    return begin
