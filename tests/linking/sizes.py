"""How much memory something takes with all that it leads to."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterator


def size_of(root: object) -> int:
    """Bytes of an object and of everything that can be reached from it, each counted once."""
    seen = {id(root)}
    waiting = [root]
    total = 0
    while waiting:
        each = waiting.pop()
        total += sys.getsizeof(each)
        for part in _parts(each):
            if id(part) not in seen and not isinstance(part, type):
                seen.add(id(part))
                waiting.append(part)
    return total


def _parts(whole: object) -> Iterator[object]:
    if isinstance(whole, dict):
        yield from whole.keys()
        yield from whole.values()
    elif isinstance(whole, list | tuple | set | frozenset | deque):
        yield from whole
    elif type(whole).__module__.startswith("meshproxy."):
        for kind in type(whole).__mro__:
            for name in getattr(kind, "__slots__", ()):
                if hasattr(whole, name):
                    yield getattr(whole, name)
        yield from getattr(whole, "__dict__", {}).values()
