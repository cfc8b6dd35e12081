"""What every exporter looks like, and how it says that something went wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from meshproxy.trace.span import Span


@dataclass(frozen=True, slots=True)
class SendResult:
    """What became of the first ``taken`` of the spans given to `Exporter.send`.

    ``dropped`` counts, by reason, those of them that the backend did not keep; all others were
    kept. ``message`` is what the backend had to say about it, or empty. Spans after the first
    ``taken`` were not touched (a request has a largest size) and are to be sent next.
    """

    taken: int
    dropped: Mapping[str, int] = field(default_factory=dict)
    message: str = ""


class ExportError(Exception):
    """Spans were not delivered. ``taken`` is how many of those given it is about (None: all)."""

    def __init__(self, message: str, *, taken: int | None = None) -> None:
        super().__init__(message)
        self.taken = taken


class RetryableError(ExportError):
    """The backend may accept the same spans later, not before ``retry_after`` seconds if given."""

    def __init__(
        self, message: str, *, taken: int | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message, taken=taken)
        self.retry_after = retry_after


class PermanentError(ExportError):
    """Sending the same spans again would be in vain; they are dropped with ``reason``."""

    def __init__(self, message: str, *, reason: str, taken: int | None = None) -> None:
        super().__init__(message, taken=taken)
        self.reason = reason


class ExporterSettingsError(ValueError):
    """An exporter cannot be made from its settings (bad URL, unreadable CA file)."""


Item = Span | bytes
"""What is queued of a span: the span itself, or what an exporter has made of it."""


class Exporter(Protocol):
    """Sends spans to one backend. One call at a time."""

    def prepare(self, span: Span) -> Item:
        """What of a span is queued for `send`. Runs once a span, so it has to be quick.

        Making bytes here is cheaper than later, in batches: the span is still in the processor's
        caches, and its memory serves the next request (docs/architecture.md).
        """

    async def start(self) -> None:
        """Acquire what needs a running event loop; called once, before `send`."""

    async def send(self, items: Sequence[Item]) -> SendResult:
        """Deliver spans that `prepare` has seen, or as many from the front as fit one request.

        Never holds the event loop for longer than about a millisecond. Raises `RetryableError`
        or `PermanentError`.
        """

    async def close(self) -> None:
        """Release everything; called once, when no `send` is running."""
