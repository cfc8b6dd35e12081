"""A service whose requests and calls carry words: what the evidence from content gets to see."""

from __future__ import annotations

from meshproxy.linking.content import WARM_UP, WEAK_AT_MOST, Content, Judgement
from meshproxy.linking.inflight import Cause, InFlight
from meshproxy.linking.tokens import Tokens
from meshproxy.trace.context import SpanContext

KEY = b"0123456789abcdef"
NOW_NS = 1_760_000_000_000_000_000
SURE = 0.99
UUID = b"7f3d9a52-1c4e-4b8a-9f00-2a6c1d3e5b77"


def read(text: bytes, *, user: bool = False, cut: bool = False) -> list[int]:
    return Tokens(KEY).read(text, NOW_NS, user=user, cut=cut)


def uuid(number: int) -> bytes:
    return b"%08x-1c4e-4b8a-9f00-2a6c1d3e5b77" % number


class Service:
    """A service with its requests in flight, awake and warm."""

    def __init__(self, limit: int = 100_000, warm: bool = True) -> None:
        self.inflight = InFlight()
        self.content = Content(KEY, limit)
        self.content.need(NOW_NS)
        self._count = 0
        if warm:
            for number in range(WARM_UP):
                self.end(self.request(uuid(0xFFFF0000 + number)))

    def request(self, text: bytes = b"", *, user: bytes = b"", whole: bool = True) -> Cause:
        cause = self.unread()
        tokens = read(user, user=True) + read(text)
        self.content.begin(cause, tokens, whole=whole)
        return cause

    def unread(self) -> Cause:
        """A request that nobody told the content of."""
        self._count += 1
        span = SpanContext(self._count.to_bytes(16, "big"), self._count.to_bytes(8, "big"))
        cause = Cause(span, "GET /", self._count)
        self.inflight.add(cause)
        return cause

    def answer(self, cause: Cause, text: bytes) -> None:
        self.content.hold(cause, read(text))

    def answer_perhaps(self, candidates: list[Cause], text: bytes) -> None:
        self.content.hold_perhaps(candidates, read(text))

    def end(self, cause: Cause) -> None:
        self.inflight.remove(cause)
        self.content.release(cause)

    def judge(self, text: bytes) -> Judgement | None:
        return self.content.judge(read(text), self.inflight)

    def sure(self, text: bytes) -> Cause | None:
        """The one cause that a call with this text is surely from."""
        judgement = self.judge(text)
        if judgement is None or judgement.contradicts or judgement.confidence < SURE:
            return None
        (cause,) = judgement.causes
        return cause

    def unsure(self, text: bytes) -> list[Cause]:
        """The causes that are named with less confidence."""
        judgement = self.judge(text)
        assert judgement is not None
        assert 0.5 < judgement.confidence <= WEAK_AT_MOST
        return list(judgement.causes)
