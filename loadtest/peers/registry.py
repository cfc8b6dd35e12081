"""All peers, and which of them every figure is measured for."""

from __future__ import annotations

from loadtest.peers import envoy, haproxy, meshproxy, nginx, python
from loadtest.peers.base import Peer

ALL: tuple[Peer, ...] = (
    *meshproxy.PEERS,
    *envoy.PEERS,
    *nginx.PEERS,
    *haproxy.PEERS,
    *python.PEERS,
)
BY_NAME = {peer.name: peer for peer in ALL}

REFERENCE = "envoy-traced"
"""What the ratios are relative to."""
PRODUCT = "meshproxy"
"""What the variants are compared with."""
MAIN = (PRODUCT, REFERENCE, "envoy", "nginx", "haproxy", "aiohttp", "splice")
VARIANTS = ("meshproxy-nogzip", "meshproxy-noexport", "meshproxy-unsampled", "meshproxy-accesslog")
CALLERS = ("meshproxy-calls", "envoy-calls")
