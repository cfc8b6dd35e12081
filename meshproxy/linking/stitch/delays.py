"""Densities of delays: histograms over bins that widen with the delay, smoothed.

Delays are counted in ticks. Up to 16 ticks each has a bin of its own; beyond, each doubling has
eight.
"""

from __future__ import annotations

from math import exp
from typing import Final

_LINEAR: Final = 16
_OCTAVES: Final = 44
_BANDWIDTH: Final = 1.8
"""Twice what is best for a normal distribution: too wide costs less than too narrow."""
BINS: Final = _LINEAR + 8 * _OCTAVES


def bin_of(delay: int) -> int:
    """The bin of a delay in ticks; negative ones count as none."""
    if delay < _LINEAR:
        return delay if delay > 0 else 0
    octave = delay.bit_length() - 5
    if octave >= _OCTAVES:
        return BINS - 1
    return _LINEAR + 8 * octave + (delay >> (octave + 1)) - 8


def width_of(number: int) -> float:
    """Ticks that a bin spans."""
    return 1.0 if number < _LINEAR else float(2 << ((number - _LINEAR) >> 3))


def smoothed(counts: dict[int, float]) -> dict[int, float]:
    """Spread weights by bin over neighbouring bins; the sum becomes one.

    The bandwidth follows Silverman's rule, doubled: it shrinks with the number of delays and grows
    with the spread of their middle half.
    """
    total = sum(counts.values())
    bandwidth = _bandwidth(counts, total)
    reach = int(3.0 * bandwidth)
    kernel = [exp(-0.5 * (i / bandwidth) ** 2) for i in range(reach + 1)]
    out: dict[int, float] = {}
    for number, weight in counts.items():
        low, high = max(0, number - reach), min(BINS - 1, number + reach)
        norm = 0.0
        for other in range(low, high + 1):
            norm += kernel[abs(other - number)]
        scale = weight / (norm * total)
        for other in range(low, high + 1):
            out[other] = out.get(other, 0.0) + scale * kernel[abs(other - number)]
    return out


def _bandwidth(counts: dict[int, float], total: float) -> float:
    numbers = sorted(counts)
    quartiles = [0, 0]
    below = 0.0
    for number in numbers:
        if below < 0.25 * total:
            quartiles[0] = number
        if below < 0.75 * total:
            quartiles[1] = number
        below += counts[number]
    spread = (quartiles[1] - quartiles[0] + 1) / 1.34
    return float(min(8.0, max(0.3, _BANDWIDTH * spread * max(total, 1.0) ** -0.2)))
