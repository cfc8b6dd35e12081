"""OTLP over HTTP with protobuf (OTLP specification, "OTLP/HTTP")."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit, urlunsplit

from isal import isal_zlib

from meshproxy import __version__
from meshproxy.config.model import OtlpExporter
from meshproxy.export.exporter import (
    ExporterSettingsError,
    Item,
    PermanentError,
    RetryableError,
    SendResult,
)
from meshproxy.export.otlp import encode_resource, encode_span, request_head
from meshproxy.export.protobuf import DecodeError, fields
from meshproxy.export.retry import parse_retry_after
from meshproxy.trace.span import Attributes, Span

if TYPE_CHECKING:
    import ssl

    import aiohttp

MAX_REQUEST = 1024 * 1024
"""Bytes of one request before compression."""

MAX_RESPONSE = 64 * 1024
"""Bytes of a response body that are read; a longer one is cut and its connection closed."""

RETRYABLE_STATUSES = frozenset({429, 502, 503, 504})
"""OTLP specification, "Retryable Response Codes"."""

TOO_LARGE = "too_large"
REJECTED = "rejected"
PARTIAL_SUCCESS = "partial_success"

_SLICE = 128
"""Spans compressed before the event loop gets its turn."""

_KEEP_ALIVE = 30.0
_GZIP = 16 + isal_zlib.MAX_WBITS
_GZIP_LEVEL = 1


class OtlpHttpExporter:
    """Posts ExportTraceServiceRequests to one URL over one connection that is kept alive.

    Proxies of the environment are not used and redirects not followed. Raises
    `ExporterSettingsError` for a bad URL or an unreadable CA file. ``wall_clock`` gives Unix time.
    """

    def __init__(
        self,
        settings: OtlpExporter,
        resource: Attributes,
        *,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._url = traces_url(settings.endpoint)
        self._tls = _tls_context(settings)
        self._resource = encode_resource(resource)
        self._room = MAX_REQUEST - len(request_head(self._resource, MAX_REQUEST))
        self._wall_clock = wall_clock
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        """Open the HTTP session."""
        # Imported here because aiohttp takes some 20 MB, which other exporters do without.
        from aiohttp import ClientSession, ClientTimeout, DummyCookieJar, TCPConnector
        from multidict import CIMultiDict

        headers = CIMultiDict(self._settings.headers)
        headers.update(
            {
                "Content-Type": "application/x-protobuf",
                "User-Agent": f"meshproxy/{__version__}",
                "Accept-Encoding": "identity",
            }
        )
        if self._settings.compression == "gzip":
            headers["Content-Encoding"] = "gzip"
        self._session = ClientSession(
            connector=TCPConnector(limit=1, keepalive_timeout=_KEEP_ALIVE, ssl=self._tls or True),
            timeout=ClientTimeout(total=self._settings.timeout),
            headers=headers,
            cookie_jar=DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
        )

    def prepare(self, span: Span) -> bytes:
        """Encode a span (`Exporter.prepare`)."""
        return encode_span(span)

    async def send(self, items: Sequence[Item]) -> SendResult:
        """Post as many encoded spans as fit one request (`Exporter.send`)."""
        encoded = cast(Sequence[bytes], items)
        too_large = 0
        while too_large < len(encoded) and len(encoded[too_large]) > self._room:
            too_large += 1
        kept = _fitting(encoded, too_large, self._room)
        taken = too_large + kept
        dropped = {TOO_LARGE: too_large} if too_large else {}
        if not kept:
            return SendResult(taken, dropped, f"a span of more than {MAX_REQUEST} bytes")
        answer = await self._post(await self._body(encoded[too_large:taken]), taken)
        rejected, message = _partial_success(answer)
        if rejected:
            dropped[PARTIAL_SUCCESS] = min(rejected, kept)
        return SendResult(taken, dropped, message)

    async def close(self) -> None:
        """Close the connection."""
        if self._session is not None:
            await self._session.close()

    async def _body(self, encoded: Sequence[bytes]) -> bytes:
        """The body of a request with these spans, compressed if that is wanted."""
        head = request_head(self._resource, sum(map(len, encoded)))
        if self._settings.compression == "none":
            return b"".join((head, *encoded))
        # On the loop, by slices: ISA-L needs 0.3 µs a span, a thread's hand-over 100 µs a batch.
        gzip = isal_zlib.compressobj(_GZIP_LEVEL, isal_zlib.DEFLATED, _GZIP)
        out = [gzip.compress(head)]
        for start in range(0, len(encoded), _SLICE):
            out.append(gzip.compress(b"".join(encoded[start : start + _SLICE])))
            await asyncio.sleep(0)
        return b"".join((*out, gzip.flush()))

    async def _post(self, body: bytes, taken: int) -> bytes:
        """Post one request; returns the answer's body if it was accepted."""
        from aiohttp import ClientError

        if self._session is None:
            raise RuntimeError("send() before start()")
        try:
            async with self._session.post(self._url, data=body, allow_redirects=False) as response:
                answer = await _read_bounded(response)
        except (ClientError, OSError) as error:  # TimeoutError is an OSError
            text = str(error) or f"no answer within {self._settings.timeout:g} s"
            raise RetryableError(f"{type(error).__name__}: {text}", taken=taken) from error
        if 200 <= response.status < 300:
            return answer
        message = f"HTTP {response.status}{_status_message(response, answer)}"
        if response.status in RETRYABLE_STATUSES:
            header = response.headers.get("Retry-After", "")
            retry_after = parse_retry_after(header, self._wall_clock())
            raise RetryableError(message, taken=taken, retry_after=retry_after)
        raise PermanentError(message, reason=REJECTED, taken=taken)


def traces_url(endpoint: str) -> str:
    """The URL to post to: ``/v1/traces`` is added to an endpoint without a path.

    Raises `ExporterSettingsError` when it is not an http or https URL with a host.
    """
    try:
        parts = urlsplit(endpoint)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError as error:
        raise ExporterSettingsError(f"endpoint {endpoint!r}: {error}") from error
    if not usable:
        raise ExporterSettingsError(f"endpoint {endpoint!r}: not an http:// or https:// URL")
    path = parts.path if parts.path.strip("/") else "/v1/traces"
    return urlunsplit((parts.scheme, parts.netloc, path, parts.query, ""))


def _fitting(encoded: Sequence[bytes], start: int, room: int) -> int:
    """How many spans from ``start`` on have room in one request."""
    for count in range(len(encoded) - start):
        room -= len(encoded[start + count])
        if room < 0:
            return count
    return len(encoded) - start


def _tls_context(settings: OtlpExporter) -> ssl.SSLContext | None:
    if not settings.endpoint.lower().startswith("https:"):
        return None
    import ssl

    try:
        return ssl.create_default_context(cafile=settings.ca)
    except OSError as error:  # ssl.SSLError is an OSError
        raise ExporterSettingsError(f"ca {settings.ca!r}: {error}") from error


async def _read_bounded(response: aiohttp.ClientResponse) -> bytes:
    """Read a body up to `MAX_RESPONSE`. The status stands even if the body breaks off."""
    from aiohttp import ClientError

    body = bytearray()
    with suppress(ClientError, OSError):
        while len(body) <= MAX_RESPONSE:
            part = await response.content.read(MAX_RESPONSE + 1 - len(body))
            if not part:
                return bytes(body)
            body += part
    response.close()
    return bytes(body[:MAX_RESPONSE])


def _partial_success(answer: bytes) -> tuple[int, str]:
    """Rejected spans and message of an ExportTraceServiceResponse; of another answer 0 and ""."""
    rejected, message = 0, ""
    with suppress(DecodeError):
        for number, inner in fields(answer):
            if number != 1 or not isinstance(inner, bytes):
                continue
            for inner_number, value in fields(inner):
                if inner_number == 1 and isinstance(value, int):
                    rejected = value if value < 2**63 else 0
                elif inner_number == 2 and isinstance(value, bytes):
                    message = value.decode(errors="replace")
    return rejected, message


def _status_message(response: aiohttp.ClientResponse, answer: bytes) -> str:
    """The text of an error: that of google.rpc.Status, or the body's beginning."""
    text = answer
    if response.content_type == "application/x-protobuf":
        text = b""
        with suppress(DecodeError):
            texts = [value for number, value in fields(answer) if number == 2]
            text = next((value for value in texts if isinstance(value, bytes)), b"")
    shown = text[:200].decode(errors="replace").strip()
    return f": {shown}" if shown else ""
