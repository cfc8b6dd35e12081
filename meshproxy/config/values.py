"""Parsed forms of the texts in a configuration: addresses and durations."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

_NAME = re.compile(r"(?=.{1,253}\Z)[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_-]{1,63})*\.?")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,9})?)(ms|s|m|h)")
DURATION_PATTERN = r"^([0-9]{1,12}(\.[0-9]{1,9})?|([0-9]{1,12}(\.[0-9]{1,9})?(ms|s|m|h))+)$"
"""What `parse_duration` reads, as the regular expression of the JSON Schema."""

_DURATION = re.compile(DURATION_PATTERN)


@dataclass(frozen=True, slots=True)
class Address:
    """A TCP address. ``host`` is an IPv4 or IPv6 address (no brackets, shortest form), a name in
    lower case, or empty: all addresses of this machine."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Address:
        """An address to connect to: ``host:port``, ``[ipv6]:port`` or ``name:port``.

        Raises ValueError, with a message for people, for anything else.
        """
        if "," in text:
            raise ValueError(
                "must be a single address; of a Kafka cluster, one broker is enough: "
                "the others are found through it"
            )
        address = cls.parse_listen(text)
        if not address.host:
            raise ValueError('needs a host before the port, such as "127.0.0.1:8080"')
        if not address.port:
            raise ValueError("port must be from 1 to 65535")
        return address

    @classmethod
    def parse_listen(cls, text: str) -> Address:
        """An address to listen on: as for `parse`, also ``:port``, and port 0 for any free one.

        Raises ValueError, with a message for people, for anything else.
        """
        if "//" in text:
            raise ValueError('must be an address such as "127.0.0.1:8080", not a URL')
        if "," in text:
            raise ValueError("must be a single address")
        host, colon, port = text.rpartition(":")
        if host.startswith("["):
            if not host.endswith("]"):
                raise ValueError('must be written "[ipv6]:port"')
            return cls(_ipv6(host[1:-1]), _port(port))
        if ":" in host:
            raise ValueError('an IPv6 address needs brackets: "[ipv6]:port"')
        if not colon:
            raise ValueError('needs a port, such as "127.0.0.1:8080"')
        return cls(_ipv4_or_name(host) if host else "", _port(port))

    @property
    def is_wildcard(self) -> bool:
        """Whether this stands for all addresses of the machine (of one IP version, or of both)."""
        ip = _ip(self.host)
        return not self.host or (ip is not None and ip.is_unspecified)

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it: 127.0.0.0/8, ::1 or ``localhost``."""
        ip = _ip(self.host)
        if ip is None:
            return self.host == "localhost"
        mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
        return (mapped or ip).is_loopback

    def overlaps(self, other: Address) -> bool:
        """Whether a connection to one may arrive at the other: the same port, and the same host or
        a wildcard that covers it. Names other than ``localhost`` are not resolved."""
        if self.port != other.port or not self.port:
            return False
        if not self._versions & other._versions:
            return False
        return self.is_wildcard or other.is_wildcard or self._same_host(other)

    @property
    def _versions(self) -> frozenset[int]:
        ip = _ip(self.host)
        return frozenset((4, 6)) if ip is None else frozenset((ip.version,))

    def _same_host(self, other: Address) -> bool:
        names = {self.host, other.host}
        if len(names) == 1:
            return True
        return "localhost" in names and bool(names & {"127.0.0.1", "::1"})

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_duration(text: str) -> float:
    """Seconds in ``250ms``, ``5s``, ``5m``, ``1h``, ``1h30m`` or a bare number of seconds.

    Raises ValueError, with a message for people, for anything else.
    """
    if not _DURATION.fullmatch(text):
        raise ValueError('must be a duration such as "250ms", "5s", "5m" or "1h"')
    parts = _PART.findall(text)
    if not parts:
        return float(text)
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _ipv6(text: str) -> str:
    try:
        return str(ipaddress.IPv6Address(text))
    except ValueError:
        raise ValueError("has no IPv6 address between the brackets") from None


def _ipv4_or_name(text: str) -> str:
    if _ip(text) is not None:
        return text
    name = text.lower()
    # A last label of digits is never a name (RFC 1123, section 2.1): it is a bad IPv4 address.
    if name.rstrip(".").rpartition(".")[2].isdigit():
        raise ValueError("has a host that is not an IPv4 address")
    if not _NAME.fullmatch(name):
        raise ValueError("has a host that is neither an address nor a name")
    return name


def _port(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", text) or int(text) > 65535:
        raise ValueError("port must be a number from 0 to 65535")
    return int(text)
