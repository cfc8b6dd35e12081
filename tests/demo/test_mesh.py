"""The configurations of the demo's sidecars are valid and put a sidecar on every edge."""

from __future__ import annotations

from itertools import count
from pathlib import Path

import pytest
import yaml

from meshproxy.config.loader import load_file
from meshproxy.config.model import Config
from meshproxy.demo.mesh import BROKER_NODE, CALLS, CONSUMER, KAFKA, find_places, sidecar_config
from meshproxy.demo.services.__main__ import MODULES

COLLECTOR = "http://127.0.0.1:4318"
BROKER = "127.0.0.1:9092"
PLACES = find_places(count(1024).__next__)


def test_every_service_of_the_mesh_can_be_run() -> None:
    assert set(MODULES) == set(CALLS)
    assert {peer for peers in CALLS.values() for peer in peers} < set(CALLS)


@pytest.fixture
def configs(tmp_path: Path) -> dict[str, Config]:
    """What the sidecars would read."""
    found = {}
    for name in CALLS:
        file = tmp_path / f"{name}.yaml"
        file.write_text(yaml.safe_dump(sidecar_config(name, PLACES, COLLECTOR, BROKER)))
        found[name] = load_file(str(file), {})
    return found


def test_each_sidecar_stands_before_its_service_and_before_each_neighbour(
    configs: dict[str, Config],
) -> None:
    for name, config in configs.items():
        called = [] if name == CONSUMER else [f"127.0.0.1:{PLACES[name].app}"]
        assert config.service.name == name
        assert [str(each.upstream) for each in config.inbound] == called
        http = [each for each in config.outbound if each.protocol != "kafka"]
        assert {each.peer: str(each.upstream) for each in http} == {
            peer: f"127.0.0.1:{PLACES[peer].inbound}" for peer in CALLS[name]
        }


def test_those_who_speak_to_the_broker_do_so_through_their_sidecar(
    configs: dict[str, Config],
) -> None:
    listeners = {
        name: [each for each in config.outbound if each.protocol == "kafka"]
        for name, config in configs.items()
    }
    assert {name for name, found in listeners.items() if found} == set(KAFKA)
    for name in KAFKA:
        (listener,) = listeners[name]
        assert str(listener.listen) == f"127.0.0.1:{PLACES[name].bootstrap}"
        assert str(listener.upstream) == BROKER
        assert listener.kafka is not None
        assert listener.kafka.broker_ports == PLACES[name].broker - BROKER_NODE
