"""docs/configuration.md says what the model says."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from meshproxy.config.loader import load
from meshproxy.config.schema import schema
from meshproxy.config.values import parse_duration

TEXT = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text()
RECORDS: dict[str, Any] = schema()["$defs"]
ENVIRON = {"API_KEY": "k"}


def rows(record: str) -> dict[str, list[str]]:
    """The cells of the table under the heading of ``record``, by key."""
    section = re.split(r"^###? ", TEXT.partition(f"\n### {record}\n")[2], flags=re.M)[0]
    lines = re.findall(r"^\| `(\w+)` \| (.*) \|$", section, flags=re.M)
    return {key: rest.split(" | ") for key, rest in lines}


@pytest.mark.parametrize("record", RECORDS)
def test_every_key_is_there_with_its_meaning_and_default(record: str) -> None:
    fields: dict[str, Any] = RECORDS[record]["properties"]
    table = rows(record)
    assert list(table) == list(fields)
    for key, field in fields.items():
        _type, default, meaning = table[key]
        assert key == "type" or meaning == field["description"]
        required = key in RECORDS[record]["required"]
        assert same(default, field) if not required else default == "required", key


def same(cell: str, field: dict[str, Any]) -> bool:
    value = field.get("default")
    if value is None:
        return cell == "–"
    if "$ref" in field:
        return cell == "its defaults"
    if value in ([], {}):
        return cell == "empty"
    if "string" in field.get("type", ()) and isinstance(value, float):
        return parse_duration(cell.strip("`")) == value
    return yaml.safe_load(cell.strip("`")) == value


def ranges(field: dict[str, Any]) -> Iterator[tuple[str, float, float]]:
    """What numbers a field takes, also in a list: the word before the least, the least, the most.

    A duration is no number here.
    """
    for each in field.get("anyOf", [field]):
        if each.get("type") == "array":
            yield from ranges(each["items"])
        elif each.get("type") in ("integer", "number"):
            if "minimum" in each:
                yield "from", each["minimum"], each["maximum"]
            else:
                yield "more than", each["exclusiveMinimum"], each["maximum"]


@pytest.mark.parametrize("record", RECORDS)
def test_every_number_is_there_with_its_range(record: str) -> None:
    fields: dict[str, Any] = RECORDS[record]["properties"]
    numbers = r"number, (from|more than) (-?\d+) (?:to|and at most) (\d+)$"
    for key, cells in rows(record).items():
        told = [(word, float(least), float(most)) for word, least, most in
                re.findall(numbers, cells[0])]  # fmt: skip
        assert told == list(ranges(fields[key])), key


@pytest.mark.parametrize("example", re.findall(r"```yaml\n(.*?)```", TEXT, flags=re.S))
def test_every_example_loads(example: str) -> None:
    if "inbound:" not in example:
        example = "inbound: [{mode: redirect}]\n" + example
    assert load(example, ENVIRON)
