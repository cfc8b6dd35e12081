"""The service's end of a connection: what tells which of its processes and threads is at work."""

from __future__ import annotations

Host = tuple[str, int]


class Socket:
    """The service's end of a TCP connection with the sidecar.

    ``local`` and ``remote`` are numeric addresses as the service sees them. ``owner`` is what was
    found out about it (`meshproxy.linking.owners`), None until somebody looked.
    """

    __slots__ = ("local", "owner", "remote")

    def __init__(self, local: Host, remote: Host) -> None:
        self.local = local
        self.remote = remote
        self.owner: object = None


class Carrier:
    """Something that is carried by a connection of the service, once it is known by which."""

    __slots__ = ("socket",)

    def __init__(self) -> None:
        self.socket: Socket | None = None
