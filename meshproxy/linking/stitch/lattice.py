"""All ways to explain a stream, event by event: hypotheses, their weights, and what they share.

A hypothesis tells of each request in flight how far it has come. A call that begins splits it into
one for every request that may have made the call, and one for none. Hypotheses that do not differ
any more are merged; of the rest the heaviest are kept. When one is left, or after so many events,
the weights run backward too: that gives the probability of each decision over all ways that were
kept (the forward-backward algorithm), and the likeliest way as a whole (Viterbi's).
"""

from __future__ import annotations

from typing import Final

from meshproxy.linking.stitch.delays import bin_of
from meshproxy.linking.stitch.layer import NOBODY, Hypothesis, Layer, Move
from meshproxy.linking.stitch.model import Counts, Model
from meshproxy.linking.stitch.states import States
from meshproxy.linking.stitch.timeline import CALLED, CLOSED, GONE, OPENED, Timeline

_HORIZON: Final = 32
"""Events after a call in which what is dropped may have been what really happened to it."""

_MAX_LAYERS: Final = 1024
_MAX_CANDIDATES: Final = 32
"""Requests that are considered for one call: those for which it comes most expected."""


class Local:
    """How far one request has come: its state, since when, and its calls that are under way."""

    __slots__ = ("since", "state", "under_way")

    def __init__(self, state: int, since: int, under_way: tuple[int, ...]) -> None:
        self.state = state
        self.since = since
        self.under_way = under_way


class Queue:
    """Requests in the same state: since when, and the rate at which they leave it together."""

    __slots__ = ("newest", "oldest", "rate")

    def __init__(self, since: int, rate: float) -> None:
        self.oldest = since
        self.newest = since
        self.rate = rate


class Lattice:
    """One run over a timeline with a given model.

    ``width`` hypotheses are kept, and of those the ones that weigh at least ``negligible`` times as
    much as the heaviest. After `run`, ``counts`` is what the next model learns from, and for each
    call ``posteriors`` has the probabilities of the requests (`NOBODY`: none of them) among the
    ways that were kept, and ``kept`` the share of the weight of all that these had in the events
    after the call. ``best`` is its request in the likeliest way, ``rivals`` how many others were
    there, and ``graph`` how likely that one would be of all if only the order of steps counted.
    """

    def __init__(
        self, timeline: Timeline, states: States, model: Model, width: int, negligible: float
    ) -> None:
        self._timeline = timeline
        self._states = states
        self._model = model
        self._width = width
        self._negligible = negligible
        self.counts = Counts()
        calls = len(timeline.calls)
        self.posteriors: list[dict[int, float]] = [{} for _ in range(calls)]
        self.best: list[int] = [NOBODY] * calls
        self.kept: list[float] = [1.0] * calls
        self.rivals: list[int] = [0] * calls
        self.graph: list[float] = [0.0] * calls
        self._locals: list[Local] = []
        self._numbers: dict[tuple[int, int, tuple[int, ...]], int] = {}
        self._live: list[int] = []
        self._hypotheses: list[Hypothesis] = [()]
        self._weights: list[float] = [1.0]
        self._layers: list[Layer] = []

    def run(self) -> None:
        """Go through all events."""
        for tick, kind, which in self._timeline.events():
            if kind == OPENED:
                self._opened(tick, which)
            else:
                if kind == CALLED:
                    layer = self._called(tick, which)
                elif kind == CLOSED:
                    layer = self._closed(tick, which)
                elif kind == GONE:
                    layer = self._left(which, tick, self._states.gone)
                else:
                    layer = self._call_ended(tick, which)
                self._advance(layer)
        self._settle(0)

    def _opened(self, tick: int, request: int) -> None:
        local = self._local(self._states.start(self._timeline.routes[request]), tick, ())
        self._live.append(request)
        self._hypotheses = [(*hypothesis, local) for hypothesis in self._hypotheses]

    def _called(self, tick: int, call: int) -> Layer:
        endpoint = self._timeline.endpoints[call]
        layer = Layer(call, endpoint, self._weights)
        background = self._model.background(endpoint)
        slots = self._slots(call, endpoint, tick)
        self.rivals[call] = len(self._live) - 1
        nobody = self._timeline.fixed[call] == NOBODY or not slots
        moves: dict[int, Move] = {}
        rates: dict[int, float] = {}
        for number, hypothesis in enumerate(self._hypotheses):
            queues = self._queues(hypothesis, endpoint, tick, rates)
            if nobody:
                layer.put(number, hypothesis, background, NOBODY, None, 0, 0.0)
            for slot in slots:
                local = hypothesis[slot]
                move = moves.get(local)
                if move is None:
                    move = moves[local] = self._begin(local, endpoint, tick, call)
                after = (*hypothesis[:slot], move.local, *hypothesis[slot + 1 :])
                self._put(layer, number, slot, after, move, queues)
        return layer

    def _slots(self, call: int, endpoint: int, tick: int) -> list[int]:
        """Where in the hypotheses the requests stand that may have made a call."""
        live = self._live
        fixed = self._timeline.fixed[call]
        if fixed != NOBODY:
            return [live.index(fixed)] if fixed in live else []
        if len(live) <= _MAX_CANDIDATES:
            return list(range(len(live)))
        heaviest = self._hypotheses[self._weights.index(max(self._weights))]
        expected: list[tuple[float, int]] = []
        for slot, number in enumerate(heaviest):
            local = self._locals[number]
            table = self._model.table(local.state * self._states.steps + endpoint)
            expected.append((-table[bin_of(tick - local.since)], slot))
        expected.sort()
        return sorted([slot for _, slot in expected[:_MAX_CANDIDATES]])

    def _begin(self, number: int, endpoint: int, tick: int, call: int) -> Move:
        move = self._move(number, endpoint, tick)
        local = self._locals[number]
        after = self._states.after(local.state, endpoint)
        move.local = self._local(after, tick, (*local.under_way, call))
        return move

    def _put(
        self,
        layer: Layer,
        number: int,
        slot: int,
        after: Hypothesis,
        move: Move,
        queues: dict[int, Queue],
    ) -> None:
        """Add an edge of the request at ``slot``, weighed by whether it was its turn."""
        local = self._locals[self._hypotheses[number][slot]]
        queue = queues.get(local.state)
        if queue is None or queue.oldest == queue.newest:
            layer.put(number, after, move.chance, self._live[slot], move, 0, 0.0)
            return
        turn = 1 if local.since == queue.oldest else -1
        rate = self._model.hazard(move.code, move.delay_bin)
        odds = rate / max(queue.rate - rate, 1e-300)
        chance = move.chance * self._model.turn(turn)
        layer.put(number, after, chance, self._live[slot], move, turn, odds)

    def _queues(
        self, hypothesis: Hypothesis, step: int, tick: int, rates: dict[int, float]
    ) -> dict[int, Queue]:
        """The requests of a hypothesis by state; ``rates`` remembers how soon each takes a step."""
        queues: dict[int, Queue] = {}
        if len(hypothesis) == 1:
            return queues
        for number in hypothesis:
            local = self._locals[number]
            rate = rates.get(number, -1.0)
            if rate < 0.0:
                code = local.state * self._states.steps + step
                rate = rates[number] = self._model.hazard(code, bin_of(tick - local.since))
            queue = queues.get(local.state)
            if queue is None:
                queues[local.state] = Queue(local.since, rate)
            else:
                queue.oldest = min(queue.oldest, local.since)
                queue.newest = max(queue.newest, local.since)
                queue.rate += rate
        return queues

    def _call_ended(self, tick: int, call: int) -> Layer:
        step = self._states.endpoints + self._timeline.endpoints[call]
        layer = Layer(NOBODY, step, self._weights)
        moves: dict[int, Move] = {}
        for number, hypothesis in enumerate(self._hypotheses):
            slot = 0
            for local in hypothesis:
                if call in self._locals[local].under_way:
                    break
                slot += 1
            if slot == len(hypothesis):
                layer.put(number, hypothesis, 1.0, NOBODY, None, 0, 0.0)
                continue
            move = moves.get(hypothesis[slot])
            if move is None:
                move = moves[hypothesis[slot]] = self._finish(hypothesis[slot], step, tick, call)
            after = (*hypothesis[:slot], move.local, *hypothesis[slot + 1 :])
            layer.put(number, after, move.chance, NOBODY, move, 0, 0.0)
        return layer

    def _finish(self, number: int, step: int, tick: int, call: int) -> Move:
        local = self._locals[number]
        rest = tuple([other for other in local.under_way if other != call])
        code = local.state * self._states.steps + step
        after = self._local(self._states.after(local.state, step), tick, rest)
        return Move(after, self._model.share(code), code, 0)

    def _closed(self, tick: int, request: int) -> Layer:
        if not self._timeline.linger:
            return self._left(request, tick, self._states.end)
        slot = self._live.index(request)
        layer = Layer(NOBODY, self._states.end, self._weights)
        moves: dict[int, Move] = {}
        rates: dict[int, float] = {}
        for number, hypothesis in enumerate(self._hypotheses):
            local = hypothesis[slot]
            move = moves.get(local)
            if move is None:
                move = moves[local] = self._move(local, self._states.end, tick)
                known = self._locals[local]
                state = self._states.after(known.state, self._states.end)
                move.local = self._local(state, tick, known.under_way)
            after = (*hypothesis[:slot], move.local, *hypothesis[slot + 1 :])
            queues = self._queues(hypothesis, self._states.end, tick, rates)
            self._put(layer, number, slot, after, move, queues)
        return layer

    def _left(self, request: int, tick: int, step: int) -> Layer:
        """Nothing more is expected of a request."""
        slot = self._live.index(request)
        layer = Layer(NOBODY, step, self._weights)
        moves: dict[int, Move] = {}
        rates: dict[int, float] = {}
        for number, hypothesis in enumerate(self._hypotheses):
            local = hypothesis[slot]
            move = moves.get(local)
            if move is None:
                move = moves[local] = self._move(local, step, tick)
            queues = self._queues(hypothesis, step, tick, rates)
            after = hypothesis[:slot] + hypothesis[slot + 1 :]
            self._put(layer, number, slot, after, move, queues)
        del self._live[slot]
        return layer

    def _move(self, number: int, step: int, tick: int) -> Move:
        local = self._locals[number]
        code = local.state * self._states.steps + step
        delay_bin = bin_of(tick - local.since)
        return Move(number, self._model.table(code)[delay_bin], code, delay_bin)

    def _local(self, state: int, since: int, under_way: tuple[int, ...]) -> int:
        key = (state, since, under_way)
        found = self._numbers.get(key)
        if found is None:
            found = self._numbers[key] = len(self._locals)
            self._locals.append(Local(state, since, under_way))
        return found

    def _advance(self, layer: Layer) -> None:
        self._hypotheses, self._weights = layer.close(self._width, self._negligible)
        self._layers.append(layer)
        if len(self._weights) == 1:
            self._settle(0)
        elif len(self._layers) >= _MAX_LAYERS:
            self._settle(_MAX_LAYERS // 2)

    def _discount(self, decided: int) -> None:
        """Note for the calls of the first layers how much was dropped soon after them."""
        layers = self._layers
        for number in range(decided):
            call = layers[number].call
            if call >= 0:
                for layer in layers[number : number + _HORIZON]:
                    self.kept[call] *= layer.kept

    def _settle(self, keep: int) -> None:
        """Decide all layers but the last ``keep``, in the light of those."""
        layers = self._layers
        backward = [1.0] * len(self._weights)
        at = self._weights.index(max(self._weights))
        if layers:
            at = layers[-1].best_end()
        decided = len(layers) - keep
        self._discount(decided)
        for number in range(len(layers) - 1, -1, -1):
            layer = layers[number]
            if number < decided:
                if layer.call >= 0:
                    edge = layer.pointers[at]
                    self.best[layer.call] = layer.requests[edge]
                    self.graph[layer.call] = layer.graph(edge, self._model)
                    layer.add_posteriors(backward, self.posteriors[layer.call])
                layer.add_counts(backward, self.counts)
            at = layer.before[layer.pointers[at]]
            backward = layer.backward(backward)
        self._layers = layers[decided:]
        if not self._live and not keep:
            self._locals = []
            self._numbers = {}
            self._hypotheses = [()] * len(self._weights)
