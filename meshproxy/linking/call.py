"""What is known of a call when it leaves the service, and what is decided about it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from meshproxy.linking.gaps import Gap
from meshproxy.linking.inflight import Cause
from meshproxy.linking.sockets import Socket
from meshproxy.linking.timing import Made
from meshproxy.trace.context import SpanContext


class Call:
    """What is known of a call when it leaves the service.

    ``context`` is the valid context that the call carries, if any; ``gap`` tells what is wrong with
    what was found in its place. ``w3c``: it came as a traceparent, beside which tracestate belongs;
    other formats have no place for that. ``now_ns`` is the time, in Unix nanoseconds.
    ``destination`` and ``operation`` say what is called, with few different values. ``socket`` is
    the service's end of the connection. ``tokens`` finds the rare words that the call contains, for
    `meshproxy.linking.content`. ``several``: several requests may have had a part in it, as in a
    batch of messages. ``made_from_ns`` and ``made_to_ns`` are the times between which the service
    made what it sends only now; 0 when it sends at once.
    """

    __slots__ = (
        "baggage",
        "context",
        "destination",
        "gap",
        "made_from_ns",
        "made_to_ns",
        "now_ns",
        "operation",
        "request_ids",
        "several",
        "socket",
        "tokens",
        "w3c",
    )

    def __init__(
        self,
        context: SpanContext | None = None,
        *,
        gap: Gap | None = None,
        w3c: bool = True,
        request_ids: Sequence[bytes] = (),
        baggage: bytes = b"",
        now_ns: int = 0,
        destination: str = "",
        operation: str = "",
        socket: Socket | None = None,
        tokens: Callable[[], Sequence[int]] | None = None,
    ) -> None:
        self.context = context
        self.gap = gap
        self.w3c = w3c
        self.request_ids = request_ids
        self.baggage = baggage
        self.now_ns = now_ns
        self.destination = destination
        self.operation = operation
        self.socket = socket
        self.tokens = tokens
        self.several = False
        self.made_from_ns = 0
        self.made_to_ns = 0


class Candidate:
    """A request that may have caused a call, and how likely it did, as far as that is known."""

    __slots__ = ("cause", "confidence", "evidence")

    def __init__(self, cause: Cause, evidence: str, confidence: float) -> None:
        self.cause = cause
        self.evidence = evidence
        self.confidence = confidence


class Finding:
    """Which request in flight caused a call, as far as evidence tells.

    ``cause`` is None when it does not tell; ``candidates`` are then the likeliest first.
    ``background``: it is likely that no request caused the call; ``doubtful``: it may well be.
    ``contradiction``: certain evidence points at several requests. ``made`` is for when the call is
    answered.
    """

    __slots__ = (
        "background",
        "candidates",
        "cause",
        "confidence",
        "contradiction",
        "doubtful",
        "evidence",
        "made",
    )

    def __init__(
        self,
        cause: Cause | None = None,
        evidence: str = "",
        confidence: float = 0.0,
        candidates: Sequence[Candidate] = (),
        background: bool = False,
        contradiction: bool = False,
    ) -> None:
        self.cause = cause
        self.evidence = evidence
        self.confidence = confidence
        self.candidates = candidates
        self.background = background
        self.doubtful = background
        self.contradiction = contradiction
        self.made: Made | None = None


class Decision:
    """What the linker says of a call.

    ``parent`` is the context that the call's span continues, None when it starts a trace.
    ``cause`` is the request that it belongs to, None when that is not known. ``candidates`` are
    those between which it could not decide. ``propagation`` and ``gap`` are as in the span
    attributes; ``evidence`` is empty when nothing was linked. ``contradiction``: certain evidence
    pointed at several requests. ``made`` is for `Linker.answered`.
    """

    __slots__ = (
        "candidates",
        "cause",
        "confidence",
        "contradiction",
        "evidence",
        "gap",
        "made",
        "parent",
        "propagation",
    )

    def __init__(
        self,
        propagation: str,
        parent: SpanContext | None = None,
        cause: Cause | None = None,
        evidence: str = "",
        confidence: float = 0.0,
        gap: Gap | None = None,
        candidates: Sequence[Candidate] = (),
    ) -> None:
        self.propagation = propagation
        self.parent = parent
        self.cause = cause
        self.evidence = evidence
        self.confidence = confidence
        self.gap = gap
        self.candidates = candidates
        self.contradiction = False
        self.made: Made | None = None
