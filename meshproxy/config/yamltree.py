"""YAML text to a tree of plain values, with every mistake told by its path.

Scalars follow YAML 1.2's core schema: ``off`` and ``yes`` are texts, ``1:30`` is no number.
Tags, keys that are not texts and documents beyond the first are refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

import yaml

from meshproxy.config.problems import ConfigError, Path, Problem, Problems, shown
from meshproxy.config.variables import References

NODE_LIMIT = 20_000
"""Nodes in a tree, aliases followed: far beyond any real file, and a billion laughs ends here."""

DEPTH_LIMIT = 50
"""Levels of nesting: the model has 6, and what is deeper would only exhaust the stack."""

_TAG = "tag:yaml.org,2002:"
_INTEGER_LIMIT = 2**63
_PLAIN_KINDS = (
    ("null", re.compile(r"(~|null|Null|NULL|)\Z"), [*"~nN", ""]),
    ("bool", re.compile(r"(true|True|TRUE|false|False|FALSE)\Z"), [*"tTfF"]),
    ("int", re.compile(r"([-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)\Z"), [*"-+0123456789"]),
    (
        "float",
        re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z"),
        [*"-+.0123456789"],
    ),
)


class _Loader(yaml.SafeLoader):
    pass


_Loader.yaml_implicit_resolvers = {}


for _kind, _pattern, _first in _PLAIN_KINDS:
    _Loader.add_implicit_resolver(_TAG + _kind, _pattern, _first)


def plain_scalar(text: str) -> object:
    """What ``text`` means as an unquoted scalar: None, bool, int, float or str.

    Raises ValueError for a number that is too large.
    """
    for kind, pattern, _ in _PLAIN_KINDS:
        if pattern.match(text):
            return _scalar(kind, text)
    return text


def parse(text: str, environ: Mapping[str, str], problems: Problems) -> object:
    """The tree of ``text``: dict, list, str, int, float, bool or None.

    Mistakes within the tree go to ``problems``. Raises ConfigError where there is no tree at all.
    """
    try:
        references = References(text, environ)
        root = yaml.compose(references.marked, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        raise _syntax_error(error) from None
    except yaml.reader.ReaderError as error:
        line, column = _place(text, error.position)
        message = f"the character U+{int(error.character):04X} is not allowed in YAML"
        raise ConfigError([Problem(f"line {line}, column {column}", message)]) from None
    except RecursionError:
        raise ConfigError([Problem("", "nested too deeply")]) from None
    except (ValueError, OverflowError) as error:
        raise ConfigError([Problem("", f"not valid YAML: {error}")]) from None
    if root is None:
        return None
    return _Builder(references, problems).build(root, ())


class _Builder:
    """Turns nodes into values, counting them: aliases may repeat a node, or contain themselves."""

    def __init__(self, references: References, problems: Problems) -> None:
        self._references = references
        self._problems = problems
        self._nodes = 0

    def build(self, node: yaml.Node, path: Path) -> object:
        self._nodes += 1
        if self._nodes > NODE_LIMIT:
            raise ConfigError([Problem("", f"more than {NODE_LIMIT} values")])
        if len(path) > DEPTH_LIMIT:
            raise ConfigError([Problem("", "nested too deeply")])
        if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
            return [self.build(item, (*path, i)) for i, item in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        self._problems.add(path, f"the YAML tag {shown(node.tag)} is not supported")
        return None

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, object]:
        values: dict[str, object] = {}
        for key_node, value_node in node.value:
            key = self._key(key_node, path)
            if key is None:
                continue
            if key in values:
                line = key_node.start_mark.line + 1
                self._problems.note((*path, key), f"is given twice (again on line {line})")
                continue
            values[key] = self.build(value_node, (*path, key))
        return values

    def _key(self, node: yaml.Node, path: Path) -> str | None:
        if isinstance(node, yaml.ScalarNode) and node.tag == _TAG + "str":
            return str(self._text(node, path))
        line = node.start_mark.line + 1
        self._problems.note(path, f"the key on line {line} must be a text (put it in quotes)")
        return None

    def _scalar(self, node: yaml.ScalarNode, path: Path) -> object:
        kind = node.tag.removeprefix(_TAG)
        if kind == "str":
            return self._text(node, path)
        try:
            return _scalar(kind, node.value)
        except ValueError as error:
            self._problems.add(path, str(error))
            return None

    def _text(self, node: yaml.ScalarNode, path: Path) -> str:
        text = self._references.expand(
            node.value, lambda message: self._problems.add(path, message)
        )
        if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
            self._problems.add(path, "holds characters that are not valid Unicode")
            return ""
        return text


def _scalar(kind: str, text: str) -> object:
    if kind == "null":
        return None
    if kind == "bool":
        return text.lower() == "true"
    if kind == "int":
        return _integer(text)
    if kind == "float":
        return _float(text)
    raise ValueError(f"the YAML tag {shown('!!' + kind)} is not supported")


def _integer(text: str) -> int:
    if len(text) > 30:
        raise ValueError("number is too large")
    try:
        number = int(text, 0 if text[:2] in ("0x", "0o") else 10)
    except ValueError:
        raise ValueError("must be a whole number") from None
    if abs(number) >= _INTEGER_LIMIT:
        raise ValueError("number is too large")
    return number


def _float(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise ValueError("must be a number") from None
    if not math.isfinite(number):
        raise ValueError("number is too large")
    return number


def _syntax_error(error: yaml.MarkedYAMLError) -> ConfigError:
    mark = error.problem_mark or error.context_mark
    place = f"line {mark.line + 1}, column {mark.column + 1}" if mark else ""
    text = "not valid YAML: " + " ".join(filter(None, (error.context, error.problem)))
    return ConfigError([Problem(place, text)])


def _place(text: str, position: int) -> tuple[int, int]:
    before = text[:position]
    return before.count("\n") + 1, position - before.rfind("\n")
