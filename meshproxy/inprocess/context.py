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
    as the sidecar's span of an inbound request. ``scope`` is what made it current.
    """

    __slots__ = ("baggage", "context", "remote", "scope")

    def __init__(self, context: SpanContext, baggage: bytes = b"", remote: bool = False) -> None:
        self.context = context
        self.baggage = baggage
        self.remote = remote
        self.scope: Scope | None = None


current: ContextVar[Current | None] = ContextVar("meshproxy_current", default=None)
"""Set by `Scope`; read it by `parent`, which knows of OpenTelemetry's spans too."""


def parent() -> Current | None:
    """The span that what happens now is a part of; None when there is none.

    That of OpenTelemetry counts if it is another than ours: it was started within ours, or there
    is none of ours.
    """
    ours = current.get()
    theirs = otel.active()
    if theirs is None or (ours is not None and theirs.span_id == ours.context.span_id):
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

    @property
    def before(self) -> Current | None:
        """What was current when this was entered."""
        return self._before

    def enter(self) -> None:
        """Make the span current."""
        self._before = current.get()
        self._token = current.set(self.span)
        self._others = otel.attach(self.span.context, self.span.baggage, self.span.remote)

    def leave(self) -> None:
        """Make current what was so before, whatever became current meanwhile."""
        if self._token is None:
            return
        try:
            current.reset(self._token)
        except ValueError:  # by another task, as when the loop closes a generator: not its context
            return
        finally:
            self._token = None
        otel.restore(self._others)

    def give_way(self) -> None:
        """Make current what was so before, if the span still is current here.

        It may not be: this may be another task, or something else became current. No token is of
        use then, since it only counts in the very context that it was made in.
        """
        self._over = True
        if current.get() is not self.span:
            return
        outermost = self  # of those that are over, such as other consumers' messages
        while (before := outermost._before) and before.scope and before.scope._over:
            outermost = before.scope
        current.set(outermost._before)
        theirs = otel.active()
        if theirs is not None and theirs.span_id == self.span.context.span_id:
            otel.restore(outermost._others)
