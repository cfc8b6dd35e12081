"""The test bed: the backend, the sink and the peers as running processes, wired together."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from loadtest.peers.base import Peer, Wiring
from loadtest.probe import answer_to, get, listens
from loadtest.processes import Cores, Process, Processes, find_tool, free_ports
from loadtest.servers.nginx_backend import BODY, backend_command
from loadtest.servers.sink import Counts

ASK_SECONDS = 30.0
"""The sink decodes what has come before it answers."""


@dataclass(frozen=True, slots=True)
class Running:
    """A peer that answers."""

    peer: Peer
    process: Process
    port: int


class Bed:
    """Starts what is asked for; the context of `test_bed` ends it."""

    def __init__(self, processes: Processes, cores: Cores) -> None:
        self.cores = cores
        self._processes = processes
        self._ports = free_ports()
        self._serial = count()
        self.backend_port = self._start_backend()
        self._sink_port = next(self._ports)
        self._listen("sink", self._sink_port)

    def start(self, peer: Peer, upstream: int | None = None) -> Running:
        """Start a peer in front of the backend, of the app that calls, or of a given port.

        Raises `NotReadyError` when the peer does not pass a request on in time.
        """
        wiring = Wiring(
            name=f"{peer.name}-{next(self._serial)}",
            directory=self._processes.directory,
            listen=next(self._ports),
            upstream=upstream or (next(self._ports) if peer.calls else self.backend_port),
            outbound=next(self._ports),
            backend=self.backend_port,
            admin=next(self._ports),
            spans_url=f"http://127.0.0.1:{self._sink_port}/{peer.name}/v1/traces",
            sink=self._sink_port,
        )
        process = self._processes.start(wiring.name, peer.command(wiring), self.cores.proxy)
        if peer.calls:
            self._listen("app", wiring.upstream, wiring.outbound)
        process.wait_ready(lambda: answer_to(wiring.listen, "/") == BODY)
        return Running(peer, process, wiring.listen)

    def stop(self, running: Running) -> None:
        self._processes.end([running.process])

    def start_server(self, module: str) -> int:
        """Start one of ``loadtest/servers`` on the load's core; return its port."""
        port = next(self._ports)
        self._listen(module, port)
        return port

    def spans(self, peer: Peer) -> Counts:
        """What the sink got from a peer since `forget_spans`."""
        return msgspec.json.decode(
            get(self._sink_port, f"/{peer.name}/counts", ASK_SECONDS), type=Counts
        )

    def forget_spans(self, peer: Peer) -> None:
        get(self._sink_port, f"/{peer.name}/reset", ASK_SECONDS)

    def _start_backend(self) -> int:
        binary = find_tool("nginx")
        if binary is None:
            return self.start_server("backend")
        port = next(self._ports)
        command = backend_command(binary, self._processes.directory, port)
        backend = self._processes.start("backend", command, self.cores.load)
        backend.wait_ready(lambda: answer_to(port, "/") == BODY)
        return port

    def start_program(self, module: str, *words: str) -> Process:
        """Start one of ``loadtest/servers``, on the load's core."""
        command = [sys.executable, "-m", f"loadtest.servers.{module}", *words]
        name = f"{module}-{next(self._serial)}"
        return self._processes.start(name, command, self.cores.load)

    def _listen(self, module: str, *ports: int) -> None:
        process = self.start_program(module, *map(str, ports))
        process.wait_ready(lambda: listens(ports[0]))


@contextmanager
def test_bed(cores: Cores) -> Iterator[Bed]:
    """A bed with its own folder; nothing of it is left afterwards."""
    with TemporaryDirectory(prefix="meshproxy-bench-") as folder:
        directory = Path(folder)
        # Worker processes of a root's nginx run as another user and must read it.
        directory.chmod(0o755)
        with Processes(directory) as processes:
            yield Bed(processes, cores)
