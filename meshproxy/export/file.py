"""OTLP JSON lines in a file (OpenTelemetry, "OTLP File Exporter")."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from functools import partial
from typing import cast

from meshproxy.export.exporter import Item, PermanentError, SendResult
from meshproxy.export.otlp_json import encode_json_spans, frame_json
from meshproxy.export.thread import WriterThread
from meshproxy.trace.span import Attributes, Span

WRITE_FAILED = "write_failed"

_SLICE = 32
# O_NONBLOCK: a FIFO without a reader is an error, not a wait. Files do not heed it.
_OPEN_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
_MODE = 0o644


class FileSpanExporter:
    """Appends one ExportTraceServiceRequest a line, whole lines only.

    A file that was moved or removed (log rotation) is made anew before the next line.
    """

    def __init__(self, path: str, resource: Attributes) -> None:
        self._path = path
        self._resource = resource
        self._thread = WriterThread("export file")
        self._file = AppendedFile(path)

    async def start(self) -> None:
        """Start the writing thread; the file is opened with the first line."""
        self._thread.start()

    def prepare(self, span: Span) -> Span:
        """Spans are queued as they are (`Exporter.prepare`)."""
        return span

    async def send(self, items: Sequence[Item]) -> SendResult:
        """Append one line (`Exporter.send`)."""
        spans = cast(Sequence[Span], items)
        parts: list[bytes] = []
        for start in range(0, len(spans), _SLICE):
            parts.append(encode_json_spans(spans[start : start + _SLICE]))
            await asyncio.sleep(0)
        line = frame_json(self._resource, b",".join(parts))
        try:
            await self._thread.run(partial(self._file.append, line))
        except OSError as error:
            text = f"{self._path}: {error.strerror or error}"
            raise PermanentError(text, reason=WRITE_FAILED) from error
        return SendResult(len(spans))

    async def close(self) -> None:
        """Close the file, in the thread, after what is being written."""
        self._thread.stop(self._file.close)


class AppendedFile:
    """Lines appended to a path; blocking, for one thread."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._descriptor = -1
        self._torn = False

    def append(self, line: bytes) -> None:
        """Write a line and its end. Raises OSError; what was written then is cut off by the next.

        A line that broke off (disk full) is not taken back, since others may have appended
        meanwhile: the next one begins on a line of its own.
        """
        self._follow_rotation()
        data = memoryview((b"\n" if self._torn else b"") + line + b"\n")
        self._torn = False
        total = len(data)
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
        except OSError:
            self._torn = len(data) < total
            raise

    def close(self) -> None:
        """Close the file if it is open."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _follow_rotation(self) -> None:
        if self._descriptor >= 0 and not self._is_current():
            self.close()
            self._torn = False
        if self._descriptor < 0:
            self._descriptor = os.open(self._path, _OPEN_FLAGS, _MODE)

    def _is_current(self) -> bool:
        try:
            return os.path.samestat(os.stat(self._path), os.fstat(self._descriptor))
        except OSError:
            return False
