"""From a request target to a path and a low-cardinality route."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final

from filters.http.attributes import LONGEST_TARGET
from meshproxy.wire.http1 import RequestLine

VARIABLE_SEGMENT: Final = re.compile(
    r"[0-9]+"  # number
    r"|[0-9A-Fa-f]{8}-(?:[0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}"  # UUID
    r"|(?=[0-9A-Fa-f]*[0-9])[0-9A-Fa-f]{8,}"  # hexadecimal id
    r"|[0-9]{4}-[0-9]{2}-[0-9]{2}\S*"  # date
    r"|(?=[^/]*[0-9])[0-9A-Za-z_=.~%+:@,-]{20,}"  # any long token with a digit in it
    r"|[^/]*@[^/]*"  # mail address
    r"|[^/]*%[0-9A-Fa-f]{2}[^/]*"  # free text
    r"|[0-9A-Za-z]{1,4}[-_][0-9]{2,}"  # prefixed number, as in ORD-1234
    r"|[^/]{65,}"  # too long for a name
)
"""A path segment that differs from request to request."""

MAX_SEGMENTS: Final = 12


class Target:
    """A request target taken apart.

    ``route`` is empty when the number of routes ran out; ``name`` is ``{method} {route}``.
    """

    __slots__ = ("name", "path", "query", "route", "routes")

    def __init__(self, routes: Routes, method: str, path: str, query: str, route: str) -> None:
        self.routes = routes
        self.name = f"{method} {route}"
        self.path = path
        self.query = query
        self.route = route


class Routes:
    """Configured templates first, then templating by the look of each segment; at most ``limit``.

    A template is a path in which a segment ``{name}`` stands for any one segment, and ``*`` at the
    end for all that follows.
    """

    def __init__(self, templates: Sequence[str], limit: int) -> None:
        self._limit = limit
        self._known: set[str] = set(templates)
        self._templates = [(_matcher(template), template) for template in templates]

    def target(self, line: RequestLine) -> Target:
        """The target of a request line; remembered as long as the line is."""
        note = line.note
        if isinstance(note, Target) and note.routes is self:
            return note
        path, query = _split(line.target.decode("utf-8", "replace"))
        method = line.method.decode("latin-1")
        route = self._route(path)
        target = Target(self, method, path[:LONGEST_TARGET], query[:LONGEST_TARGET], route)
        line.note = target
        return target

    def _route(self, path: str) -> str:
        for matches, template in self._templates:
            if matches(path):
                return template
        if not path.startswith("/"):
            return ""
        segments = path.split("/", MAX_SEGMENTS + 1)
        if len(segments) > MAX_SEGMENTS + 1:
            segments[-1] = "*"
        route = "/".join(
            "{id}" if VARIABLE_SEGMENT.fullmatch(segment) else segment for segment in segments
        )
        if route in self._known:
            return route
        if len(self._known) >= self._limit:
            return ""
        self._known.add(route)
        return route


def _matcher(template: str) -> Callable[[str], object]:
    parts = []
    for segment in template.split("/"):
        if segment == "*":
            parts.append(".*")
        elif segment.startswith("{") and segment.endswith("}"):
            parts.append("[^/]+")
        else:
            parts.append(re.escape(segment))
    return re.compile("/".join(parts)).fullmatch


def _split(target: str) -> tuple[str, str]:
    """Path and query of an origin-form or absolute-form target (RFC 9112 section 3.2)."""
    if not target.startswith("/") and "://" in target:
        rest = target.partition("://")[2]
        slash = re.search(r"[/?]", rest)
        target = rest[slash.start() :] if slash else "/"
        if target.startswith("?"):
            target = "/" + target
    path, _, query = target.partition("?")
    return path, query
