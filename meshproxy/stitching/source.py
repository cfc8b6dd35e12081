"""Files that are read twice: to decide, and to write what was decided."""

from __future__ import annotations

import gzip
import shutil
import sys
import tempfile
import zlib
from collections.abc import Iterator
from typing import IO, Final

STANDARD: Final = "-"
"""The file name that stands for standard input or output."""

_GZIP: Final = b"\x1f\x8b"


class UnusableError(Exception):
    """The input cannot be used; the message says why, with file and line."""


class Source:
    """A file, or standard input, plain or gzipped; use it as a context manager.

    What cannot be read twice (a pipe) is copied into a temporary file. Raises UnusableError when
    the file cannot be opened.
    """

    def __init__(self, name: str) -> None:
        self.name = "standard input" if name == STANDARD else name
        try:
            raw = sys.stdin.buffer if name == STANDARD else open(name, "rb")  # noqa: SIM115
            self._file: IO[bytes] = raw if raw.seekable() else _copy(raw)
            self._start = self._file.tell()
            compressed = self._file.read(2) == _GZIP
            self._file.seek(self._start)
        except OSError as error:
            raise UnusableError(f"{self.name}: {error.strerror or error}") from error
        self._compressed = compressed

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not sys.stdin.buffer:
            self._file.close()

    def lines(self) -> Iterator[bytes]:
        """All lines, from the first, with their ends. Raises UnusableError."""
        self._file.seek(self._start)
        file = gzip.GzipFile(fileobj=self._file) if self._compressed else self._file
        number = 0
        try:
            for line in file:
                number += 1
                yield line
        except (OSError, EOFError, zlib.error) as error:
            raise UnusableError(f"{self.name}:{number + 1}: cannot be read: {error}") from error


def _copy(raw: IO[bytes]) -> IO[bytes]:
    copy = tempfile.TemporaryFile()  # noqa: SIM115
    shutil.copyfileobj(raw, copy)
    copy.seek(0)
    return copy
