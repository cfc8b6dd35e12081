"""Patterns with ``*``, which stands for any text, also none. Linear in time whatever the text."""

from __future__ import annotations


class Glob:
    """One pattern. Nothing but ``*`` is special."""

    __slots__ = ("_end", "_exact", "_inner", "_start")

    def __init__(self, pattern: str) -> None:
        self._start, *inner = pattern.split("*")
        self._exact = not inner
        self._end = inner.pop() if inner else ""
        self._inner = tuple(filter(None, inner))

    def matches(self, text: str) -> bool:
        """Tell whether the whole text fits."""
        if self._exact:
            return text == self._start
        if not text.startswith(self._start):
            return False
        position = len(self._start)
        for part in self._inner:  # the leftmost place leaves most room for the rest
            position = text.find(part, position)
            if position < 0:
                return False
            position += len(part)
        return len(text) - len(self._end) >= position and text.endswith(self._end)
