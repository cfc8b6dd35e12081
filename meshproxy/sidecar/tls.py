"""TLS contexts from certificate files, read again when the files change."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable

from meshproxy import logs
from meshproxy.config.model import ClientTls, ServerTls

log = logs.get(__name__)


Stamp = tuple[float, ...]


class Loaded:
    """Files that a context has been given, by ``load``, and what they looked like then."""

    def __init__(
        self,
        files: tuple[str, ...],
        context: ssl.SSLContext,
        load: Callable[[ssl.SSLContext], None],
    ) -> None:
        self.files = files
        self.stamp = _stamp(*files)
        self._context = context
        self._load = load
        load(context)

    def renew(self) -> None:
        """Read the files again; raises OSError, and then the context is as it was."""
        self._load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
        self._load(self._context)


class Certificates:
    """Certificates and authorities of one configuration; `check` reads files that have changed.

    A file that cannot be read leaves the old certificate in use, and says so. Authorities that are
    no longer in their file are trusted until the configuration is reloaded.
    """

    def __init__(self) -> None:
        self._loaded: list[Loaded] = []
        self._servers: dict[ServerTls, ssl.SSLContext] = {}
        self._clients: dict[tuple[ClientTls, bool], ssl.SSLContext] = {}
        self._next_look = 0.0

    def server(self, settings: ServerTls) -> ssl.SSLContext:
        """A context that terminates TLS; raises OSError (ssl.SSLError is one) for bad files."""
        context = self._servers.get(settings)
        if context is None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.set_alpn_protocols(["http/1.1"])
            self._load(context, settings.cert, settings.key)
            if settings.client_ca is not None:
                self._trust(context, settings.client_ca)
                context.verify_mode = ssl.CERT_REQUIRED
            self._servers[settings] = context
        return context

    def client(self, settings: ClientTls, *, http: bool) -> ssl.SSLContext:
        """A context that originates TLS, for HTTP/1.1 or else unsaid; raises OSError for bad files.

        A server that knows other protocols only would refuse one that is offered HTTP (RFC 7301).
        """
        context = self._clients.get((settings, http))
        if context is None:
            if settings.ca is None:
                context = ssl.create_default_context()
            else:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                self._trust(context, settings.ca)
            if http:
                context.set_alpn_protocols(["http/1.1"])
            if not settings.verify:
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
            if settings.cert is not None:
                self._load(context, settings.cert, settings.key or settings.cert)
            self._clients[settings, http] = context
        return context

    def _load(self, context: ssl.SSLContext, cert: str, key: str) -> None:
        def load(into: ssl.SSLContext) -> None:
            into.load_cert_chain(cert, key)

        self._loaded.append(Loaded((cert, key), context, load))

    def _trust(self, context: ssl.SSLContext, authorities: str) -> None:
        def load(into: ssl.SSLContext) -> None:
            into.load_verify_locations(authorities)

        self._loaded.append(Loaded((authorities,), context, load))

    def check(self, now: float) -> None:
        """Look at the files, at most once a second."""
        if now < self._next_look:
            return
        self._next_look = now + 1.0
        for each in self._loaded:
            stamp = _stamp(*each.files)
            if stamp == each.stamp:
                continue
            each.stamp = stamp
            file = each.files[0]
            try:
                each.renew()
            except OSError as error:
                log.error(
                    "certificate not reloaded; the old one stays", file=file, error=str(error)
                )
            else:
                log.info("certificate reloaded", file=file)


def _stamp(*paths: str) -> Stamp:
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
