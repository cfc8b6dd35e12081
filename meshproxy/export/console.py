"""A line a span, for people."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TextIO, cast

from meshproxy.export.exporter import Item, PermanentError, SendResult
from meshproxy.export.protobuf import utf8
from meshproxy.export.thread import WriterThread
from meshproxy.trace.span import Attributes, AttributeValue, Kind, Span, Status

WRITE_FAILED = "write_failed"

_SLICE = 32


class ConsoleSpanExporter:
    """Writes spans to a text stream such as standard output, which is not closed."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._thread = WriterThread("export console")

    async def start(self) -> None:
        """Start the writing thread."""
        self._thread.start()

    def prepare(self, span: Span) -> Span:
        """Spans are queued as they are (`Exporter.prepare`)."""
        return span

    async def send(self, items: Sequence[Item]) -> SendResult:
        """Write a line for each span (`Exporter.send`)."""
        spans = cast(Sequence[Span], items)
        lines: list[str] = []
        for start in range(0, len(spans), _SLICE):
            lines += [format_span(span) + "\n" for span in spans[start : start + _SLICE]]
            await asyncio.sleep(0)
        try:
            await self._thread.run(lambda: self._write("".join(lines)))
        except (OSError, ValueError) as error:  # ValueError: the stream is closed
            raise PermanentError(f"console: {error}", reason=WRITE_FAILED) from error
        return SendResult(len(spans))

    async def close(self) -> None:
        """End the writing thread."""
        self._thread.stop(lambda: None)

    def _write(self, text: str) -> None:
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        self._stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
        self._stream.flush()


def format_span(span: Span) -> str:
    """One line: start, kind, name, duration, ids, status, attributes, then events and links."""
    start = datetime.fromtimestamp(span.start_ns / 1e9, UTC).isoformat(timespec="milliseconds")
    words = [
        start.replace("+00:00", "Z"),
        Kind(span.shape.kind).name,
        _word(span.shape.name, blanks=True),
        f"{(span.end_ns - span.start_ns) / 1e6:.3f}ms",
        f"trace={span.trace_id.hex()}",
        f"span={span.span_id.hex()}",
        f"parent={span.parent_id.hex() or '-'}",
    ]
    if span.status:
        words.append(f"status={Status(span.status).name}")
    if span.status_message:
        words.append(f"message={_word(span.status_message)}")
    words += _attributes(span.all_attributes())
    for event in span.events:
        offset = (event.time_ns - span.start_ns) / 1e6
        inside = " ".join([f"+{offset:.3f}ms", *_attributes(event.attributes)])
        words.append(f"event={_word(event.name)}({inside})")
    for link in span.links:
        ids = f"{link.context.trace_id.hex()}-{link.context.span_id.hex()}"
        words.append(f"link={ids}({' '.join(_attributes(link.attributes))})")
    return " ".join(words)


def _attributes(attributes: Attributes) -> list[str]:
    return [f"{_word(key)}={_value(value)}" for key, value in attributes]


def _value(value: AttributeValue) -> str:
    if isinstance(value, str):
        return _word(value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return str(value)
    return f"[{','.join(_word(item) for item in value)}]"


def _word(text: str, *, blanks: bool = False) -> str:
    """The text as it is, or quoted when it would break the line or the terminal."""
    bare = text.replace(" ", "") if blanks else text
    if bare and bare.isprintable() and not set(bare) & set(' "='):
        return text
    quoted = json.dumps(utf8(text).decode(), ensure_ascii=False)
    return "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in quoted)
