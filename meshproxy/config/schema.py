"""The JSON Schema of the configuration file, for editors and other tools."""

from __future__ import annotations

from typing import Any

import msgspec

from meshproxy.config.model import Config
from meshproxy.config.values import DURATION_PATTERN

DIALECT = "https://json-schema.org/draft/2020-12/schema"

_NOTE = (
    "Describes the file after ${VAR} and ${VAR:-default} have been replaced. What only several "
    "values together can get wrong is told by `meshproxy config check`."
)


def schema() -> dict[str, Any]:
    """The schema (draft 2020-12). Everything that `loader.load` accepts is valid under it."""
    body = msgspec.json.decode(msgspec.json.encode(msgspec.json.schema(Config)))
    _open_durations(body)
    return {"$schema": DIALECT, "title": "meshproxy sidecar", "description": _NOTE, **body}


def _open_durations(node: Any) -> None:
    """Let durations be texts too: in the model, and so in msgspec's schema, they are numbers."""
    if isinstance(node, dict):
        if node.get("x-kind") == "duration":
            del node["x-kind"]
            node.update(type=["number", "string"], pattern=DURATION_PATTERN)
        for child in node.values():
            _open_durations(child)
    elif isinstance(node, list):
        for child in node:
            _open_durations(child)
