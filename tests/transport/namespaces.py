"""Two network namespaces, joined by a cable: a pod with a sidecar's redirect rules, and the world.

A socket belongs to the namespace that it was made in, whoever uses it. So an agent in each
namespace makes sockets and hands them over, and the tests stay where they are. Root needs nothing
else; other users need user namespaces.
"""

from __future__ import annotations

import array
import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from aiohttp import web

from meshproxy.demo.processes import plain_environment
from tests.support.otlp import Collector
from tests.support.process import START_PATIENCE, SidecarProcess
from tests.support.raw import PATIENCE, App, Peer

POD = {4: "10.77.0.2", 6: "fd77::2"}
WORLD = {4: "10.77.0.1", 6: "fd77::1"}
SEARCH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"

LOOPBACK = {4: "127.0.0.1", 6: "::1"}

GROUP = 1337
"""The sidecar's group, by which the rules let its own connections pass."""

MARK = 1
"""On the sockets that tests make. A user who is not root has no second group in a namespace, so
there the rules tell the sidecar's connections by their having no mark."""

AGENT = """
import array, json, os, socket, subprocess, sys
control = socket.socket(fileno=int(sys.argv[1]))
if len(sys.argv) > 2:
    subprocess.Popen(["unshare", "-n", sys.executable, "-c", os.environ["AGENT"], sys.argv[2]],
                     close_fds=False)
    os.close(int(sys.argv[2]))
while request := control.recv(65536):
    request = json.loads(request)
    if "family" in request:
        with socket.socket(request["family"]) as made:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, request["mark"])
            control.sendmsg([b"{}"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS,
                                       array.array("i", [made.fileno()]))])
    elif "run" in request:
        done = subprocess.run(request["run"], input=request["stdin"], text=True,
                              capture_output=True)
        control.send(json.dumps([done.returncode, done.stderr]).encode())
    else:
        control.send(json.dumps(os.getpid()).encode())
"""

RULES = """
table inet meshproxy
delete table inet meshproxy
table inet meshproxy {
  set in_skip { type inet_service; flags interval; elements = { 15001, 15020, 15021, 15090 } }
  chain inbound { type nat hook prerouting priority dstnat; policy accept;
    meta l4proto != tcp return
    tcp dport @in_skip return
    meta l4proto tcp redirect to :15006;
  }
  chain outbound { type nat hook output priority -100; policy accept;
    meta l4proto != tcp return
    %s
    oifname "lo" return
    meta l4proto tcp redirect to :15001;
  }
}
"""


def missing() -> str:
    """Why there can be no such namespaces here; empty if there can."""
    needed = ("nft", "ip", "unshare", "nsenter")
    tools = [tool for tool in needed if shutil.which(tool, path=SEARCH) is None]
    if tools:
        return f"needs {', '.join(tools)} (packages nftables, iproute2, util-linux)"
    done = subprocess.run(
        [*_unshare(), "nft", "list", "tables"],
        capture_output=True,
        text=True,
        env=os.environ | {"PATH": SEARCH},
    )
    if done.returncode:
        return f"needs root, or user namespaces with nftables: {done.stderr.strip()}"
    return ""


def _is_root() -> bool:
    """Whether we may make namespaces, and processes of the sidecar's group."""
    if os.geteuid():
        return False
    lines = Path("/proc/self/gid_map").read_text().splitlines()
    groups = (map(int, line.split()) for line in lines)
    return any(first <= GROUP < first + count for first, _, count in groups)


def _unshare() -> list[str]:
    return ["unshare", "-n"] if _is_root() else ["unshare", "-Urn"]


class Namespace:
    """One network namespace, by way of the agent in it."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._peers: list[Peer] = []
        control.settimeout(START_PATIENCE)
        self.pid = int(self._ask({}))

    def _ask(self, request: dict[str, Any]) -> Any:
        self._control.send(json.dumps(request).encode())
        return json.loads(self._control.recv(65536))

    def run(self, *command: str, stdin: str = "") -> None:
        """Run a command there, which must succeed."""
        code, errors = self._ask({"run": command, "stdin": stdin})
        assert code == 0, f"{' '.join(command)}: {errors}"

    def socket(self, family: socket.AddressFamily) -> socket.socket:
        """A new TCP socket."""
        self._control.send(json.dumps({"family": family, "mark": MARK}).encode())
        _, ancillary, _, _ = self._control.recvmsg(16, socket.CMSG_SPACE(4))
        found = array.array("i")
        found.frombytes(ancillary[0][2])
        made = socket.socket(fileno=found[0])
        made.setblocking(False)
        return made

    async def connect(self, host: str, port: int) -> Peer:
        """Open a connection from there."""
        sock = self.socket(_family(host))
        async with asyncio.timeout(PATIENCE):
            await asyncio.get_running_loop().sock_connect(sock, (host, port))
            peer = Peer(*await asyncio.open_connection(sock=sock))
        self._peers.append(peer)
        return peer

    def listen(self, host: str, port: int) -> socket.socket:
        """A listening socket."""
        sock = self.socket(_family(host))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen()
        return sock

    async def get(self, port: int, path: str) -> str:
        """What an admin endpoint on the loopback there says."""
        peer = await self.connect("127.0.0.1", port)
        await peer.send(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        answer = await peer.rest()
        await peer.close()
        return answer.partition(b"\r\n\r\n")[2].decode()

    async def hang_up(self) -> None:
        """Close all connections that were opened from here."""
        for peer in self._peers:
            await peer.close()
        self._peers.clear()

    def close(self) -> None:
        """Let the agent end."""
        self._control.close()


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


class Namespaces:
    """``pod`` and ``world``, with an address of each IP version."""

    def __init__(self) -> None:
        controls = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(2)]
        theirs = [their for _, their in controls]
        self._agent = subprocess.Popen(
            [*_unshare(), sys.executable, "-c", AGENT, *(str(each.fileno()) for each in theirs)],
            pass_fds=[each.fileno() for each in theirs],
            env=os.environ | {"AGENT": AGENT, "PATH": SEARCH},
        )
        for their in theirs:
            their.close()
        self.pod, self.world = (Namespace(ours) for ours, _ in controls)
        self._cable()

    def _cable(self) -> None:
        self.pod.run("ip", "link", "add", "eth0", "type", "veth",
                     "peer", "name", "eth0", "netns", str(self.world.pid))  # fmt: skip
        for namespace, addresses in ((self.pod, POD), (self.world, WORLD)):
            namespace.run("ip", "addr", "add", f"{addresses[4]}/24", "dev", "eth0")
            namespace.run("ip", "addr", "add", f"{addresses[6]}/64", "dev", "eth0", "nodad")
            namespace.run("ip", "link", "set", "lo", "up")
            namespace.run("ip", "link", "set", "eth0", "up")

    def redirect(self, exempt: bool = True) -> None:
        """Load the rules; ``exempt``: the sidecar's own connections pass."""
        ours = f"meta skgid {GROUP}" if _is_root() else "meta mark 0"
        self.pod.run("nft", "-f", "-", stdin=RULES % (f"{ours} return" if exempt else ""))

    def close(self) -> None:
        """Let everything end."""
        self.pod.close()
        self.world.close()
        self._agent.wait(START_PATIENCE)


class PodSidecar(SidecarProcess):
    """A sidecar process in the pod, of a group of its own."""

    async def start_in(self, pod: Namespace, config: dict[str, Any]) -> None:
        """Start with exactly this configuration, and wait until it is ready."""
        self.write(config)
        self._process = await asyncio.create_subprocess_exec(
            *("nsenter", "-t", str(pod.pid), "-n"),
            *(("-G", str(GROUP)) if _is_root() else ("-U", "--preserve-credentials")),
            *(sys.executable, "-m", "meshproxy", "sidecar", "-c", str(self.path)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env=plain_environment({}),
        )
        self._tasks.append(asyncio.create_task(self._read()))
        await self.logged("ready", within=START_PATIENCE)


class AppIn(App):
    """A raw server in a namespace."""

    async def start_in(self, namespace: Namespace, host: str, port: int) -> AppIn:
        """Listen there."""
        sock = namespace.listen(host, port)
        self._server = await asyncio.start_server(self._connected, sock=sock)
        return self


class CollectorIn(Collector):
    """An OTLP backend on the loopback of a namespace."""

    async def start_in(self, namespace: Namespace, port: int) -> CollectorIn:
        """Listen there."""
        application = web.Application()
        application.router.add_post("/v1/traces", self._receive)
        self._runner = web.AppRunner(application, auto_decompress=False)
        await self._runner.setup()
        await web.SockSite(self._runner, namespace.listen("127.0.0.1", port)).start()
        self.port = port
        return self
