"""Heads of HTTP/1.1 requests and responses (RFC 9112), read strictly and spliced.

A head is kept as its lines, as they came; what is sent on is those lines without the ones that were
dropped, plus the ones that were added. What could be read in two ways is refused.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from meshproxy.wire import fields as f
from meshproxy.wire.errors import ProtocolError
from meshproxy.wire.fields import Field, FieldTable

CRLF: Final = b"\r\n"
END_OF_HEAD: Final = b"\r\n\r\n"

REMEMBERED_START_LINES: Final = 512
REMEMBERED_START_LENGTH: Final = 512
"""Bounds of the memory for start lines: at most about 0.8 MB."""

REQUEST_LINE: Final = re.compile(
    rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]{1,64}) ([\x21\x22\x24-\x7e\x80-\xff]+) HTTP/1\.([01])"
)
ABSOLUTE_FORM: Final = re.compile(
    rb"[A-Za-z][A-Za-z0-9+\-.]*://" + f.URI_HOST + rb"(?::[0-9]*)?(?:[/?#].*)?", re.DOTALL
)
AUTHORITY_FORM: Final = re.compile(f.URI_HOST + rb":[0-9]{1,5}")
"""Forms of the request target beside the origin form, RFC 9112 section 3.2."""

STATUS_LINE: Final = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9][0-9])(?: ([\t\x20-\x7e\x80-\xff]*))?")
STRAY: Final = re.compile(rb"\r(?!\n|\Z)|(?<!\r)\n|\x00")
"""A bare CR, a bare LF, or NUL; a CR at the very end may still be followed by its LF."""


class RequestLine:
    """Method, request target and minor version (RFC 9112 section 3)."""

    __slots__ = ("method", "minor", "note", "raw", "target")

    def __init__(self, raw: bytes, method: bytes, target: bytes, minor: int) -> None:
        self.raw = raw
        self.method = method
        self.target = target
        self.minor = minor
        self.note: object = None
        """Whatever a reader wants to remember about this line; lives as long as the line does."""


class StatusLine:
    """Status code and minor version (RFC 9112 section 4)."""

    __slots__ = ("code", "minor", "raw")

    def __init__(self, raw: bytes, code: int, minor: int) -> None:
        self.raw = raw
        self.code = code
        self.minor = minor


class Head:
    """What requests and responses have in common.

    ``lines`` are the field lines as they came, ``fields`` what they mean, one for one. ``marked``
    and ``dropped`` are indices into both: fields that the table was told to mark, and fields that
    are not sent on. ``added`` are whole lines to be sent after the others. ``length`` is the
    Content-Length or None. ``close``: the sender will not, or cannot, keep the connection.
    """

    __slots__ = ("added", "chunked", "close", "dropped", "fields", "length", "lines", "marked",
                 "upgrade")  # fmt: skip

    def __init__(self, lines: list[bytes], fields: list[Field]) -> None:
        self.lines = lines
        self.fields = fields
        self.marked: list[int] = []
        self.dropped: list[int] = []
        self.added: list[bytes] = []
        self.length: int | None = None
        self.chunked = False
        self.close = False
        self.upgrade = b""

    def values(self, name: bytes) -> list[bytes]:
        """All values of a field, in order; ``name`` in lower case."""
        return [field.value for field in self.fields if field.name == name]

    def first(self, name: bytes) -> bytes:
        """The first value of a field, or nothing; ``name`` in lower case."""
        for field in self.fields:
            if field.name == name:
                return field.value
        return b""

    def drop(self, name: bytes) -> None:
        """Don't send on any field of this name."""
        for index, field in enumerate(self.fields):
            if field.name == name and index not in self.dropped:
                self.dropped.append(index)

    def _splice(self, start: bytes) -> bytes:
        if self.dropped:
            gone = set(self.dropped)
            kept = [line for index, line in enumerate(self.lines) if index not in gone]
            return CRLF.join((start, *kept, *self.added, b"", b""))
        return CRLF.join((start, *self.lines, *self.added, b"", b""))


class Request(Head):
    """A request head. ``host`` and ``agent`` are the values of Host and User-Agent.

    ``expects``: the client waits for a 100 (Continue) before it sends the body.

    ``forwarded`` are the indices of X-Forwarded-For fields.
    """

    __slots__ = ("agent", "expects", "forwarded", "host", "line")

    def __init__(self, line: RequestLine, lines: list[bytes], fields: list[Field]) -> None:
        super().__init__(lines, fields)
        self.line = line
        self.host = b""
        self.agent = b""
        self.expects = False
        self.forwarded: tuple[int, ...] = ()

    def encode(self, start: bytes | None = None) -> bytes:
        """The head as it is sent on; ``start`` takes the place of the request line."""
        return self._splice(self.line.raw if start is None else start)


class Response(Head):
    """A response head. ``until_close``: the body ends with the connection.

    ``keep_alive`` are the indices of fields ``Connection: keep-alive``. They say nothing, so a
    response in which nothing else is to be changed is sent on with them, as it came.
    """

    __slots__ = ("keep_alive", "line", "until_close")

    def __init__(self, line: StatusLine, lines: list[bytes], fields: list[Field]) -> None:
        super().__init__(lines, fields)
        self.line = line
        self.until_close = False
        self.keep_alive: list[int] = []

    @property
    def plain(self) -> bool:
        """Whether the bytes can be sent on just as they came."""
        return not self.dropped and not self.added and self.line.minor == 1

    def encode(self) -> bytes:
        """The head as it is sent on, with our own HTTP version (RFC 9110 section 2.5)."""
        raw = self.line.raw
        self.dropped += self.keep_alive
        return self._splice(raw if self.line.minor else b"HTTP/1.1" + raw[8:])


def request_line(raw: bytes) -> RequestLine:
    """Read a request line; raises `ProtocolError`."""
    match = REQUEST_LINE.fullmatch(raw)
    if match is None:
        version = raw.rpartition(b" ")[2]
        if re.fullmatch(rb"HTTP/[02-9]\.[0-9]|HTTP/1\.[2-9]", version) and raw.count(b" ") == 2:
            raise ProtocolError(505, "version", "Only HTTP/1.0 and HTTP/1.1 are spoken here.")
        raise ProtocolError(400, "request_line", "The request line is not valid.")
    method, target = match[1], match[2]
    if (target[0] != 0x2F or method == b"CONNECT") and not _is_other_form(method, target):
        raise ProtocolError(400, "target", "The request target does not fit its method.")
    return RequestLine(raw, method, target, int(match[3]))


def _is_other_form(method: bytes, target: bytes) -> bool:
    """Whether a target that is not in origin form is in one that its method may have."""
    if method == b"CONNECT":
        return AUTHORITY_FORM.fullmatch(target) is not None
    if target == b"*":
        return method == b"OPTIONS"
    return ABSOLUTE_FORM.fullmatch(target) is not None


def status_line(raw: bytes) -> StatusLine:
    """Read a status line; raises `ProtocolError`."""
    match = STATUS_LINE.fullmatch(raw)
    if match is None:
        raise ProtocolError(502, "status_line", "The status line is not valid.")
    return StatusLine(raw, int(match[2]), int(match[1]))


_remembered_request_line = lru_cache(REMEMBERED_START_LINES)(request_line)
_remembered_status_line = lru_cache(256)(status_line)


def find_end(data: bytes | bytearray, searched: int, limit: int) -> int:
    """Where the head ends (before its empty line), or -1 when more bytes are needed.

    ``searched`` bytes were looked at by an earlier call. A head of more than ``limit`` bytes raises
    `ProtocolError`; so does a bare CR or LF or a NUL before the end is there. In a whole head it is
    left to the reader to refuse them.
    """
    end = data.find(END_OF_HEAD, max(0, searched - 3))
    if 0 <= end <= limit:
        return end
    stray = STRAY.search(data, max(0, searched - 1), limit if len(data) > limit else len(data))
    if stray is not None:
        raise _stray_byte()
    if len(data) >= limit + len(END_OF_HEAD):
        if data.find(CRLF, 0, limit) < 0:
            raise ProtocolError(414, "request_line_too_long", "The request line is too long.")
        raise ProtocolError(431, "head_too_large", f"The head is larger than {limit} bytes.")
    return -1


def _stray_byte() -> ProtocolError:
    return ProtocolError(400, "stray_byte", "The head holds a bare CR, a bare LF or a NUL.")


def _refusal(block: bytes, error: ProtocolError) -> ProtocolError:
    """The same refusal, whether or not `find_end` saw the head in pieces."""
    return _stray_byte() if STRAY.search(block + CRLF) else error


def read_request(block: bytes, table: FieldTable, max_fields: int) -> Request:
    """Read a request head, given without its empty line; raises `ProtocolError`."""
    lines = block.split(CRLF)
    raw = lines.pop(0)
    try:
        small = len(raw) <= REMEMBERED_START_LENGTH
        line = _remembered_request_line(raw) if small else request_line(raw)
        if len(lines) > max_fields:
            raise ProtocolError(431, "too_many_fields", f"More than {max_fields} header fields.")
        head = Request(line, lines, list(map(table.__getitem__, lines)))
    except ProtocolError as error:
        raise _refusal(block, error) from None
    hosts = 0
    index = -1
    for field in head.fields:
        index += 1
        kind = field.kind
        if kind == f.ORDINARY:
            continue
        if kind == f.MARKED:
            head.marked.append(index)
        elif kind == f.HOST:
            hosts += 1
            head.host = field.value
        elif kind == f.USER_AGENT:
            head.agent = field.value
        else:
            _request_field(head, index, field)
    if hosts != 1 and (line.minor or hosts):
        raise ProtocolError(400, "host", "A request carries exactly one Host header.")
    if line.minor == 0:
        _http_1_0(head)
    if head.chunked and head.length is not None:
        raise ProtocolError(400, "two_lengths", "Content-Length and Transfer-Encoding together.")
    return head


def _request_field(head: Request, index: int, field: Field) -> None:
    kind = field.kind
    value = field.value
    if kind == f.CONTENT_LENGTH:
        _content_length(head, field)
        if head.length and head.line.method == b"CONNECT":
            raise _connect_with_body()
    elif kind == f.TRANSFER_ENCODING:
        if value.lower() != b"chunked" or head.chunked:
            known_end = not head.chunked and _ends_in_chunked(value)
            raise ProtocolError(
                501 if known_end else 400, "transfer_encoding", "Only the chunked coding is known."
            )
        head.chunked = True
        if head.line.method == b"CONNECT":
            raise _connect_with_body()
    elif kind == f.EXPECT:
        if value.lower() == b"100-continue":
            head.expects = True
    elif kind == f.FORWARDED_FOR:
        head.forwarded += (index,)
    elif kind == f.BAD_HOST:
        raise ProtocolError(400, "host", "The Host header is not a host and port.")
    else:
        _hop_by_hop(head, index, field)


def _connect_with_body() -> ProtocolError:
    """Some take what follows a CONNECT for its body, some for the tunnel's bytes."""
    return ProtocolError(400, "connect_body", "A CONNECT request has no body.")


def _ends_in_chunked(value: bytes) -> bool:
    """Whether a list of transfer codings has chunked at its end and nowhere else."""
    *others, last = (coding.strip(b" \t") for coding in value.lower().split(b","))
    return last == b"chunked" and all(
        coding != b"chunked" and f.NAME.fullmatch(coding) for coding in others
    )


def _tokens(value: bytes) -> set[bytes]:
    return {token.strip(b" \t") for token in value.lower().split(b",")}


def _content_length(head: Head, field: Field) -> None:
    if head.length is not None or field.length < 0:
        raise ProtocolError(400, "content_length", "Content-Length is not one decimal number.")
    head.length = field.length


def _hop_by_hop(head: Head, index: int, field: Field) -> None:
    """Fields that concern this connection only are not sent on (RFC 9110 section 7.6.1)."""
    head.dropped.append(index)
    if field.kind == f.UPGRADE:
        head.upgrade = b", ".join((head.upgrade, field.value)) if head.upgrade else field.value
    elif field.kind == f.TE:
        if b"trailers" in _tokens(field.value) and TE_TRAILERS[0] not in head.added:
            head.added += TE_TRAILERS
    elif field.kind == f.CONNECTION:
        options = field.options
        if b"close" in options:
            head.close = True
        nominated = options - KEPT_OPTIONS
        if nominated:
            head.dropped += [at for at, other in enumerate(head.fields) if other.name in nominated]


TE_TRAILERS: Final = (b"TE: trailers", b"Connection: TE")

KEEP_ALIVE: Final = frozenset({b"keep-alive"})

KEPT_OPTIONS: Final = frozenset(
    {b"", b"close", b"keep-alive", b"upgrade", b"te"}
    | {b"host", b"content-length", b"transfer-encoding"}
    | {b"traceparent", b"tracestate", b"baggage"}
)
"""Options of Connection that drop no further field: neither framing nor a trace can be dropped."""


def _http_1_0(head: Request) -> None:
    """HTTP/1.0 closes unless told otherwise, and knows no chunked coding, Upgrade or 1xx.

    RFC 9112 section 9.3, RFC 9110 sections 7.8 and 10.1.1.
    """
    if head.chunked:
        raise ProtocolError(400, "chunked_1_0", "Transfer-Encoding in an HTTP/1.0 request.")
    wishes = b",".join(head.values(b"connection")).lower()
    head.close = head.close or b"keep-alive" not in wishes
    head.upgrade = b""
    head.expects = False


def read_response(block: bytes, table: FieldTable, max_fields: int, method: bytes) -> Response:
    """Read a response head, given without its empty line, to a request with ``method``.

    Raises `ProtocolError` with status 502.
    """
    lines = block.split(CRLF)
    raw = lines.pop(0)
    try:
        small = len(raw) <= REMEMBERED_START_LENGTH
        line = _remembered_status_line(raw) if small else status_line(raw)
        if len(lines) > max_fields:
            raise ProtocolError(502, "too_many_fields", f"More than {max_fields} header fields.")
        head = Response(line, lines, list(map(table.__getitem__, lines)))
        index = -1
        for field in head.fields:
            index += 1
            if field.kind:
                _response_field(head, index, field)
    except ProtocolError as error:
        error = _refusal(block, error)
        raise ProtocolError(502, error.reason, f"The upstream's answer: {error}") from None
    if line.minor == 0:
        head.close = head.close or b"keep-alive" not in head.first(b"connection").lower()
    _response_framing(head, method)
    return head


def _response_field(head: Response, index: int, field: Field) -> None:
    kind = field.kind
    if kind == f.CONTENT_LENGTH:
        _content_length(head, field)
    elif kind == f.TRANSFER_ENCODING:
        if head.chunked or not _ends_in_chunked(field.value):
            raise ProtocolError(502, "transfer_encoding", "Its last coding is not chunked.")
        head.chunked = True
    elif kind == f.CONNECTION and field.options == KEEP_ALIVE and head.line.minor:
        head.keep_alive.append(index)
    elif kind in (f.UPGRADE, f.CONNECTION, f.HOP_BY_HOP):
        _hop_by_hop(head, index, field)
    elif kind == f.MARKED:
        head.marked.append(index)


def _response_framing(head: Response, method: bytes) -> None:
    """RFC 9112 section 6.3, in its order."""
    code = head.line.code
    connected = method == b"CONNECT" and code < 300
    if method == b"HEAD" or code < 200 or code in (204, 304) or connected:
        head.chunked = False
        head.length = 0
    elif head.chunked:
        if head.length is not None:
            raise ProtocolError(502, "two_lengths", "The upstream's answer has two lengths.")
        if head.line.minor == 0:
            raise ProtocolError(502, "chunked_1_0", "The upstream's HTTP/1.0 answer is chunked.")
    elif head.length is None:
        head.until_close = True
        head.close = True
