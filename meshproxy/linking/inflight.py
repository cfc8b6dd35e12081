"""The requests a service is working on: the candidates for being a call's cause."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import Final

from meshproxy.linking.sockets import Carrier
from meshproxy.linking.tracks import Track
from meshproxy.trace.context import SpanContext

REMEMBERED_TRACES: Final = 4096
"""How many traces of finished requests are known as over, at least; about 1 MB."""

ABANDONED_NS: Final = 10_000_000_000
"""How long a service is reckoned to go on with a request that nobody waits for, in nanoseconds."""

CAUSE_BYTES: Final = 700
"""What a request in flight takes, about."""

REMEMBERED_ATTEMPTS: Final = 64
"""Calls remembered per request for counting resends."""


class Cause:
    """A request (or a consumed message) in flight that may cause calls.

    ``context`` is the span context that the service was given. ``route`` names what was asked of
    the service, for reports. ``baggage`` is as it goes on the wire. ``request_id`` identifies the
    request to whoever echoes it; ``correlation_ids``, different ones and set before `InFlight.add`,
    do so too.
    ``carrier`` tells the service's socket on which the request came to it, once that is known;
    ``track`` is how the odds follow it, ``calls`` how many calls certainly were its.
    ``probe``: a health check, or the like. ``many``: it stands for many messages, whose traces are
    in ``traces``, as far as they are known; set before `InFlight.add`.
    """

    __slots__ = (
        "_attempts",
        "baggage",
        "calls",
        "carrier",
        "context",
        "correlation_ids",
        "many",
        "probe",
        "request_id",
        "route",
        "start_ns",
        "traces",
        "track",
    )

    def __init__(
        self,
        context: SpanContext,
        route: str,
        start_ns: int,
        request_id: bytes = b"",
        baggage: bytes = b"",
    ) -> None:
        self.context = context
        self.route = route
        self.start_ns = start_ns
        self.request_id = request_id
        self.baggage = baggage
        self.probe = False
        self.correlation_ids: tuple[bytes, ...] = ()
        self.many = False
        self.traces: tuple[bytes, ...] = ()
        self.carrier: Carrier | None = None
        self.track: Track | None = None
        self.calls = 0
        self._attempts: dict[tuple[bytes, ...], int] | None = None

    def failed(self, call: tuple[bytes, ...], attempt: int) -> None:
        """Note that this call (method, destination, target) failed as its ``attempt``-th resend."""
        if self._attempts is None:
            self._attempts = {}
        if call in self._attempts or len(self._attempts) < REMEMBERED_ATTEMPTS:
            self._attempts[call] = attempt + 1

    def resend_count(self, call: tuple[bytes, ...]) -> int:
        """How many times in a row this same call failed within this request before now."""
        return self._attempts.get(call, 0) if self._attempts else 0

    def succeeded(self, call: tuple[bytes, ...]) -> None:
        """Note that this call worked: the next one like it is no resend."""
        if self._attempts:
            self._attempts.pop(call, None)


class Index:
    """Causes by a key. Most keys have one cause, and that is kept cheap."""

    __slots__ = ("_one", "_others")

    def __init__(self) -> None:
        self._one: dict[bytes, Cause] = {}
        self._others: dict[bytes, dict[Cause, None]] = {}

    def add(self, key: bytes, cause: Cause) -> None:
        """Put a cause under a key."""
        if self._one.setdefault(key, cause) is not cause:
            self._others.setdefault(key, {})[cause] = None

    def remove(self, key: bytes, cause: Cause) -> bool:
        """Take it out; True when nothing is left under the key."""
        others = self._others.get(key)
        if others is None:
            del self._one[key]
            return True
        if cause in others:
            del others[cause]
        else:
            self._one[key] = next(iter(others))
            del others[self._one[key]]
        if not others:
            del self._others[key]
        return False

    def get(self, key: bytes) -> tuple[Cause, ...]:
        """All causes under a key."""
        one = self._one.get(key)
        if one is None:
            return ()
        others = self._others.get(key)
        return (one, *others) if others else (one,)


class InFlight:
    """All causes in flight, by trace and by request id. At most ``limit`` are kept.

    Past the limit a request is not registered (`add` says so), and while ``unregistered`` ones are
    there, nothing may be concluded from the others.
    """

    def __init__(self, limit: int = 20_000) -> None:
        self._limit = limit
        self._all: dict[Cause, None] = {}
        self._by_trace = Index()
        self._by_request_id = Index()
        self._by_message = Index()
        self._over: dict[bytes, bytes] = {}
        self._long_over: dict[bytes, bytes] = {}
        self._abandoned: deque[tuple[int, Cause]] = deque()
        self.unregistered = 0

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Cause]:
        return iter(tuple(self._all))

    @property
    def idle(self) -> bool:
        """Whether no request is in flight, known here or not."""
        return not self._all and not self.unregistered

    @property
    def complete(self) -> bool:
        """Whether no request is worked on but those in flight that are known here."""
        return not self.unregistered and not self._abandoned

    def add(self, cause: Cause) -> bool:
        """Register a cause; False past the limit (`remove` must be called all the same)."""
        if self._abandoned:
            self._expire(cause.start_ns)
        if len(self._all) >= self._limit:
            self.unregistered += 1
            return False
        self._all[cause] = None
        self._by_trace.add(cause.context.trace_id, cause)
        if cause.request_id:
            self._by_request_id.add(cause.request_id, cause)
        for value in cause.correlation_ids:
            self._by_request_id.add(value, cause)
        for trace_id in cause.traces:
            self._by_message.add(trace_id, cause)
        return True

    def remove(self, cause: Cause) -> None:
        """The request is over."""
        if cause not in self._all:
            self.unregistered -= 1
            return
        del self._all[cause]
        self._forget(cause)

    def _forget(self, cause: Cause) -> None:
        trace_id = cause.context.trace_id
        if self._by_trace.remove(trace_id, cause):
            self._over[trace_id] = cause.context.span_id
            if len(self._over) >= REMEMBERED_TRACES:
                self._long_over, self._over = self._over, {}
        if cause.request_id:
            self._by_request_id.remove(cause.request_id, cause)
        for value in cause.correlation_ids:
            self._by_request_id.remove(value, cause)
        for trace_id in cause.traces:
            self._by_message.remove(trace_id, cause)

    def abandon(self, cause: Cause, now_ns: int) -> None:
        """The request is over for its client, but the service may still be working on it.

        For `ABANDONED_NS` from now (Unix nanoseconds) it stays a candidate beside those in flight.
        """
        if cause not in self._all:
            self.unregistered -= 1
            return
        del self._all[cause]
        self._abandoned.append((now_ns + ABANDONED_NS, cause))
        if len(self._abandoned) > self._limit:
            self._expire(self._abandoned[0][0])

    def _expire(self, now_ns: int) -> None:
        while self._abandoned and self._abandoned[0][0] <= now_ns:
            cause = self._abandoned.popleft()[1]
            self._forget(cause)
            cause.carrier = None
            cause.track = None

    def of_trace(self, trace_id: bytes) -> tuple[Cause, ...]:
        """The causes in flight that belong to a trace."""
        return self._by_trace.get(trace_id)

    def is_of_many(self, trace_id: bytes) -> bool:
        """Whether a cause in flight stands for a message of this trace, among others."""
        return bool(self._by_message.get(trace_id))

    def of_request_id(self, request_id: bytes) -> tuple[Cause, ...]:
        """The causes in flight that came in with this request id."""
        return self._by_request_id.get(request_id)

    def is_over(self, trace_id: bytes) -> bool:
        """Whether a request of this trace was in flight lately, and none is now."""
        return self._given(trace_id) is not None and not self._by_trace.get(trace_id)

    def _given(self, trace_id: bytes) -> bytes | None:
        """The span id that the last request of a trace was given, if it is over."""
        return self._over.get(trace_id) or self._long_over.get(trace_id)

    def is_outlived(self, context: SpanContext) -> bool:
        """Whether a context was made within a request that is over: its work still goes on.

        The very context that the request was given does not tell: whoever copies headers may hold
        on to old ones.
        """
        given = self._given(context.trace_id)
        return (
            given is not None
            and given != context.span_id
            and not self._by_trace.get(context.trace_id)
        )

    def newest(self, count: int) -> list[Cause]:
        """Up to ``count`` causes in flight, the newest first."""
        return list(islice(reversed(self._all), count))

    def is_crowd(self, most: int) -> bool:
        """Whether there may be more than so many candidates, or some that are not known."""
        return self.unregistered > 0 or len(self._all) + len(self._abandoned) > most

    def candidates(self, now_ns: int) -> list[Cause]:
        """All that the service may be working on: what is in flight, and what was abandoned.

        Nothing while nothing is in flight: what was abandoned alone is no cause to rely on.
        """
        found = list(self._all)
        if self._abandoned and found:
            self._expire(now_ns)
            for _, cause in self._abandoned:
                found.append(cause)
        return found
