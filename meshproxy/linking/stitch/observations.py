"""What the stitcher is given, and what it answers."""

from __future__ import annotations

from typing import Final, NamedTuple

IN: Final = "in"
OUT: Final = "out"

ONLY_IN_FLIGHT: Final = "only_in_flight"
"""One request alone was there to make the call."""

CALL_GRAPH: Final = "call_graph"
"""Of the requests that were there, only one was at a point where such a call is made."""

TIMING: Final = "timing"
"""The delays before and after the call fit this request best."""


class Observation(NamedTuple):
    """One request that a service received (`IN`) or one call that it made (`OUT`).

    ``key`` tells it from all others. ``operation`` is the route of a request, or the callee (or
    endpoint) of a call. ``parent`` is the key of the request that is known to have caused a call,
    by the ``evidence`` named. Only observations of the same service and ``group`` (the pod, or
    whatever sees both sides) belong together. ``old_parent`` is handed through to the `Link`.
    """

    key: str
    service: str
    direction: str
    operation: str
    start_ns: int
    end_ns: int
    parent: str | None = None
    evidence: str = ""
    confidence: float = 1.0
    group: str = ""
    old_parent: str | None = None


class Candidate(NamedTuple):
    """A request that may have caused a call, and the probability that it did."""

    parent: str
    confidence: float


class Link(NamedTuple):
    """What is known of the cause of the call ``key``.

    ``parent`` is the likeliest request, None when it is likelier that no request caused the call;
    ``confidence`` is the probability of that. ``evidence`` is empty when there is no parent.
    ``candidates`` are all requests that are possible, the likeliest first.
    """

    key: str
    parent: str | None
    evidence: str
    confidence: float
    old_parent: str | None
    candidates: tuple[Candidate, ...]
