"""What keeps the sidecar's memory down while libraries are imported. It stands in every pod."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

SETTINGS = {
    # aiohttp.connector makes TLS contexts at import, each with all authorities of the system. Ours
    # come from `meshproxy.export.otlp_http` and `meshproxy.sidecar.tls`, when there is a need.
    "SSL_CERT_FILE": os.devnull,
    "SSL_CERT_DIR": os.devnull,
    # aiohttp's list type; its compiled form brings the C++ runtime along.
    "FROZENLIST_NO_EXTENSIONS": "1",
}


@contextmanager
def lean_imports() -> Iterator[None]:
    """Import aiohttp in here: about 3 MB less (measured on Debian 12)."""
    before = {name: os.environ.get(name) for name in SETTINGS}
    os.environ.update(SETTINGS)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
