"""What one kind of evidence says of a call."""

from __future__ import annotations

from collections.abc import Sequence

from meshproxy.linking.inflight import Cause


class Verdict:
    """The causes that the evidence leaves possible, and how sure it is that one of them is right.

    One cause: the evidence points at it. Several: it narrows the choice. ``evidence`` is its name,
    as in the span attribute ``meshproxy.link.evidence``.
    """

    __slots__ = ("causes", "confidence", "evidence")

    def __init__(self, evidence: str, confidence: float, causes: Sequence[Cause]) -> None:
        self.evidence = evidence
        self.confidence = confidence
        self.causes = causes
