"""The Prometheus text exposition format, version 0.0.4.

Written here rather than taken from ``prometheus_client``, which costs every sidecar 4.4 MB of
memory (docs/architecture.md); the tests read what this writes with that library's parser.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Labels = Sequence[str]
Samples = Iterable[tuple[Labels, float]]

_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


class Exposition:
    """Collects metric families; `text` is what a scraper reads."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def counter(self, name: str, help_text: str, labels: Labels, samples: Samples) -> None:
        """A family of counters; ``_total`` is added to the name."""
        self._family(f"{name}_total", "counter", help_text, labels, samples)

    def gauge(self, name: str, help_text: str, labels: Labels, samples: Samples) -> None:
        """A family of gauges."""
        self._family(name, "gauge", help_text, labels, samples)

    def histogram(
        self,
        name: str,
        help_text: str,
        labels: Labels,
        bounds: Sequence[float],
        samples: Iterable[tuple[Labels, Sequence[int], float]],
    ) -> None:
        """A family of histograms.

        A sample is its label values, the counts by bucket, one more than ``bounds``, and the sum.
        """
        self._head(name, "histogram", help_text)
        names = (*labels, "le")
        tops = [f"{bound:g}" for bound in bounds] + ["+Inf"]
        for values, counts, total in samples:
            cumulative = 0
            for top, count in zip(tops, counts, strict=True):
                cumulative += count
                self._sample(f"{name}_bucket", names, (*values, top), cumulative)
            self._sample(f"{name}_sum", labels, values, total)
            self._sample(f"{name}_count", labels, values, cumulative)

    def text(self) -> bytes:
        """All families."""
        return "".join(self._lines).encode("utf-8", "replace")

    def _family(
        self, name: str, kind: str, help_text: str, labels: Labels, samples: Samples
    ) -> None:
        self._head(name, kind, help_text)
        for values, number in samples:
            self._sample(name, labels, values, number)

    def _head(self, name: str, kind: str, help_text: str) -> None:
        self._lines.append(f"# HELP {name} {help_text}\n# TYPE {name} {kind}\n")

    def _sample(self, name: str, labels: Labels, values: Labels, number: float) -> None:
        pairs = ",".join(
            f'{label}="{value.translate(_ESCAPES)}"'
            for label, value in zip(labels, values, strict=True)
        )
        self._lines.append(f"{name}{{{pairs}}} {number}\n" if pairs else f"{name} {number}\n")
