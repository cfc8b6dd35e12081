"""The published schema, and that it and the loader agree."""

from typing import Any

import jsonschema
import pytest
import yaml

from meshproxy.config.loader import load
from meshproxy.config.problems import ConfigError
from meshproxy.config.schema import schema

IN = 'inbound: [{upstream: "127.0.0.1:8080"}]\n'
VALIDATOR = jsonschema.Draft202012Validator(schema())


def test_the_schema_is_valid() -> None:
    jsonschema.Draft202012Validator.check_schema(schema())
    assert schema()["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_every_field_is_described() -> None:
    for record, body in schema()["$defs"].items():
        for name, field in body["properties"].items():
            assert name == "type" or field.get("description"), f"{record}.{name}"


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        (IN, True),
        (IN + "limits: {drain: 5s, connect_timeout: 0.5, stream_idle: 1h30m}", True),
        (IN + "limits: {drain: soon}", False),
        (IN + "limits: {drain: 0}", False),
        (IN + "limits: {drain: [5]}", False),
        (IN + "limits: {headers: 10.0}", True),
        (IN + "limits: {headers: 0}", False),
        (IN + "limits: {unknown: 0}", False),
        (IN + "health: {}", True),
        (IN + "health: null", True),
        (IN + "admin: null", False),
        (IN + "service: {version: 1.1}", False),
        (IN + "export: [{type: console}, {type: file, path: spans.jsonl}]", True),
        (IN + "export: [{type: file}]", False),
        (IN + "export: [{type: kafka}]", False),
        (IN + "export: [{endpoint: 'http://c'}]", False),
        (IN + "propagation: {trust: nobody}", False),
        ('outbound: [{upstream: "rabbit:5672", protocol: amqp}]', False),
        ('outbound: [{upstream: "kafka:9092", protocol: kafka}]', True),
        ('outbound: [{upstream: "a:1", protocol: kafka, kafka: {per_record: true}}]', True),
        ('outbound: [{upstream: "a:1", protocol: kafka, kafka: {broker_ports: 0}}]', False),
        ('inbound: [{upstream: "kafka:9092", protocol: kafka}]', False),
        ('outbound: [{upstream: "a:1", upstream_tls: {}}]', True),
        ('outbound: [{upstream: "a:1", tls: {}}]', False),
    ],
)
def test_schema_and_loader_agree(text: str, fits: bool) -> None:
    assert VALIDATOR.is_valid(yaml.safe_load(text)) is fits
    assert loads(text) is fits


def loads(text: str) -> bool:
    try:
        load(text, {})
    except ConfigError:
        return False
    return True


def test_a_schema_is_not_changed_by_its_user() -> None:
    first: dict[str, Any] = schema()
    first["$defs"].clear()
    assert schema()["$defs"]
