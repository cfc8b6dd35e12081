"""Spans that the service's own process made, on their way through the sidecar (OTLP/HTTP).

They go to all exporters of the sidecar, under the sidecar's resource: it stands for the service.
Their own resource and instrumentation scope are not kept.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from struct import Struct
from typing import Final

from aiohttp import web
from isal import isal_zlib

from meshproxy.export.otlp import HAS_IS_REMOTE, IS_REMOTE
from meshproxy.export.protobuf import DecodeError, delimited, fields, varint
from meshproxy.trace import tracestate
from meshproxy.trace.context import KNOWN_FLAGS, SpanContext
from meshproxy.trace.ids import SPAN_ID_SIZE, TRACE_ID_SIZE
from meshproxy.trace.span import AttributeValue, Event, Kind, Link, Span, SpanShape, Status

LIMIT: Final = 4 * 1024 * 1024
"""Bytes of a request's body, before and after decompression."""

PROTOBUF: Final = "application/x-protobuf"

_SLICE: Final = 32
"""Spans that are read before the event loop gets its turn: about a millisecond."""

_PIECE: Final = 256 * 1024
"""Bytes that are decompressed before the event loop gets its turn."""

_MOST_MEMBERS: Final = 100
"""Of a gzip file; one is usual."""

_MOST_SHAPES: Final = 1000
_DEEPEST: Final = 8
"""Levels of lists and maps in an attribute's value that are read."""

_NOT_GZIP: type[Exception] = isal_zlib.IsalError  # type: ignore[assignment]

_UNNAMED = SpanShape("", Kind.INTERNAL, ())

_KINDS = {kind.value: kind for kind in Kind}
"""Unspecified ones count as INTERNAL (trace.proto, SPAN_KIND_UNSPECIFIED)."""

_STATUSES = {status.value: status for status in Status}

_uint64 = Struct("<Q").unpack
_uint32 = Struct("<I").unpack
_double = Struct("<d").unpack

Value = int | bytes


class Ingest:
    """Takes ExportTraceServiceRequests and gives their spans to ``offer``."""

    def __init__(self, offer: Callable[[Span], None]) -> None:
        self._offer = offer
        self._reader = SpanReader()

    async def handle(self, request: web.Request) -> web.Response:
        """Answer POST ``/v1/traces``; a request is taken as a whole or not at all.

        Only spans without valid ids are left out by themselves, and the answer says how many.
        """
        if request.content_type != PROTOBUF:
            return _refused(415, f"the body has to be {PROTOBUF}, not {request.content_type}")
        encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
        if encoding not in ("gzip", "identity"):
            return _refused(415, f"the body may be compressed by gzip, not by {encoding}")
        try:
            body = await request.read()
            if encoding == "gzip":
                body = await _decompressed(body)
            spans, invalid = await self._read(body)
        except (web.HTTPRequestEntityTooLarge, OverflowError):
            return _refused(413, f"the body has more than {LIMIT} bytes")
        except _NOT_GZIP as error:
            return _refused(400, f"the body is not gzip: {error}")
        except (DecodeError, UnicodeDecodeError) as error:
            return _refused(400, f"the body is not an ExportTraceServiceRequest: {error}")
        for span in spans:
            self._offer(span)
        return web.Response(body=_partial_success(invalid), content_type=PROTOBUF)

    async def _read(self, body: bytes) -> tuple[list[Span], int]:
        """All spans, and how many more had no valid ids."""
        found: list[Span | None] = []
        for message in _span_messages(body):
            found.append(self._reader.read(message))
            if len(found) % _SLICE == 0:
                await asyncio.sleep(0)
        spans = [span for span in found if span is not None]
        return spans, len(found) - len(spans)


async def _decompressed(body: bytes) -> bytes:
    """Undo gzip, of all its members (RFC 1952, section 2.2).

    Raises OverflowError beyond `LIMIT`, `_NOT_GZIP`, `DecodeError`.
    """
    parts: list[bytes] = []
    room = LIMIT
    for _ in range(_MOST_MEMBERS):
        body, room = await _member(body, parts, room)
        if not body:
            return b"".join(parts)
    raise DecodeError(f"the gzip file has more than {_MOST_MEMBERS} members")


async def _member(body: bytes, parts: list[bytes], room: int) -> tuple[bytes, int]:
    """Undo one member of at most ``room`` bytes; gives what follows it, and the room left."""
    stream = isal_zlib.decompressobj(16 + isal_zlib.MAX_WBITS)
    while not stream.eof:
        part = stream.decompress(body, _PIECE)
        body = stream.unconsumed_tail
        if not part and not stream.eof:
            raise DecodeError("the gzip stream breaks off")
        parts.append(part)
        room -= len(part)
        if room < 0:
            raise OverflowError
        await asyncio.sleep(0)
    return stream.unused_data, room


class SpanReader:
    """Reads Span messages of OTLP (opentelemetry/proto/trace/v1/trace.proto)."""

    def __init__(self) -> None:
        self._shapes: dict[tuple[str, Kind], SpanShape] = {}

    def read(self, message: bytes) -> Span | None:
        """Read a span; None when an id is not valid. Raises `DecodeError`, UnicodeDecodeError."""
        span = Span(_UNNAMED, SpanContext(b"", b""), b"", 0, 0)
        span.attributes, span.events, span.links = attributes, events, links = [], [], []
        name, kind, flags = "", Kind.INTERNAL, 0
        for number, value in fields(message):
            match number:
                case 1:
                    span.trace_id = _bytes(value)
                case 2:
                    span.span_id = _bytes(value)
                case 3:
                    span.tracestate = tracestate.parse([_bytes(value)])
                case 4:
                    span.parent_id = _bytes(value)
                case 5:
                    name = _text(value)
                case 6:
                    kind = _KINDS.get(_number(value), Kind.INTERNAL)
                case 7:
                    span.start_ns = _fixed64(value)
                case 8:
                    span.end_ns = _fixed64(value)
                case 9:
                    attributes.append(_attribute(_bytes(value)))
                case 11:
                    events.append(_event(_bytes(value)))
                case 13:
                    links += _link(_bytes(value))
                case 15:
                    span.status, span.status_message = _status(_bytes(value))
                case 16:
                    flags = _fixed32(value)
        span.shape = self._shape(name, kind)
        span.flags = flags & KNOWN_FLAGS
        span.parent_remote = bool(flags & HAS_IS_REMOTE and flags & IS_REMOTE)
        return span if _names_a_span(span.trace_id, span.span_id) and _has_parent(span) else None

    def _shape(self, name: str, kind: Kind) -> SpanShape:
        shape = self._shapes.get((name, kind))
        if shape is None:
            if len(self._shapes) >= _MOST_SHAPES:
                self._shapes.clear()
            shape = self._shapes[(name, kind)] = SpanShape(name, kind, ())
        return shape


def _span_messages(body: bytes) -> Iterator[bytes]:
    """The Span messages in ResourceSpans and their ScopeSpans."""
    for number, resource_spans in fields(body):
        if number != 1:
            continue
        for inner, scope_spans in fields(_bytes(resource_spans)):
            if inner != 2:
                continue
            for innermost, span in fields(_bytes(scope_spans)):
                if innermost == 2:
                    yield _bytes(span)


def _event(message: bytes) -> Event:
    event = Event("", 0)
    attributes: list[tuple[str, AttributeValue]] = []
    for number, value in fields(message):
        if number == 1:
            event.time_ns = _fixed64(value)
        elif number == 2:
            event.name = _text(value)
        elif number == 3:
            attributes.append(_attribute(_bytes(value)))
    event.attributes = attributes
    return event


def _link(message: bytes) -> list[Link]:
    """The link, or nothing when its ids are not valid."""
    context = SpanContext(b"", b"")
    attributes: list[tuple[str, AttributeValue]] = []
    for number, value in fields(message):
        if number == 1:
            context.trace_id = _bytes(value)
        elif number == 2:
            context.span_id = _bytes(value)
        elif number == 3:
            context.tracestate = tracestate.parse([_bytes(value)])
        elif number == 4:
            attributes.append(_attribute(_bytes(value)))
        elif number == 6:
            context.flags = _fixed32(value) & KNOWN_FLAGS
    return [Link(context, attributes)] if _names_a_span(context.trace_id, context.span_id) else []


def _status(message: bytes) -> tuple[Status, str]:
    code, text = 0, ""
    for number, value in fields(message):
        if number == 2:
            text = _text(value)
        elif number == 3:
            code = _number(value)
    return _STATUSES.get(code, Status.UNSET), text


def _attribute(message: bytes) -> tuple[str, AttributeValue]:
    key, found = "", b""
    for number, value in fields(message):
        if number == 1:
            key = _text(value)
        elif number == 2:
            found = _bytes(value)
    plain = _any_value(found, 0)
    if plain is None:
        return key, ""
    if isinstance(plain, list):
        return key, [each if isinstance(each, str) else _json(each) for each in plain]
    return key, _json(plain) if isinstance(plain, dict) else plain


Plain = str | bool | int | float | list["Plain"] | dict[str, "Plain"] | None


def _any_value(message: bytes, depth: int) -> Plain:
    """Read an AnyValue; bytes become hexadecimal digits. None when it is empty."""
    if depth > _DEEPEST:
        raise DecodeError(f"an attribute's value has more than {_DEEPEST} levels")
    found: Plain = None
    for number, value in fields(message):
        match number:
            case 1:
                found = _text(value)
            case 2:
                found = bool(_number(value))
            case 3:
                found = _signed(_number(value))
            case 4:
                (found,) = _double(_sized(value, 8))
            case 5:
                found = [
                    _any_value(_bytes(v), depth + 1) for n, v in fields(_bytes(value)) if n == 1
                ]
            case 6:
                found = dict(_members(_bytes(value), depth + 1))
            case 7:
                found = _bytes(value).hex()
    return found


def _members(message: bytes, depth: int) -> Iterator[tuple[str, Plain]]:
    for number, pair in fields(message):
        if number == 1:
            parts = dict(fields(_bytes(pair)))
            yield _text(parts.get(1, b"")), _any_value(_bytes(parts.get(2, b"")), depth)


def _json(value: Plain) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _names_a_span(trace_id: bytes, span_id: bytes) -> bool:
    sizes = (len(trace_id), len(span_id))
    return sizes == (TRACE_ID_SIZE, SPAN_ID_SIZE) and any(trace_id) and any(span_id)


def _has_parent(span: Span) -> bool:
    """Whether the parent's id is valid; that of a root is empty, or zero in some libraries."""
    if not any(span.parent_id):
        span.parent_id = b""
    return len(span.parent_id) in (0, SPAN_ID_SIZE)


def _bytes(value: Value) -> bytes:
    if isinstance(value, bytes):
        return value
    raise DecodeError("a number where bytes belong")


def _number(value: Value) -> int:
    if isinstance(value, int):
        return value
    raise DecodeError("bytes where a number belongs")


def _sized(value: Value, size: int) -> bytes:
    data = _bytes(value)
    if len(data) != size:
        raise DecodeError(f"{len(data)} bytes where {size} belong")
    return data


def _fixed64(value: Value) -> int:
    number: int = _uint64(_sized(value, 8))[0]
    return number


def _fixed32(value: Value) -> int:
    number: int = _uint32(_sized(value, 4))[0]
    return number


def _signed(number: int) -> int:
    return number - 2**64 if number >= 2**63 else number


def _text(value: Value) -> str:
    return _bytes(value).decode()


def _partial_success(invalid: int) -> bytes:
    """An ExportTraceServiceResponse; empty when every span was taken."""
    if not invalid:
        return b""
    message = b"spans without valid ids"
    return delimited(b"\x0a", b"\x08" + varint(invalid) + delimited(b"\x12", message))


def _refused(status: int, message: str) -> web.Response:
    """A google.rpc.Status, as OTLP/HTTP asks of every answer that is an error."""
    body = delimited(b"\x12", f"meshproxy: {message}".encode())
    return web.Response(status=status, body=body, content_type=PROTOBUF)
