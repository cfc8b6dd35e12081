"""Asks the kernel which process and thread of the service holds a socket (``linking.process``)."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence

from meshproxy import logs
from meshproxy.linking.ownership import Holder, Lookup, NoLookup, OwnerError
from meshproxy.linking.sockets import Socket
from meshproxy.logs import Limiter
from meshproxy.sidecar.owners.descriptors import Descriptors
from meshproxy.sidecar.owners.netlink import SockDiag
from meshproxy.sidecar.owners.threads import Threads

log = logs.get(__name__)

ADVICE = {
    "unsupported": "this kernel or sandbox has no sock_diag; set linking.process: off",
    "denied": "run the sidecar with the service's user id, or give it CAP_SYS_PTRACE",
    "not_visible": "set shareProcessNamespace: true in the pod; the service must run in it",
    "threads_denied": "give the sidecar CAP_SYS_PTRACE; without, only processes are told apart",
    "threads_unsupported": "this kernel or architecture does not tell; only processes are told"
    " apart",
}
"""What to do about a failure, by its reason; the reason is counted each time, and logged seldom."""

SILENCE = 3600.0
"""Seconds between two log lines with one reason."""


class ProcLookup:
    """`Lookup` by netlink and /proc. To be used by one thread."""

    def __init__(self, proc: str = "/proc") -> None:
        self._diag: SockDiag | None = None
        self._descriptors = Descriptors(proc)
        self._threads = Threads(proc)
        self._limiter = Limiter(SILENCE, time.monotonic)

    def close(self) -> None:
        """Close all files; whoever asks on opens them again."""
        self._threads.close()
        self._close_diag()

    def _close_diag(self) -> None:
        if self._diag is not None:
            self._diag.close()
            self._diag = None

    @property
    def generation(self) -> int:
        """Grows with each new process of the service."""
        return self._descriptors.generation

    def look(self, sockets: Sequence[Socket]) -> Sequence[tuple[int, int]]:
        """The inode of each socket, and the bytes that it has to read."""
        try:
            if self._diag is None:
                self._diag = SockDiag()
            return self._diag.look(sockets)
        except OSError as error:
            self._close_diag()
            raise self._say("unsupported", str(error)) from error

    def holders(self, inodes: Collection[int], seconds: float) -> dict[int, list[Holder]]:
        """Who holds these sockets."""
        try:
            return self._descriptors.holders(inodes, seconds)
        except OwnerError as error:
            raise self._say(error.reason) from None

    def holds(self, process: int, descriptor: int, inode: int) -> bool:
        """Whether the socket is still there under that number."""
        return self._descriptors.holds(process, descriptor, inode)

    def threads(self, process: int) -> Sequence[int]:
        """The ids of its threads."""
        return self._threads.of(process)

    def awaited(self, process: int, thread: int, least: float) -> int:
        """The descriptor that a thread waits for."""
        try:
            return self._threads.awaited(process, thread, least)
        except OwnerError as error:
            raise self._say(error.reason) from None

    def _say(self, reason: str, detail: str = "") -> OwnerError:
        if self._limiter.allow(reason) is not None:
            log.warning(
                "no evidence from the service's processes",
                reason=reason,
                advice=ADVICE[reason],
                detail=detail,
            )
        return OwnerError(reason)


def lookup_for(setting: str) -> Lookup:
    """What ``linking.process`` asks for: ``auto`` or ``off``."""
    return NoLookup() if setting == "off" else ProcLookup()
