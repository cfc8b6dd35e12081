"""One stream: learn and decide in turns, then say what was decided and how sure it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from meshproxy.linking.stitch.clear import clear_counts
from meshproxy.linking.stitch.lattice import Lattice
from meshproxy.linking.stitch.layer import NOBODY
from meshproxy.linking.stitch.model import Model
from meshproxy.linking.stitch.observations import (
    CALL_GRAPH,
    ONLY_IN_FLIGHT,
    TIMING,
    Candidate,
    Link,
    Observation,
)
from meshproxy.linking.stitch.states import States
from meshproxy.linking.stitch.timeline import UNKNOWN, Timeline

_GRAPH_DECIDES: Final = 0.97
_LEARNING_NEGLIGIBLE: Final = 1e-4
_NEGLIGIBLE: Final = 1e-6
_LEAST: Final = 1e-3
"""Confidence below which a request is not named as a candidate."""


class Options(NamedTuple):
    """How to stitch.

    ``skew_ns`` is how much earlier than its request a call may seem to begin, ``linger_ns`` how
    long after its request's end it may begin; both are used only where calls are found that nothing
    else explains. ``passes`` is how often the model is learnt anew. ``width`` hypotheses are kept
    when deciding, ``learning_width`` before that.
    """

    skew_ns: int = 2_000_000
    linger_ns: int = 5_000_000_000
    passes: int = 3
    width: int = 64
    learning_width: int = 10


def solve(observations: Sequence[Observation], options: Options) -> list[Link]:
    """Find the causes of all calls of one stream; the order is that of their start."""
    timeline = Timeline(observations, options.skew_ns, options.linger_ns)
    if not timeline.requests or UNKNOWN not in timeline.fixed:
        return [_given(call) for call in timeline.calls]
    states = States(timeline.endpoint_count, timeline.outlasting, timeline.late)
    model = Model(states, clear_counts(timeline, states), timeline.span)
    for _ in range(options.passes):
        lattice = Lattice(timeline, states, model, options.learning_width, _LEARNING_NEGLIGIBLE)
        lattice.run()
        model = Model(states, lattice.counts, timeline.span)
    lattice = Lattice(timeline, states, model, options.width, _NEGLIGIBLE)
    lattice.run()
    return [_link(timeline, lattice, number) for number in range(len(timeline.calls))]


def _given(call: Observation) -> Link:
    """A call of which is known what was known before."""
    return Link(
        call.key,
        call.parent,
        call.evidence if call.parent is not None else "",
        call.confidence if call.parent is not None else 1.0,
        call.old_parent,
        (),
    )


def _link(timeline: Timeline, lattice: Lattice, number: int) -> Link:
    call = timeline.calls[number]
    if call.parent is not None:
        return _given(call)
    chances = lattice.posteriors[number]
    ranked = sorted((-chance, request) for request, chance in chances.items() if request != NOBODY)
    candidates = tuple(
        [
            Candidate(timeline.requests[request].key, min(1.0, -chance))
            for chance, request in ranked
            if -chance >= _LEAST
        ]
    )
    best = lattice.best[number]
    confidence = min(1.0, chances.get(best, 0.0)) * lattice.kept[number]
    if best == NOBODY:
        return Link(call.key, None, "", confidence, call.old_parent, candidates)
    if lattice.rivals[number] == 0:
        evidence = ONLY_IN_FLIGHT
    else:
        evidence = CALL_GRAPH if lattice.graph[number] >= _GRAPH_DECIDES else TIMING
    parent = timeline.requests[best].key
    return Link(call.key, parent, evidence, confidence, call.old_parent, candidates)
