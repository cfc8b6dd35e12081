"""The current span of this task or thread, and how it becomes current and ceases to be.

Where the OpenTelemetry API is installed, both are kept in step: what is made current here is also
OpenTelemetry's current span, and a span that OpenTelemetry started later is found by `parent`.
"""

from __future__ import annotations

from contextvars import ContextVar, Token

from meshproxy.inprocess import otel
from meshproxy.trace.context import SpanContext


class Current:
    """A span that others become children of. Treat as immutable.

    ``baggage`` is a header value or empty. ``remote``: the span belongs to another process, such
    as the sidecar's span of an inbound request. ``scope`` is what made it current. ``used``: its
    context was given out, so that other spans may name it.
    """

    __slots__ = ("baggage", "context", "remote", "scope", "used")

    def __init__(self, context: SpanContext, baggage: bytes = b"", remote: bool = False) -> None:
        self.context = context
        self.baggage = baggage
        self.remote = remote
        self.scope: Scope | None = None
        self.used = False


current: ContextVar[Current | None] = ContextVar("meshproxy_current", default=None)
"""Set by `Scope`; read it by `parent`, which knows of OpenTelemetry's spans too."""


def parent() -> Current | None:
    """The span that what happens now is a part of; None when there is none. It counts as used.

    That of OpenTelemetry counts if it is another than ours: it was started within ours, or there
    is none of ours.
    """
    ours = current.get()
    theirs = otel.active()
    if theirs is None or (ours is not None and theirs.span_id == ours.context.span_id):
        if ours is not None:
            ours.used = True
        return ours
    return Current(SpanContext(theirs.trace_id, theirs.span_id, theirs.flags, theirs.tracestate),
                   otel.baggage(), theirs.remote)  # fmt: skip


class Scope:
    """The time for which a span is current. Entered once, in the task or thread it is for.

    A ``with`` block ends by `leave`. What has no such end, like the message that a loop was given
    last, ends by `give_way`.
    """

    __slots__ = ("_before", "_others", "_over", "_token", "span")

    def __init__(self, span: Current) -> None:
        self.span = span
        span.scope = self
        self._over = False
        self._token: Token[Current | None] | None = None
        self._before: Current | None = None
        self._others: object = None

    def enter(self) -> None:
        """Make the span current."""
        self._before = current.get()
        self._token = current.set(self.span)
        self._others = otel.attach(self.span)
        self._skip_what_is_over()

    def leave(self) -> None:
        """Make current what was so before, whatever became current meanwhile."""
        if self._token is None:
            return
        others = self._others
        try:
            current.reset(self._token)
        except ValueError:  # by another task, as when the loop closes a generator: not its context
            return
        finally:
            # Tasks that were started within may keep the span, but not all that was before.
            self._token = self._before = self._others = None
        otel.restore(others)

    def give_way(self) -> None:
        """Make current what was so before, if the span still is current here.

        It may not be: this may be another task, or something else became current. No token is of
        use then, since it only counts in the very context that it was made in.
        """
        self._over = True
        self._token = None  # it holds what was current before
        self._skip_what_is_over()
        if current.get() is not self.span:
            return
        current.set(self._before)
        theirs = otel.active()
        if theirs is not None and theirs.span_id == self.span.context.span_id:
            otel.restore(self._others)

    def _skip_what_is_over(self) -> None:
        """Such as other consumers' messages: they do not come back, nor need they be kept."""
        while self._before is not None:
            scope = self._before.scope
            if scope is None or not scope._over:
                return
            self._before, self._others = scope._before, scope._others


def settle() -> None:
    """What was ended by another task, and still is current in this one, gives way here too."""
    found = current.get()
    if found is not None and found.scope is not None and found.scope._over:
        found.scope.give_way()
