"""Reads what requests and calls contain, while calls need that to be linked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from filters.http.content import PEEK, body_tokens, request_tokens, response_tokens
from meshproxy.filter import Exchange
from meshproxy.linking.call import Decision
from meshproxy.linking.inflight import Cause, InFlight
from meshproxy.linking.linker import Linker

MOST_CAUGHT_UP: Final = 500
"""Requests in flight, the newest, that are read when content is first needed: it takes time."""


class Reader:
    """Tells the linker's content index what is held, and shown, by whom."""

    def __init__(self, linker: Linker, inflight: InFlight) -> None:
        self._content = linker.content
        self._inflight = inflight

    def received(self, exchange: Exchange, cause: Cause) -> None:
        """A request is in flight."""
        if self._content.wants(exchange.start_ns):
            if not exchange.body:
                exchange.peek = PEEK
            self._content.hold(cause, self._tokens(exchange))

    def _tokens(self, exchange: Exchange) -> Sequence[int]:
        return request_tokens(
            self._content.tokens, exchange.request, exchange.body, exchange.start_ns
        )

    def received_body(self, exchange: Exchange, cause: Cause, data: bytes) -> None:
        """The beginning of its body came later."""
        found = body_tokens(self._content.tokens, exchange.request, data, exchange.start_ns)
        self._content.hold(cause, found)

    def sending(self, exchange: Exchange, unsure: bool) -> Callable[[], Sequence[int]] | None:
        """A call leaves; ``unsure``: without a context that is right.

        What finds its tokens, or None while there is no choice between requests.
        """
        if unsure and len(self._inflight) > 1:
            if self._content.need(exchange.start_ns):
                self._catch_up()
        elif not self._content.wants(exchange.start_ns):
            return None
        exchange.peek = PEEK
        found: list[Sequence[int]] = []

        def tokens() -> Sequence[int]:
            if not found:
                found.append(self._tokens(exchange))
            return found[0]

        return tokens

    def _catch_up(self) -> None:
        """Read the requests that came before anybody wanted to know."""
        for cause in self._inflight.newest(MOST_CAUGHT_UP):
            carrier = cause.carrier
            if isinstance(carrier, Exchange):
                self._content.begin(cause, self._tokens(carrier), whole=False)

    def sent(self, cause: Cause, tokens: Sequence[int]) -> None:
        """A call left with these tokens, and it is known who made it."""
        self._content.hold(cause, tokens, made=True)

    def answered(self, exchange: Exchange, decision: Decision, data: bytes) -> None:
        """The answer to a call has come, with the beginning of its body."""
        response = exchange.response
        if response is None:
            return
        found = response_tokens(self._content.tokens, response, data, exchange.start_ns)
        if decision.cause is not None:
            self._content.hold(decision.cause, found)
        else:
            perhaps = [candidate.cause for candidate in decision.candidates]
            self._content.hold_perhaps(perhaps, found)
