"""What a service is started with: a JSON file, the same for all of them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from loadtest.linking.live.services.behaviour import truth_line


@dataclass(frozen=True, slots=True)
class Settings:
    """Ports are on the loopback interface; ``destinations`` are the sidecar's, by name."""

    port: int
    destinations: Mapping[str, int]
    truth: str
    """The file that the service appends what it knows to."""
    echo: float
    """The share of calls that echo something of their request."""
    background: float
    """Calls a second that no request causes, of all processes together; 0 for none."""
    workers: int

    @classmethod
    def read(cls, path: str) -> Settings:
        return cls(**json.loads(Path(path).read_text()))

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)))


class Truth:
    """Appends lines; may be shared by threads and processes, since a line is one write."""

    def __init__(self, path: str) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def tell(self, behaviour: str, echo: str, inbound: str, call: str) -> None:
        os.write(self._descriptor, truth_line(behaviour, echo, inbound, call).encode())
