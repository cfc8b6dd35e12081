"""TLS contexts from certificate files, read again when the files change."""

from __future__ import annotations

import os
import ssl

from meshproxy import logs
from meshproxy.config.model import ClientTls, ServerTls

log = logs.get(__name__)


class Certificates:
    """Certificate chains that are in use; `check` reads those again whose files have changed.

    A file that cannot be read leaves the old certificate in use, and says so.
    """

    def __init__(self) -> None:
        self._chains: dict[ssl.SSLContext, tuple[str, str, tuple[float, ...]]] = {}
        self._servers: dict[ServerTls, ssl.SSLContext] = {}
        self._clients: dict[ClientTls, ssl.SSLContext] = {}
        self._next_look = 0.0

    def server(self, settings: ServerTls) -> ssl.SSLContext:
        """A context that terminates TLS; raises OSError (ssl.SSLError is one) for bad files."""
        context = self._servers.get(settings)
        if context is None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.set_alpn_protocols(["http/1.1"])
            self._load(context, settings.cert, settings.key)
            if settings.client_ca is not None:
                context.load_verify_locations(settings.client_ca)
                context.verify_mode = ssl.CERT_REQUIRED
            self._servers[settings] = context
        return context

    def client(self, settings: ClientTls) -> ssl.SSLContext:
        """A context that originates TLS; raises OSError for bad files."""
        context = self._clients.get(settings)
        if context is None:
            context = ssl.create_default_context(cafile=settings.ca)
            context.set_alpn_protocols(["http/1.1"])
            if not settings.verify:
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
            if settings.cert is not None:
                self._load(context, settings.cert, settings.key or settings.cert)
            self._clients[settings] = context
        return context

    def _load(self, context: ssl.SSLContext, cert: str, key: str) -> None:
        stamp = _stamp(cert, key)
        context.load_cert_chain(cert, key)
        self._chains[context] = (cert, key, stamp)

    def check(self, now: float) -> None:
        """Look at the files, at most once a second."""
        if now < self._next_look:
            return
        self._next_look = now + 1.0
        for context, (cert, key, before) in tuple(self._chains.items()):
            stamp = _stamp(cert, key)
            if stamp == before:
                continue
            self._chains[context] = (cert, key, stamp)
            try:
                # A broken pair must not spoil the context that is in use.
                ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key)
                context.load_cert_chain(cert, key)
            except OSError as error:
                log.error(
                    "certificate not reloaded; the old one stays", cert=cert, error=str(error)
                )
            else:
                log.info("certificate reloaded", cert=cert)


def _stamp(*paths: str) -> tuple[float, ...]:
    """What changes when a file does; links are followed, as Kubernetes swaps them."""
    stamps: list[float] = []
    for path in paths:
        try:
            status = os.stat(path)
        except OSError:
            stamps += (0.0, 0.0, 0.0)
        else:
            stamps += (status.st_mtime_ns, status.st_size, status.st_ino)
    return tuple(stamps)
