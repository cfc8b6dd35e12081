"""Find, for each call that services made, the request that caused it, when all is on the table.

Each service in each pod is a stream of its own. What is certain is fixed. For the rest the requests
and calls are followed through time with a model of what the service does next and after how long;
the model is learnt from the same observations (expectation maximisation), so nothing about the
services has to be known. See ``docs/stitch.md``.
"""

from __future__ import annotations

from collections.abc import Sequence

from meshproxy.linking.stitch.observations import IN, OUT, Candidate, Link, Observation
from meshproxy.linking.stitch.solver import Options, solve

__all__ = ["IN", "OUT", "Candidate", "Link", "Observation", "Options", "stitch"]


def stitch(observations: Sequence[Observation], options: Options | None = None) -> list[Link]:
    """Find the cause of every call among ``observations``; links come in the order of the calls.

    The order of the observations makes no difference to what is found. Raises ValueError when two
    observations have the same key.
    """
    streams: dict[tuple[str, str], list[Observation]] = {}
    keys: set[str] = set()
    for observation in observations:
        streams.setdefault((observation.group, observation.service), []).append(observation)
        keys.add(observation.key)
    if len(keys) != len(observations):
        raise ValueError("two observations have the same key")
    links: dict[str, Link] = {}
    for stream in streams.values():
        for link in solve(stream, options or Options()):
            links[link.key] = link
    return [links[o.key] for o in observations if o.key in links]
