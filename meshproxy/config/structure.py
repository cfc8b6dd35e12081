"""Conversion of a tree to the model, and every way in which the two do not fit, in plain words.

The conversion itself stops at the first mistake; only then is the tree held against the model's
JSON Schema, which finds all of them. That library is large, so it is not loaded before.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol, cast

import msgspec

from meshproxy.config.model import Config
from meshproxy.config.problems import Path, Problems, shown

PLANNED_PROTOCOLS = ("amqp", "grpc", "http2", "postgres")
"""Values of ``protocol`` that the design knows and this version does not."""

_TYPE_WORDS = {
    "string": "a text",
    "number": "a number",
    "integer": "a whole number",
    "boolean": "true or false",
    "array": "a list",
    "object": "a mapping",
    "null": "empty",
}


class _SchemaError(Protocol):
    """What is used of `jsonschema.ValidationError`; there, all of it may be unset."""

    absolute_path: Iterable[str | int]
    schema_path: Sequence[str | int]
    validator: str
    validator_value: Any
    schema: dict[str, Any]
    instance: Any
    context: Sequence[_SchemaError]
    message: str


class Origins:
    """Where the items of the lists of a pruned tree stood before."""

    def __init__(self) -> None:
        self.kept: dict[Path, list[int]] = {}

    def __call__(self, path: Path) -> Path:
        """The original path of what now is at ``path``."""
        original: Path = ()
        for step in path:
            if isinstance(step, int) and original in self.kept:
                step = self.kept[original][step]
            original = (*original, step)
        return original


def convert(tree: dict[str, Any], problems: Problems) -> tuple[Config | None, Origins]:
    """The configuration in ``tree`` without its unusable parts; mistakes go to ``problems``.

    None where so much is missing that nothing can be said about the whole.
    """
    pruned, origins = _prune(tree, problems)
    try:
        return msgspec.convert(pruned, Config), origins
    except msgspec.ValidationError as error:
        explanation = str(error)
    _report(tree, problems)
    if not problems.found:
        problems.note((), explanation)
    _spoil_incomplete(tree, problems)
    pruned, origins = _prune(tree, problems)
    try:
        return msgspec.convert(pruned, Config), origins
    except msgspec.ValidationError:
        return None, origins


def _prune(tree: dict[str, Any], problems: Problems) -> tuple[Any, Origins]:
    origins = Origins()

    def prune(value: Any, path: Path) -> Any:
        if isinstance(value, dict):
            places = {key: (*path, key) for key in value}
            return {
                key: prune(value[key], place)
                for key, place in places.items()
                if place not in problems.unusable
            }
        if isinstance(value, list):
            kept = [i for i in range(len(value)) if (*path, i) not in problems.unusable]
            origins.kept[path] = kept
            return [prune(value[i], (*path, i)) for i in kept]
        return value

    return prune(tree, ()), origins


def _report(tree: dict[str, Any], problems: Problems) -> None:
    for leaf in _leaf_errors(tree):
        _explain(leaf, problems)


def _spoil_incomplete(tree: dict[str, Any], problems: Problems) -> None:
    """Give up the records that lack, without their unusable parts, something that they require."""
    pruned, origins = _prune(tree, problems)
    for leaf in _leaf_errors(pruned):
        problems.unusable.add(origins(tuple(leaf.absolute_path)))


def _leaf_errors(tree: dict[str, Any]) -> Iterator[_SchemaError]:
    from jsonschema import Draft202012Validator

    for error in Draft202012Validator(msgspec.json.schema(Config)).iter_errors(tree):
        yield from _leaves(cast(_SchemaError, error))


def _leaves(error: _SchemaError) -> Iterator[_SchemaError]:
    """``error`` itself, or of a choice (``anyOf``) the errors of the branch that was meant."""
    if error.validator != "anyOf":
        yield error
        return
    variants = error.schema.get("discriminator", {}).get("mapping")
    tag = error.instance.get("type") if isinstance(error.instance, dict) else None
    if variants and not (isinstance(tag, str) and tag in variants):
        yield error
        return
    for inner in error.context:
        branch = error.validator_value[inner.schema_path[0]]
        meant = branch.get("$ref") == variants[tag] if variants else branch.get("type") != "null"
        if meant:
            yield from _leaves(inner)


def _explain(error: _SchemaError, problems: Problems) -> None:
    path: Path = tuple(error.absolute_path)
    if error.validator == "additionalProperties":
        _unknown_keys(error.instance, list(error.schema["properties"]), path, problems)
    elif error.validator == "required":
        for key in error.validator_value:
            if key not in error.instance:
                problems.add((*path, key), "is required")
    elif problems.covers(path):
        return
    elif error.validator == "anyOf":
        _wrong_variant(error, path, problems)
    else:
        problems.add(path, _wrong_value(error, path))


def _unknown_keys(given: dict[str, Any], known: list[str], path: Path, problems: Problems) -> None:
    for key in given:
        if key in known:
            continue
        near = _nearest(key, known)
        if near:
            problems.doubtful.add((*path, near))
        problems.add((*path, key), f"unknown key{_did_you_mean(near)}")


def _wrong_variant(error: _SchemaError, path: Path, problems: Problems) -> None:
    kinds = list(error.schema["discriminator"]["mapping"])
    if not isinstance(error.instance, dict):
        problems.add(path, _wrong_type("object", error.instance))
    elif "type" not in error.instance:
        problems.add((*path, "type"), f"is required: one of {', '.join(kinds)}")
    elif not problems.covers((*path, "type")):
        problems.add((*path, "type"), _not_one_of(error.instance["type"], kinds))


def _wrong_value(error: _SchemaError, path: Path) -> str:
    limit = error.validator_value
    match error.validator:
        case "type":
            return _wrong_type(limit, error.instance)
        case "enum":
            return _wrong_choice(error.instance, limit, path)
        case "minimum":
            return f"must be at least {limit}"
        case "maximum":
            return f"must be at most {limit}"
        case "exclusiveMinimum":
            return f"must be more than {limit}"
        case "minLength":
            return "must not be empty"
        case _:
            return str(error.message)


def _wrong_type(wanted: str, value: object) -> str:
    if wanted == "integer" and isinstance(value, float):
        return "must be a whole number"
    message = f"must be {_TYPE_WORDS[wanted]}, not {_word(value)}"
    if wanted == "string" and isinstance(value, bool | int | float):
        message += " (put it in quotes)"
    return message


def _word(value: object) -> str:
    match value:
        case None:
            return "empty"
        case bool():
            return "a truth value"
        case int() | float():
            return "a number"
        case str():
            return "a text"
        case list():
            return "a list"
        case _:
            return "a mapping"


def _wrong_choice(value: object, choices: list[str], path: Path) -> str:
    if path[-1] == "protocol" and value in PLANNED_PROTOCOLS:
        return f"protocol {value} is not there yet; available: {', '.join(choices)}"
    return _not_one_of(value, choices)


def _not_one_of(value: object, choices: list[str]) -> str:
    message = f"must be one of {', '.join(choices)}, not "
    if not isinstance(value, str):
        return message + _word(value)
    return message + shown(value) + _did_you_mean(_nearest(value, choices))


def _did_you_mean(near: str | None) -> str:
    return f', did you mean "{near}"?' if near else ""


def _nearest(word: str, known: list[str]) -> str | None:
    from difflib import get_close_matches

    return next(iter(get_close_matches(word[:100].lower(), known, n=1)), None)
