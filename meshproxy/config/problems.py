"""Mistakes in a configuration, collected so that all of them are told at once."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

Path = tuple[str | int, ...]
"""Where something stands: keys and list indices from the root."""

_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake.

    ``path`` is a place such as ``inbound[0].listen``, ``line 3, column 5`` for a syntax error, or
    empty for the file as a whole. ``message`` is one line for people.
    """

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class ConfigError(Exception):
    """The configuration cannot be used; ``problems`` lists every mistake that was found."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("; ".join(map(str, problems)))
        self.problems = problems


class Problems:
    """Collects mistakes, and which parts of the tree cannot be used because of them."""

    def __init__(self) -> None:
        self.found: list[Problem] = []
        self.reported: set[Path] = set()
        self.unusable: set[Path] = set()
        self.doubtful: set[Path] = set()
        """Places that may have been meant by an unknown key."""

    def add(self, path: Path, message: str) -> None:
        """Report a mistake that makes what is at ``path`` unusable."""
        self.note(path, message)
        self.reported.add(path)
        self.unusable.add(path)

    def note(self, path: Path, message: str) -> None:
        """Report a mistake that leaves all of the tree usable. The same one counts once."""
        problem = Problem(render(path), message)
        if problem not in self.found:
            self.found.append(problem)

    def covers(self, path: Path) -> bool:
        """Whether a mistake has made ``path``, or what is above it, unfit for further checks."""
        return any(path[:length] in self.reported for length in range(len(path) + 1))

    def touches(self, path: Path) -> bool:
        """Whether anything at ``path``, above it or below it is wrong or doubtful."""
        if self.covers(path) or path in self.doubtful:
            return True
        return any(seen[: len(path)] == path for seen in self.reported)


def render(path: Path) -> str:
    """``("inbound", 0, "listen")`` as ``inbound[0].listen``; odd keys are quoted."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        elif _PLAIN_KEY.fullmatch(step):
            text += f".{step}" if text else step
        else:
            text += f"[{json.dumps(step)}]"
    return text


def shown(text: str, limit: int = 60) -> str:
    """``text`` quoted on one line for a message, cut when it is long."""
    return json.dumps(text if len(text) <= limit else text[:limit] + "…", ensure_ascii=False)
