"""From the text of a configuration to a `Config`, or to the list of everything wrong with it."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

from msgspec import inspect

from meshproxy.config import checks, structure, yamltree
from meshproxy.config.model import Config
from meshproxy.config.normalise import normalise
from meshproxy.config.problems import ConfigError, Problem, Problems

SIZE_LIMIT = 1 << 20
"""Bytes of a configuration file: more is a mistake in the file's name."""


def load(
    text: str, environ: Mapping[str, str], why_unreadable: checks.FileCheck | None = None
) -> Config:
    """The configuration in ``text``, complete: durations in seconds, modes inferred.

    ``environ`` gives the values for ``${VAR}``. The files that the configuration names are checked
    with ``why_unreadable``, if it is given. Raises ConfigError with all mistakes.
    """
    if len(text) > SIZE_LIMIT:
        raise ConfigError([Problem("", f"is larger than {SIZE_LIMIT} bytes")])
    problems = Problems()
    tree = yamltree.parse(text, environ, problems)
    if tree is None:
        tree = {}
    if not isinstance(tree, dict):
        raise ConfigError([Problem("", "must be a mapping of keys such as inbound and outbound")])
    tree = normalise(tree, inspect.type_info(Config), problems)
    config, origin = structure.convert(tree, problems)
    if config is not None:
        config = checks.infer_modes(config)
        for finding in checks.run(config, why_unreadable):
            if not any(problems.touches(origin(path)) for path in finding.reads):
                problems.note(origin(finding.path), finding.message)
    if config is None or problems.found:
        raise ConfigError(problems.found)
    return config


def load_file(path: str, environ: Mapping[str, str]) -> Config:
    """The configuration in the file at ``path``; the files that it names are checked too.

    Names of files are relative to the working directory. Raises ConfigError, with all mistakes.
    """
    return load(read(path), environ, why_unreadable)


def read(path: str) -> str:
    """The text of the file at ``path``. Raises ConfigError if it is not UTF-8, or no such file."""
    try:
        with open(path, "rb") as file:
            data = file.read(SIZE_LIMIT + 1)
    except OSError as error:
        raise ConfigError([Problem("", _reason(error))]) from None
    except ValueError:
        raise ConfigError([Problem("", "is not the name of a file")]) from None
    return _decode(data)


def read_standard_input() -> str:
    """The text that is piped in. Raises ConfigError as `read` does."""
    return _decode(sys.stdin.buffer.read(SIZE_LIMIT + 1))


def _decode(data: bytes) -> str:
    if len(data) > SIZE_LIMIT:
        raise ConfigError([Problem("", f"is larger than {SIZE_LIMIT} bytes")])
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError([Problem(f"line {line}", "is not UTF-8")]) from None


def why_unreadable(path: str) -> str | None:
    """Why the file at ``path`` cannot be read, for people; None if it can."""
    try:
        with open(path, "rb") as file:
            file.read(1)
    except ValueError:
        return "is not the name of a file"
    except OSError as error:
        return _reason(error)
    return None


def _reason(error: OSError) -> str:
    match error:
        case FileNotFoundError():
            return "file does not exist"
        case PermissionError():
            return "file cannot be read: no permission"
        case IsADirectoryError():
            return "is a directory, not a file"
        case _:
            return f"file cannot be read: {os.strerror(error.errno or 0)}"
