"""Colour, only where it helps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TextIO


class Palette:
    """Wraps text in terminal colours, or leaves it as it is."""

    def __init__(self, enabled: bool) -> None:
        self._enabled = enabled

    @classmethod
    def for_stream(cls, stream: TextIO, environ: Mapping[str, str]) -> Palette:
        """Colours on a terminal, unless ``NO_COLOR`` is set and not empty (no-color.org)."""
        return cls(stream.isatty() and not environ.get("NO_COLOR"))

    def bold(self, text: str) -> str:
        """Headings."""
        return self._paint("1", text)

    def red(self, text: str) -> str:
        """Errors."""
        return self._paint("31", text)

    def green(self, text: str) -> str:
        """What was mended."""
        return self._paint("32", text)

    def yellow(self, text: str) -> str:
        """What was left open."""
        return self._paint("33", text)

    def _paint(self, code: str, text: str) -> str:
        return f"\033[{code}m{text}\033[0m" if self._enabled else text
