"""Prepares a tree for conversion: reads durations, checks the syntax of texts, and gives values
that came out of variables the type that their place asks for.

What does not fit the model in other ways (`meshproxy.config.structure` tells of that) is left as
it is.
"""

from __future__ import annotations

from typing import Any

from msgspec import inspect

from meshproxy.config import formats
from meshproxy.config.problems import Path, Problems
from meshproxy.config.values import parse_duration
from meshproxy.config.variables import Expanded
from meshproxy.config.yamltree import plain_scalar


def normalise(tree: dict[str, Any], type_: inspect.Type, problems: Problems) -> dict[str, Any]:
    """``tree`` as the record ``type_`` wants it; mistakes go to ``problems``."""
    result: dict[str, Any] = _Normaliser(problems).visit(tree, type_, (), None)
    return result


class _Normaliser:
    def __init__(self, problems: Problems) -> None:
        self._problems = problems

    def visit(self, value: Any, type_: inspect.Type, path: Path, kind: str | None) -> Any:
        if isinstance(type_, inspect.Metadata):
            return self.visit(value, type_.type, path, (type_.extra or {}).get("kind", kind))
        if isinstance(type_, inspect.UnionType):
            return self._union(value, type_, path, kind)
        if isinstance(value, dict):
            return self._mapping(value, type_, path)
        if isinstance(value, list) and isinstance(type_, inspect.VarTupleType):
            return [
                self.visit(item, type_.item_type, (*path, i), None) for i, item in enumerate(value)
            ]
        return self._scalar(value, type_, path, kind)

    def _union(
        self, value: object, type_: inspect.UnionType, path: Path, kind: str | None
    ) -> object:
        members = [member for member in type_.types if not isinstance(member, inspect.NoneType)]
        if len(members) < len(type_.types) and isinstance(value, Expanded) and not value:
            return None
        if len(members) == 1:
            return self.visit(value, members[0], path, kind)
        tag = value.get("type") if isinstance(value, dict) else None
        for member in members:
            if isinstance(member, inspect.StructType) and member.tag == tag:
                return self.visit(value, member, path, kind)
        return value

    def _mapping(self, value: dict[str, object], type_: inspect.Type, path: Path) -> object:
        if isinstance(type_, inspect.StructType):
            return self._record(value, type_, path)
        if isinstance(type_, inspect.DictType):
            return {key: self._entry(key, item, type_, (*path, key)) for key, item in value.items()}
        return value

    def _record(self, value: dict[str, object], type_: inspect.StructType, path: Path) -> object:
        fields = {field.encode_name: field for field in type_.fields}
        return {
            key: self.visit(item, fields[key].type, (*path, key), None) if key in fields else item
            for key, item in value.items()
        }

    def _entry(self, key: str, item: object, type_: inspect.DictType, path: Path) -> object:
        self.visit(key, type_.key_type, path, None)
        return self.visit(item, type_.value_type, path, None)

    def _scalar(self, value: object, type_: inspect.Type, path: Path, kind: str | None) -> object:
        if self._problems.covers(path):
            return value
        try:
            if isinstance(value, str) and kind == "duration":
                return parse_duration(value)
            if isinstance(value, Expanded):
                value = _typed(value, type_)
            if (
                isinstance(value, float)
                and value.is_integer()
                and isinstance(type_, inspect.IntType)
            ):
                return int(value)
            if isinstance(value, str) and kind is not None:
                formats.check(kind, value)
        except ValueError as error:
            self._problems.add(path, str(error))
        return value


def _typed(value: Expanded, type_: inspect.Type) -> object:
    if isinstance(type_, inspect.IntType | inspect.FloatType | inspect.BoolType):
        return plain_scalar(value)
    return str(value)
