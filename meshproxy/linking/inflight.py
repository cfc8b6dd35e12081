"""The requests a service is working on: the candidates for being a call's cause."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from meshproxy.trace.context import SpanContext

REMEMBERED_TRACES = 4096
"""How many traces of finished requests are known as over; about 0.5 MB."""

REMEMBERED_ATTEMPTS = 64
"""Calls remembered per request for counting resends."""


class Cause:
    """A request (or a consumed message) in flight that may cause calls.

    ``context`` is the span context that the service was given. ``route`` names what was asked of
    the service, for reports. ``baggage`` is as it goes on the wire. ``request_id`` identifies the
    request to whoever echoes it.
    """

    __slots__ = ("_attempts", "baggage", "context", "request_id", "route", "start_ns")

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


class InFlight:
    """All causes in flight, by trace and by request id. At most ``limit`` are kept.

    Past the limit a request is not registered (`add` says so) and `complete` is false: then
    nothing may be concluded from being the only candidate.
    """

    def __init__(self, limit: int = 20_000) -> None:
        self._limit = limit
        self._all: dict[Cause, None] = {}
        self._by_trace: dict[bytes, dict[Cause, None]] = {}
        self._by_request_id: dict[bytes, dict[Cause, None]] = {}
        self._over: OrderedDict[bytes, None] = OrderedDict()
        self.unregistered = 0

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Cause]:
        return iter(tuple(self._all))

    @property
    def complete(self) -> bool:
        """Whether every request in flight is known here."""
        return not self.unregistered

    def add(self, cause: Cause) -> bool:
        """Register a cause; False past the limit (`remove` must be called all the same)."""
        if len(self._all) >= self._limit:
            self.unregistered += 1
            return False
        self._all[cause] = None
        same = self._by_trace.get(cause.context.trace_id)
        if same is None:
            self._by_trace[cause.context.trace_id] = {cause: None}
        else:
            same[cause] = None
        if cause.request_id:
            echo = self._by_request_id.get(cause.request_id)
            if echo is None:
                self._by_request_id[cause.request_id] = {cause: None}
            else:
                echo[cause] = None
        return True

    def remove(self, cause: Cause) -> None:
        """The request is over."""
        if cause not in self._all:
            self.unregistered -= 1
            return
        del self._all[cause]
        trace_id = cause.context.trace_id
        same = self._by_trace[trace_id]
        del same[cause]
        if not same:
            del self._by_trace[trace_id]
            self._over[trace_id] = None
            if len(self._over) > REMEMBERED_TRACES:
                self._over.popitem(last=False)
        if cause.request_id:
            echo = self._by_request_id[cause.request_id]
            del echo[cause]
            if not echo:
                del self._by_request_id[cause.request_id]

    def of_trace(self, trace_id: bytes) -> tuple[Cause, ...]:
        """The causes in flight that belong to a trace."""
        return tuple(self._by_trace.get(trace_id, ()))

    def of_request_id(self, request_id: bytes) -> tuple[Cause, ...]:
        """The causes in flight that came in with this request id."""
        return tuple(self._by_request_id.get(request_id, ()))

    def is_over(self, trace_id: bytes) -> bool:
        """Whether a request of this trace was in flight lately, and none is now."""
        return trace_id in self._over and trace_id not in self._by_trace

    def only(self) -> Cause | None:
        """The one cause in flight, if there is exactly one and none is unknown."""
        if len(self._all) == 1 and not self.unregistered:
            return next(iter(self._all))
        return None

    def newest(self, count: int) -> tuple[Cause, ...]:
        """Up to ``count`` causes, the newest first."""
        found = []
        for cause in reversed(self._all):
            found.append(cause)
            if len(found) == count:
                break
        return tuple(found)
