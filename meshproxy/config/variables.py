"""``${VAR}`` and ``${VAR:-default}`` in the text of a configuration; ``$${`` is a plain ``${``.

References are replaced after the YAML has been parsed, so that no value can change the structure
of the file. For the parser they are marks of private-use characters, as long as what they stand
for: like this they may stand unquoted between ``{`` and ``}``, and columns in messages stay right.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

_REFERENCE = re.compile(r'\$\$\{|\$\{([^{}"\n]*)\}|\$\{')
_CONTENT = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?")
_OPEN, _FILL, _FIRST, _LAST = 0xE000, 0xE001, 0xE002, 0xF8FF
_MARK = re.compile(f"{chr(_OPEN)}([{chr(_FIRST)}-{chr(_LAST)}]){chr(_FILL)}+")
_MARK_CHARACTER = re.compile(f"[{chr(_OPEN)}-{chr(_LAST)}]")


class Expanded(str):
    """A text in which variables were replaced: may stand for a number or a truth value too."""

    __slots__ = ()


class References:
    """The references of one text. ``marked`` is the text for the parser."""

    def __init__(self, text: str, environ: Mapping[str, str]) -> None:
        """Raises ValueError for a text that the marks cannot be told apart in."""
        if _MARK_CHARACTER.search(text):
            raise ValueError("private-use characters (U+E000 to U+F8FF) are not allowed")
        self._environ = environ
        self._sources: list[re.Match[str]] = []
        self.marked = _REFERENCE.sub(self._mark, text)

    def expand(self, text: str, mistake: Callable[[str], None]) -> str:
        """``text`` with its marks replaced: `Expanded` if there were any.

        ``mistake`` is called with a message for each that cannot be replaced.
        """
        if not _MARK.search(text):
            return text
        return Expanded(_MARK.sub(lambda mark: self._value(mark, mistake), text))

    def _mark(self, source: re.Match[str]) -> str:
        number = _FIRST + len(self._sources)
        if number > _LAST:
            raise ValueError(f"more than {_LAST - _FIRST + 1} variables")
        self._sources.append(source)
        return chr(_OPEN) + chr(number) + chr(_FILL) * max(1, len(source[0]) - 2)

    def _value(self, mark: re.Match[str], mistake: Callable[[str], None]) -> str:
        source = self._sources[ord(mark[1]) - _FIRST]
        if source[0] == "$${":
            return "${"
        content = _CONTENT.fullmatch(source[1] or "")
        if content is None:
            mistake('malformed variable: write ${NAME}, ${NAME:-default}, or $${ for a plain "${"')
            return ""
        name, default = content[1], content[2]
        value = self._environ.get(name)
        if default is not None:
            return value or str(default)
        if value is None:
            mistake(f"environment variable {name} is not set; ${{{name}:-default}} gives a default")
            return ""
        return value
