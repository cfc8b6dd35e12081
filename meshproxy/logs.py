"""The process's own log: JSON lines on standard error.

A line has ``timestamp`` (ISO 8601, UTC), ``level``, ``event``, ``logger``, then the fields of the
call. What libraries log with the standard library's ``logging`` comes out in the same form.
"""

from __future__ import annotations

import logging
import sys
import traceback
from collections import OrderedDict
from collections.abc import Callable, Hashable, MutableMapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, BinaryIO, cast

import msgspec
import structlog

LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}

_QUIET = ("aiohttp.access",)
"""Loggers of libraries whose lines below a warning say nothing that ours do not."""


class _Output:
    """Where lines go, and from which level on: may change while loggers are in use."""

    def __init__(self) -> None:
        self.threshold = logging.INFO
        self.stream: BinaryIO | None = None

    def line(self, line: bytes) -> None:
        """Write a line; a log that cannot be written is lost, traffic is not."""
        stream = self.stream or getattr(sys.stderr, "buffer", None)
        if stream is None:
            return
        try:
            stream.write(line)
            stream.flush()
        except (OSError, ValueError):
            return

    debug = info = warning = error = line


_output = _Output()
_encoder = msgspec.json.Encoder(enc_hook=repr)


class Logger(structlog.BoundLoggerBase):
    """A logger with bound fields; made by `get`. Calls below the level cost a comparison."""

    def debug(self, event: str, **fields: Any) -> None:
        """Log what only a developer wants to know."""
        if _output.threshold <= logging.DEBUG:
            self._proxy_to_logger("debug", event, **fields)

    def info(self, event: str, **fields: Any) -> None:
        """Log what happens in normal operation."""
        if _output.threshold <= logging.INFO:
            self._proxy_to_logger("info", event, **fields)

    def warning(self, event: str, **fields: Any) -> None:
        """Log what an operator should look into."""
        if _output.threshold <= logging.WARNING:
            self._proxy_to_logger("warning", event, **fields)

    def error(self, event: str, **fields: Any) -> None:
        """Log a failure of the process; ``exc_info=True`` adds the exception being handled."""
        self._proxy_to_logger("error", event, **fields)


def configure(level: str, stream: BinaryIO | None = None) -> None:
    """Log from ``level`` on (a key of `LEVELS`), to ``stream`` (standard error if None).

    May be called again, as on a reload: loggers that exist follow.
    """
    _output.threshold = LEVELS[level]
    _output.stream = stream
    structlog.configure(
        processors=[_render],
        wrapper_class=Logger,
        logger_factory=lambda *_: _output,
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    root.handlers = [_Handler()]
    root.setLevel(_output.threshold)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(_output.threshold, logging.WARNING))
    logging.captureWarnings(True)


def get(name: str) -> Logger:
    """The logger called ``name``: the value of ``logger`` in its lines."""
    return Logger(_output, [_render], {"logger": name})


class Limiter:
    """Lets through at most one line for a key in an interval, and counts those it holds back.

    ``interval`` is in seconds, of ``clock``. At most ``keys`` keys are remembered: of more, the
    one unused for longest is forgotten, so that no flood of keys can fill the memory.
    """

    __slots__ = ("_clock", "_interval", "_keys", "_seen")

    def __init__(self, interval: float, clock: Callable[[], float], keys: int = 1000) -> None:
        self._interval = interval
        self._clock = clock
        self._keys = keys
        self._seen: OrderedDict[Hashable, tuple[float, int]] = OrderedDict()

    def allow(self, key: Hashable) -> int | None:
        """Whether a line for ``key`` may be logged now: None if not.

        If so, how many have been held back since the last one: log it with ``suppressed=…``.
        """
        now = self._clock()
        seen = self._seen.pop(key, None)
        if seen is not None and now - seen[0] < self._interval:
            self._seen[key] = (seen[0], seen[1] + 1)
            return None
        self._seen[key] = (now, 0)
        if len(self._seen) > self._keys:
            self._seen.popitem(last=False)
        return seen[1] if seen is not None else 0


class _Handler(logging.Handler):
    """Brings what libraries log into our form."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            event = record.getMessage()
        except Exception:  # A library's format and arguments need not fit.
            event = str(record.msg)
        fields: dict[str, Any] = {"event": event, "logger": record.name}
        if record.exc_info and record.exc_info[1]:
            fields["exc_info"] = record.exc_info
        _output.line(_render(None, record.levelname.lower(), fields))


def _render(_logger: Any, level: str, event: MutableMapping[str, Any]) -> bytes:
    # Keys in this order, whatever the fields are; fields cannot replace the first two.
    line = {"timestamp": None, "level": None, "event": None, "logger": None, **event}
    line["timestamp"] = datetime.now(UTC)
    line["level"] = level
    error = line.pop("exc_info", None)
    if error:
        line["exception"] = _traceback(error)
    try:
        return _encoder.encode(line) + b"\n"
    except (TypeError, ValueError, OverflowError, RecursionError):
        # Rare, such as a lone surrogate from undecodable bytes, or an integer of over 64 bits.
        return _encoder.encode({str(k): _plain(v) for k, v in line.items()}) + b"\n"


def _plain(value: object) -> object:
    if isinstance(value, str):
        return value.encode("ascii", "backslashreplace").decode()
    return value if isinstance(value, bool | float | datetime | None) else ascii(value)


def _traceback(error: object) -> str:
    if isinstance(error, BaseException):
        return "".join(traceback.format_exception(error))
    if isinstance(error, tuple):
        kind, value, trace = cast(
            "tuple[type[BaseException], BaseException, TracebackType | None]", error
        )
        return "".join(traceback.format_exception(kind, value, trace))
    return traceback.format_exc()
