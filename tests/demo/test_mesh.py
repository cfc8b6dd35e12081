"""The configurations of the demo's sidecars are valid and put a sidecar on every edge."""

from __future__ import annotations

from itertools import count
from pathlib import Path

import yaml

from meshproxy.config.loader import load_file
from meshproxy.demo.mesh import CALLS, find_places, sidecar_config
from meshproxy.demo.services.__main__ import MODULES

COLLECTOR = "http://127.0.0.1:4318"


def test_every_service_of_the_mesh_can_be_run() -> None:
    assert set(MODULES) == set(CALLS)
    assert {peer for peers in CALLS.values() for peer in peers} < set(CALLS)


def test_each_sidecar_stands_before_its_service_and_before_each_neighbour(tmp_path: Path) -> None:
    places = find_places(count(1024).__next__)
    for name, peers in CALLS.items():
        file = tmp_path / f"{name}.yaml"
        file.write_text(yaml.safe_dump(sidecar_config(name, places, COLLECTOR)))
        config = load_file(str(file), {})
        assert config.service.name == name
        assert [str(each.upstream) for each in config.inbound] == [f"127.0.0.1:{places[name].app}"]
        assert {each.peer: str(each.upstream) for each in config.outbound} == {
            peer: f"127.0.0.1:{places[peer].inbound}" for peer in peers
        }
