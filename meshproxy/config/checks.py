"""What the model cannot say: mistakes that only several values together make."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations

import msgspec

from meshproxy.config.model import Config, Inbound, OtlpExporter, Outbound, Queue, SamplingRule
from meshproxy.config.problems import Path, render
from meshproxy.config.values import Address

FileCheck = Callable[[str], str | None]
"""Why a file cannot be read, for people; None if it can."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A mistake at ``path``. It means nothing if one of the places that it ``reads`` is wrong."""

    path: Path
    message: str
    reads: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class Listener:
    """Something that listens: ``path`` of its record, its address, whether it is a redirect."""

    path: Path
    address: Address
    redirect: bool = False


def run(config: Config, why_unreadable: FileCheck | None) -> Iterator[Finding]:
    """All such mistakes in ``config``, whose modes are inferred already (`infer_modes`)."""
    yield from _something_to_do(config)
    for i, inbound in enumerate(config.inbound):
        yield from _route(inbound, ("inbound", i), "reverse-proxy")
    for i, outbound in enumerate(config.outbound):
        yield from _route(outbound, ("outbound", i), "fixed")
        yield from _kafka(outbound, ("outbound", i))
    yield from _clashes(listeners(config))
    yield from _pairs(config)
    for i, rule in enumerate(config.sampling.rules):
        yield from _rule(rule, ("sampling", "rules", i))
    for i, exporter in enumerate(config.export):
        yield from _queue(exporter.queue, ("export", i, "queue"))
    yield from _client_certificates(config)
    if why_unreadable is not None:
        yield from _files(config, why_unreadable)


def warnings(config: Config) -> list[str]:
    """What is allowed but should be known, a line each, with its path."""
    if Address.parse_listen(config.admin.listen).is_loopback:
        return []
    return [
        f"{render(('admin', 'listen'))}: is not a loopback address: whoever reaches it can read "
        "the configuration and stop the sidecar"
    ]


def infer_modes(config: Config) -> Config:
    """``config`` with the mode of every listener that has an upstream and no mode filled in."""
    replace = msgspec.structs.replace
    return replace(
        config,
        inbound=tuple(replace(i, mode=i.mode or _mode(i, "reverse-proxy")) for i in config.inbound),
        outbound=tuple(replace(o, mode=o.mode or _mode(o, "fixed")) for o in config.outbound),
    )


def listeners(config: Config) -> list[Listener]:
    """Everything that listens, in the order of the file."""
    found = [
        Listener(path, Address.parse_listen(item.listen), item.mode == "redirect")
        for path, item in _traffic(config)
    ]
    found.append(Listener(("admin",), Address.parse_listen(config.admin.listen)))
    if config.health is not None:
        found.append(Listener(("health",), Address.parse_listen(config.health.listen)))
    return found


def _mode(item: Inbound | Outbound, with_upstream: str) -> str | None:
    return with_upstream if item.upstream is not None else None


def _something_to_do(config: Config) -> Iterator[Finding]:
    if not config.inbound and not config.outbound:
        message = "nothing is configured: give inbound, outbound or both"
        yield Finding((), message, (("inbound",), ("outbound",)))


def _route(item: Inbound | Outbound, path: Path, to_upstream: str) -> Iterator[Finding]:
    """Mode and upstream must agree, and the upstream must be somewhere else."""
    listen, upstream, mode = (*path, "listen"), (*path, "upstream"), (*path, "mode")
    if item.upstream is None:
        if item.mode is None:
            yield Finding(path, "needs an upstream or a mode", (upstream, mode))
        elif item.mode == to_upstream:
            yield Finding(upstream, f"is required in mode {to_upstream}", (upstream, mode))
        for key in ("upstream_tls", "peer"):
            if getattr(item, key, None) is not None:
                yield Finding((*path, key), "needs an upstream", (upstream, (*path, key)))
    elif item.mode != to_upstream:
        yield Finding(upstream, f"does not go with mode {item.mode}", (upstream, mode))
    elif _leads_back(Address.parse(item.upstream), Address.parse_listen(item.listen)):
        message = f"leads back to this listener's own address, {item.listen}"
        yield Finding(upstream, message, (listen, upstream, mode))


def _kafka(item: Outbound, path: Path) -> Iterator[Finding]:
    """Kafka's clients know their brokers by address, so there has to be one to begin with."""
    protocol, mode, settings = (*path, "protocol"), (*path, "mode"), (*path, "kafka")
    if item.protocol == "kafka":
        if item.mode not in (None, "fixed"):
            message = f"kafka does not go with mode {item.mode}: give the address of a broker "
            message += "as upstream"
            yield Finding(protocol, message, (protocol, mode))
    elif item.kafka is not None:
        yield Finding(settings, "goes with protocol kafka only", (protocol, settings))


def _leads_back(upstream: Address, listen: Address) -> bool:
    # Another machine's port may well have the number of one that is open here on all addresses.
    here = upstream.is_loopback or upstream.is_wildcard or not listen.is_wildcard
    return here and upstream.overlaps(listen)


def _clashes(found: Iterable[Listener]) -> Iterator[Finding]:
    for one, other in combinations(found, 2):
        if not one.address.overlaps(other.address) or _shares(one, other):
            continue
        places = ((*one.path, "listen"), (*other.path, "listen"))
        modes = ((*one.path, "mode"), (*other.path, "mode"))
        message = f"{other.address} is taken by {render(places[0])}, {one.address}"
        yield Finding(places[1], message, places + modes)


def _shares(one: Listener, other: Listener) -> bool:
    """Whether two may be given with one address: within a section, a redirect and something else.

    The original destination of a redirected connection tells it from one made to the listener.
    """
    return (
        one.path[0] == other.path[0]
        and one.address == other.address
        and one.redirect != other.redirect
    )


def _pairs(config: Config) -> Iterator[Finding]:
    """Two that share a socket must agree on what holds for all that it accepts."""
    found = zip(_traffic(config), listeners(config), strict=False)
    for ((path, one), listener), ((other_path, other), sharing) in combinations(found, 2):
        if not listener.address.overlaps(sharing.address) or not _shares(listener, sharing):
            continue
        for key in ("protocol", "tls", "trust"):
            if getattr(one, key, None) != getattr(other, key, None):
                place = (*other_path, key)
                message = f"must be as in {render(path)}, which has the same address"
                yield Finding(place, message, (path, other_path))


def _rule(rule: SamplingRule, path: Path) -> Iterator[Finding]:
    reads = ((*path, "ratio"), (*path, "drop"))
    if rule.drop and rule.ratio is not None:
        yield Finding(path, "has both ratio and drop: give one of them", reads)
    if not rule.drop and rule.ratio is None:
        yield Finding(path, "has neither ratio nor drop: give one of them", reads)


def _queue(queue: Queue, path: Path) -> Iterator[Finding]:
    reads = ((*path, "batch"), (*path, "size"))
    if queue.batch > queue.size:
        message = f"must not be more than the queue's size, {queue.size}"
        yield Finding(reads[0], message, reads)


def _client_certificates(config: Config) -> Iterator[Finding]:
    for path, item in _traffic(config):
        tls = item.upstream_tls
        if tls is None or (tls.cert is None) == (tls.key is None):
            continue
        given, missing = ("cert", "key") if tls.key is None else ("key", "cert")
        place = (*path, "upstream_tls")
        message = f"is required when {given} is given"
        yield Finding((*place, missing), message, ((*place, "cert"), (*place, "key")))


def _files(config: Config, why_unreadable: FileCheck) -> Iterator[Finding]:
    for path, name in _file_names(config):
        reason = why_unreadable(name) if name is not None else None
        if reason is not None:
            yield Finding(path, reason, (path,))


def _file_names(config: Config) -> Iterator[tuple[Path, str | None]]:
    for path, item in _traffic(config):
        if isinstance(item, Inbound) and item.tls is not None:
            tls = (*path, "tls")
            yield (*tls, "cert"), item.tls.cert
            yield (*tls, "key"), item.tls.key
            yield (*tls, "client_ca"), item.tls.client_ca
        if item.upstream_tls is not None:
            tls = (*path, "upstream_tls")
            yield (*tls, "ca"), item.upstream_tls.ca
            yield (*tls, "cert"), item.upstream_tls.cert
            yield (*tls, "key"), item.upstream_tls.key
    for i, exporter in enumerate(config.export):
        if isinstance(exporter, OtlpExporter):
            yield ("export", i, "ca"), exporter.ca


def _traffic(config: Config) -> Iterator[tuple[Path, Inbound | Outbound]]:
    for i, inbound in enumerate(config.inbound):
        yield ("inbound", i), inbound
    for i, outbound in enumerate(config.outbound):
        yield ("outbound", i), outbound
