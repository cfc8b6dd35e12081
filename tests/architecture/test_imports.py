"""Imports run one way. Read from the source, so that nothing has to be executed or installed.

meshproxy never imports ``filters``: it finds them by entry point, so that a third party's filter is
installed like ours.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted(
    path for package in ("meshproxy", "filters") for path in (ROOT / package).rglob("*.py")
)

SHARED = ("meshproxy.__version__", "meshproxy.stats")
"""Plain numbers and a constant, of no room: everybody may have them, and they import nobody."""

MAY_IMPORT = {
    "meshproxy.trace": ("meshproxy.trace",),
    "meshproxy.linking": ("meshproxy.linking", "meshproxy.trace"),
    "meshproxy.wire": ("meshproxy.wire",),
    "meshproxy.stats": (),
    "meshproxy.filter": (
        "meshproxy.trace", "meshproxy.linking", "meshproxy.wire", "meshproxy.config.model", *SHARED,
    ),
    "filters.kafka.client": (
        "filters.kafka.client", "meshproxy.inprocess", "meshproxy.trace", "meshproxy.config.model",
        *SHARED,
    ),
    "filters": (
        "filters", "meshproxy.filter", "meshproxy.trace", "meshproxy.linking", "meshproxy.wire",
        "meshproxy.config.model", *SHARED,
    ),
    "meshproxy.transport": (
        "meshproxy.transport", "meshproxy.wire", "meshproxy.filter", "meshproxy.config",
        "meshproxy.trace", "meshproxy.linking.sockets", "meshproxy.logs", *SHARED,
    ),
    "meshproxy.export": (
        "meshproxy.export", "meshproxy.trace", "meshproxy.config", "meshproxy.logs", *SHARED,
    ),
    "meshproxy.inprocess": (
        "meshproxy.inprocess", "meshproxy.export", "meshproxy.trace", "meshproxy.config.model",
        "meshproxy.config.formats", *SHARED,
    ),
}  # fmt: skip
"""What a room may import of this project. Rooms that are not here may import all but `CLOSED`."""

CLOSED = {
    "filters": {"filters": "always"},
    "filters.kafka.client": {"filters.kafka.client": "always"},
    "meshproxy.inprocess": {"meshproxy.inprocess": "always", "filters.kafka.client": "always"},
    "aiokafka": {"filters.kafka.client": "always", "meshproxy.demo": "always"},
    "meshproxy.sidecar": {
        "meshproxy.sidecar": "always",
        "meshproxy.demo": "lazily",
        "meshproxy.cli": "lazily",
    },
}
"""Who may import these, and whether at the top of a module or within functions only."""

PURE = ("meshproxy.trace", "meshproxy.linking", "meshproxy.wire", "filters")
IMPURE = frozenset(
    {"asyncio", "socket", "ssl", "time", "random", "secrets", "os", "io", "threading", "aiohttp",
     "uvloop", "structlog", "datetime", "uuid"}
)  # fmt: skip
"""I/O, clocks, randomness: pure rooms are given these as arguments."""

IN_APPLICATIONS = ("filters.kafka.client",)
"""Not pure though it is a filter: it runs in an application, where nobody gives it anything."""


@dataclass(frozen=True)
class Import:
    """One imported name. ``lazy``: within a function; ``typing``: for the type checker only."""

    name: str
    line: int
    lazy: bool
    typing: bool


def imports(source: str, module: str, is_package: bool) -> list[Import]:
    """All that ``source`` imports, also by `importlib.import_module` with a constant name."""
    found: list[Import] = []
    package = module if is_package else module.rpartition(".")[0]

    def visit(node: ast.AST, lazy: bool, typing: bool) -> None:
        for name in _names(node, package):
            found.append(Import(name, getattr(node, "lineno", 0), lazy, typing))
        lazy = lazy or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            for child in node.body:
                visit(child, lazy, True)
            for child in node.orelse:
                visit(child, lazy, typing)
            return
        for child in ast.iter_child_nodes(node):
            visit(child, lazy, typing)

    visit(ast.parse(source), False, False)
    return found


def _names(node: ast.AST, package: str) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            parents = package.split(".")
            parents = parents[: len(parents) - node.level + 1]
            base = ".".join([*parents, *([node.module] if node.module else [])])
        return [f"{base}.{alias.name}" for alias in node.names]
    if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
        called = ast.unparse(node.func).rpartition(".")[2]
        if called in ("import_module", "__import__"):
            return [str(node.args[0].value)]
    return []


def within(name: str, *rooms: str) -> bool:
    return any(name == room or name.startswith(room + ".") for room in rooms)


def violations(source: str, module: str, is_package: bool = False) -> list[str]:
    """Sentences that say which imports of ``source`` are against the rules."""
    return [
        f"{module}, line {each.line}: {each.name} {problem}"
        for each in imports(source, module, is_package)
        for problem in (_direction(each, module), _closed(each, module), _purity(each, module))
        if problem
    ]


def _direction(each: Import, module: str) -> str:
    room = next((room for room in MAY_IMPORT if within(module, room)), None)
    if room is None or not within(each.name, "meshproxy", "filters"):
        return ""
    return "" if within(each.name, *MAY_IMPORT[room]) else f"is not for {room}"


def _closed(each: Import, module: str) -> str:
    for closed, users in CLOSED.items():
        if within(each.name, closed):
            how = next((how for user, how in users.items() if within(module, user)), "never")
            if how == "never":
                return "is not for others to import"
            if how == "lazily" and not (each.lazy or each.typing):
                return "may be imported within functions only"
    return ""


def _purity(each: Import, module: str) -> str:
    pure = within(module, *PURE) and not within(module, *IN_APPLICATIONS)
    impure = pure and each.name.partition(".")[0] in IMPURE
    return "has no place in a pure room" if impure and not each.typing else ""


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@pytest.mark.parametrize("path", SOURCES, ids=module_of)
def test_imports_run_one_way(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert violations(source, module_of(path), path.name == "__init__.py") == []


def test_all_rooms_are_there() -> None:
    modules = {module_of(path) for path in SOURCES}
    assert modules.issuperset(MAY_IMPORT)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("meshproxy.wire.http1", "import meshproxy.trace.span"),
        ("meshproxy.wire.http1", "from meshproxy import trace"),
        ("meshproxy.wire.http1", "from ..trace import span"),
        ("meshproxy.wire.http1", "def f():\n    from meshproxy.trace import span"),
        ("meshproxy.wire.http1", "import os.path"),
        ("meshproxy.wire.http1", "from time import time"),
        ("meshproxy.trace.span", "from meshproxy.linking.gaps import GapReport"),
        ("meshproxy.linking.linker", "from meshproxy.stats import Stats"),
        ("meshproxy.filter", "from meshproxy.config.loading import load"),
        ("meshproxy.transport.server", "from meshproxy.linking.linker import Linker"),
        ("meshproxy.transport.server", "from meshproxy.sidecar.run import run"),
        ("meshproxy.export.otlp", "from meshproxy.wire.http1 import Request"),
        ("meshproxy.sidecar.run", "import filters.http"),
        ("meshproxy.cli", "importlib.import_module('filters.http')"),
        ("meshproxy.cli", "from meshproxy.sidecar.run import run"),
        ("meshproxy.collector.run", "def f():\n    from meshproxy.sidecar.run import run"),
        ("filters.http.tracing", "from meshproxy.transport.server import ServerConnection"),
        ("filters.http.tracing", "import random"),
        ("filters.http.tracing", "from meshproxy.inprocess import tracer"),
        ("filters.kafka.tracing", "from filters.kafka.client import process"),
        ("filters.kafka.tracing", "import aiokafka.record"),
        ("filters.kafka.client.producer", "from meshproxy.linking.linker import Linker"),
        ("filters.kafka.client.producer", "from filters.kafka.tracing import KafkaTracing"),
        ("meshproxy.inprocess.tracer", "from meshproxy.sidecar.app import Sidecar"),
        ("meshproxy.sidecar.app", "from meshproxy.inprocess import tracer"),
    ],
)
def test_what_is_against_the_rules_is_found(module: str, source: str) -> None:
    assert violations(source, module)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("meshproxy.wire.http1", "from meshproxy.wire.fields import Field"),
        ("meshproxy.wire.http1", "from .fields import Field"),
        ("meshproxy.wire.http1", "if TYPE_CHECKING:\n    from datetime import datetime"),
        ("meshproxy.filter", "from meshproxy.config import model"),
        ("meshproxy.cli", "def f():\n    from meshproxy.sidecar.run import run"),
        ("meshproxy.sidecar.run", "from meshproxy.transport.server import ServerConnection"),
        ("filters.http.tracing", "from filters.http import names"),
        ("filters.kafka.client.producer", "import aiokafka, asyncio"),
        ("filters.kafka.client.producer", "from meshproxy.inprocess import tracer"),
        ("meshproxy.inprocess.background", "from meshproxy.export.retry import Retry"),
    ],
)
def test_what_is_within_the_rules_is_let_pass(module: str, source: str) -> None:
    assert violations(source, module) == []
