"""One event of the lattice: edges from the hypotheses before it to those after it."""

from __future__ import annotations

from math import log
from typing import Final

from meshproxy.linking.stitch.model import Counts, Model

NOBODY: Final = -1
"""In place of a request or a call: none."""

Hypothesis = tuple[int, ...]
"""For each request in flight the number of how far it has come."""

_TINY: Final = 1e-300


class Move:
    """What an event means for a request: how far it has come then, and how likely that was.

    ``code`` is the step as in `Counts.add`, ``delay_bin`` the bin of the time it took.
    """

    __slots__ = ("chance", "code", "delay_bin", "local")

    def __init__(self, local: int, chance: float, code: int, delay_bin: int) -> None:
        self.local = local
        self.chance = chance
        self.code = code
        self.delay_bin = delay_bin


class Layer:
    """Edges of one event; ``step`` says what happened, ``call`` which call began if one did."""

    def __init__(self, call: int, step: int, weights: list[float]) -> None:
        self.call = call
        self.step = step
        self.weights = weights
        self.before: list[int] = []
        self.requests: list[int] = []
        self.pointers: list[int] = []
        self.kept = 1.0
        self._after: list[int] = []
        self._chances: list[float] = []
        self._moves: list[Move | None] = []
        self._turns: list[int] = []
        self._odds: list[float] = []
        self._found: dict[Hypothesis, int] = {}
        self._sums: list[float] = []
        self._best: list[float] = []

    def put(
        self,
        before: int,
        after: Hypothesis,
        chance: float,
        request: int,
        move: Move | None,
        turn: int,
        odds: float,
    ) -> None:
        """Add an edge: from the hypothesis number ``before`` the event leads to ``after``."""
        edge = len(self.before)
        place = self._found.get(after)
        weight = self.weights[before] * chance
        if place is None:
            place = self._found[after] = len(self._sums)
            self._sums.append(weight)
            self._best.append(weight)
            self.pointers.append(edge)
        else:
            self._sums[place] += weight
            if weight > self._best[place]:
                self._best[place] = weight
                self.pointers[place] = edge
        self.before.append(before)
        self._after.append(place)
        self._chances.append(chance)
        self.requests.append(request)
        self._moves.append(move)
        self._turns.append(turn)
        self._odds.append(odds)

    def close(self, width: int, negligible: float) -> tuple[list[Hypothesis], list[float]]:
        """Keep the heaviest hypotheses; return them with their weights, the heaviest as 1."""
        sums = self._sums
        top = max(sums)
        if top <= _TINY:
            sums, top = [1.0] * len(sums), 1.0
        floor = top * negligible
        room = len(sums)
        if len(sums) > width:
            floor = max(floor, sorted(sums, reverse=True)[width - 1])
            room = width - sum([1 for weight in sums if weight > floor])
        kept: list[Hypothesis] = []
        weights: list[float] = []
        pointers: list[int] = []
        places = [NOBODY] * len(sums)
        for place, hypothesis in enumerate(self._found):
            if sums[place] < floor:
                continue
            if sums[place] == floor:
                room -= 1
                if room < 0:
                    continue
            places[place] = len(kept)
            kept.append(hypothesis)
            weights.append(sums[place] / top)
            pointers.append(self.pointers[place])
        self.kept = min(1.0, sum(weights) * top / max(sum(sums), _TINY))
        self._after = [places[place] for place in self._after]
        self._chances = [chance / top for chance in self._chances]
        self._sums = weights
        self.pointers = pointers
        self._found = {}
        return kept, weights

    def graph(self, edge: int, model: Model) -> float:
        """How likely an edge is among those of its hypothesis, whatever the delays."""
        total = mine = 0.0
        for other, move in enumerate(self._moves):
            if move is not None and self.before[other] == self.before[edge]:
                share = model.share(move.code)
                total += share
                if other == edge:
                    mine = share
        return mine / max(total, _TINY)

    def best_end(self) -> int:
        """The hypothesis in which the likeliest way ends."""
        return self._sums.index(max(self._sums))

    def backward(self, after: list[float]) -> list[float]:
        """Weights of all ways onward from each hypothesis before, the heaviest as 1."""
        out = [0.0] * len(self.weights)
        for edge in range(len(self.before)):
            place = self._after[edge]
            if place >= 0:
                out[self.before[edge]] += self._chances[edge] * after[place]
        top = max(max(out), _TINY)
        return [weight / top for weight in out]

    def _total(self, after: list[float]) -> float:
        total = 0.0
        for place in range(len(after)):
            total += self._sums[place] * after[place]
        return max(total, _TINY)

    def _share(self, edge: int, after: list[float], total: float) -> float:
        place = self._after[edge]
        if place < 0:
            return 0.0
        return self.weights[self.before[edge]] * self._chances[edge] * after[place] / total

    def add_posteriors(self, after: list[float], into: dict[int, float]) -> None:
        """Add to each request the probability that it made the call of this event."""
        total = self._total(after)
        for edge in range(len(self.before)):
            share = self._share(edge, after, total)
            request = self.requests[edge]
            into[request] = into.get(request, 0.0) + share

    def add_counts(self, after: list[float], counts: Counts) -> None:
        """Count the steps of this event, each by its probability."""
        total = self._total(after)
        for edge in range(len(self.before)):
            share = self._share(edge, after, total)
            if share <= 0.0:
                continue
            move = self._moves[edge]
            if move is not None:
                counts.add(move.code, move.delay_bin, share)
                if self._turns[edge]:
                    odds = log(max(self._odds[edge], _TINY))
                    counts.add_turn(self._turns[edge], odds, share)
            elif self.call >= 0:
                counts.add_background(self.step, share)
