"""The command line. Exit codes: 0 done, 1 failed, 2 used wrongly, 130 interrupted.

What a command needs is imported when it runs: the command line itself costs next to nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

from meshproxy import __version__

OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130

COMMANDS: dict[str, tuple[str, ...]] = {
    "sidecar": (),
    "demo": (),
    "config": ("check", "schema"),
    "gaps": (),
}
"""Commands and their subcommands."""


FETCH_TIMEOUT = 5.0
"""Seconds that a sidecar has for its answer."""

FETCH_LIMIT = 16 << 20
"""Bytes of an answer that are read."""

_GAP_COLUMNS = (
    ("SERVICE", "<"),
    ("ROUTE", "<"),
    ("DESTINATION", "<"),
    ("KIND", "<"),
    ("COUNT", ">"),
    ("CALLS", ">"),
    ("SHARE", ">"),
    ("EXAMPLE", "<"),
)
"""Titles and alignments."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command in ``argv`` (the process's own arguments if None); return its exit code.

    Raises SystemExit, as argparse does, for help, the version and wrong usage.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        code = _dispatch(arguments)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        _discard_output()
        return FAILED
    return code


def _dispatch(arguments: list[str]) -> int:
    mistake = unknown_command(arguments)
    if mistake is not None:
        print(f"meshproxy: {mistake}", file=sys.stderr)
        return USAGE
    parser = _parser()
    options = parser.parse_args(arguments)
    match options.command, getattr(options, "subcommand", None):
        case "sidecar", _:
            from meshproxy.sidecar.main import run as run_sidecar

            return run_sidecar(options.config)
        case "demo", _:
            from meshproxy.demo.main import run as run_demo

            return run_demo(options.keep)
        case "gaps", _:
            return _gaps(options.sidecar, options.json)
        case "config", "check":
            return _config_check(options.files)
        case "config", "schema":
            return _config_schema()
    parser.print_help(sys.stderr)
    return USAGE


def unknown_command(arguments: Sequence[str]) -> str | None:
    """What to say about a command that there is not, naming the nearest one; None if it is fine."""
    known: Sequence[str] = tuple(COMMANDS)
    for word in arguments[:2]:
        if word.startswith("-") or not known:
            return None
        if word not in known:
            near = get_close_matches(word, known, n=1)
            hint = f'did you mean "{near[0]}"?' if near else f"there is: {', '.join(known)}"
            return f'unknown command "{word}", {hint}'
        known = COMMANDS.get(word, ())
    return None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="meshproxy",
        description="Distributed tracing for services that nobody can or wants to change.",
    )
    parser.add_argument("--version", action="version", version=f"meshproxy {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")

    sidecar = commands.add_parser("sidecar", help="run a sidecar")
    sidecar.add_argument("-c", "--config", metavar="FILE", required=True, help="configuration")

    demo = commands.add_parser("demo", help="run a small mesh without and with meshproxy")
    demo.add_argument("--keep", action="store_true", help="keep it running at the end")

    gaps = commands.add_parser("gaps", help="show where a service loses trace context")
    gaps.add_argument("--sidecar", metavar="URL", required=True, help="a sidecar's admin address")
    gaps.add_argument("--json", action="store_true", help="print JSON")

    config = commands.add_parser("config", help="check a configuration, print its schema")
    subcommands = config.add_subparsers(dest="subcommand", metavar="COMMAND", required=True)
    check = subcommands.add_parser("check", help="tell every mistake in configuration files")
    check.add_argument("files", metavar="FILE", nargs="+", help='a file; "-" is standard input')
    subcommands.add_parser("schema", help="print the JSON Schema of the configuration")
    return parser


def _config_check(files: Sequence[str]) -> int:
    results = [_check_file(file) for file in files]
    return OK if all(results) else FAILED


def _check_file(file: str) -> bool:
    from meshproxy.config import checks, loader
    from meshproxy.config.problems import ConfigError

    try:
        text = loader.read_standard_input() if file == "-" else loader.read(file)
        config = loader.load(text, os.environ, loader.why_unreadable)
    except ConfigError as error:
        for problem in error.problems:
            print(f"{file}: {problem}", file=sys.stderr)
        return False
    for warning in checks.warnings(config):
        print(f"{file}: warning: {warning}", file=sys.stderr)
    print(f"{file}: ok")
    return True


def _config_schema() -> int:
    from meshproxy.config.schema import schema

    print(json.dumps(schema(), indent=2, ensure_ascii=False))
    return OK


def _gaps(url: str, as_json: bool) -> int:
    try:
        found = _fetch_gaps(url)
    except ValueError as error:
        print(f"meshproxy: {error}", file=sys.stderr)
        return FAILED
    if as_json:
        print(json.dumps({"gaps": found}, indent=2))
    elif found:
        print(_table(_GAP_COLUMNS, [_gap_row(gap) for gap in found]))
        print(*_advice(found), sep="\n", end="")
    else:
        print("no gaps: every call that the sidecar saw carried its trace context")
    return OK


def _fetch_gaps(url: str) -> list[dict[str, Any]]:
    """The gaps that the sidecar with its admin endpoints at ``url`` has counted.

    Raises ValueError, with a message for people, when they cannot be had.
    """
    from http.client import HTTPException
    from urllib.error import HTTPError
    from urllib.request import ProxyHandler, build_opener

    base = (url if "://" in url else f"http://{url}").rstrip("/")
    if not base.startswith(("http://", "https://")):
        raise ValueError(f"{url} is not an http:// or https:// URL")
    # Never through HTTP_PROXY: that may be the very sidecar that is asked.
    opener = build_opener(ProxyHandler({}))
    try:
        with opener.open(f"{base}/gaps", timeout=FETCH_TIMEOUT) as response:
            body = response.read(FETCH_LIMIT)
    except HTTPError as error:
        raise ValueError(f"{base}/gaps answers {error.code}: is it a sidecar?") from None
    except (OSError, HTTPException, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise ValueError(f"no sidecar to be reached at {base}: {reason}") from None
    return _read_gaps(body, base)


def _read_gaps(body: bytes, base: str) -> list[dict[str, Any]]:
    try:
        found = json.loads(body)["gaps"]
        usable = all(isinstance(gap, dict) for gap in found)
    except (ValueError, LookupError, TypeError, RecursionError):
        usable = False
    if not usable:
        raise ValueError(f"{base}/gaps does not answer as a sidecar does")
    return list(found)


def _gap_row(gap: dict[str, Any]) -> list[str]:
    count, calls = gap.get("count"), gap.get("calls")
    share = "-"
    if isinstance(count, int) and isinstance(calls, int) and calls > 0:
        share = f"{count / calls:.0%}"
    names = [_cell(gap.get(key)) for key in ("service", "route", "destination", "kind")]
    return [*names, _cell(count), _cell(calls), share, _cell(gap.get("example_trace_id"))]


def _advice(found: list[dict[str, Any]]) -> list[str]:
    """What to change in the services, once for each kind of gap and advice."""
    lines = dict.fromkeys(
        f"{_cell(gap['kind'])}: {_cell(gap['advice'])}"
        for gap in found
        if gap.get("kind") and gap.get("advice")
    )
    return ["", "What to change:", *lines, ""] if lines else []


def _cell(value: object) -> str:
    """``value`` for a terminal: one line, without control characters."""
    text = "-" if value is None or value == "" else str(value)
    return "".join(c if c.isprintable() else "?" for c in text)


def _table(columns: Sequence[tuple[str, str]], rows: list[list[str]]) -> str:
    widths = [
        max(len(title), *(len(row[i]) for row in rows)) for i, (title, _) in enumerate(columns)
    ]
    lines = [[title for title, _ in columns], *rows]
    return "\n".join(
        "  ".join(
            format(text, f"{align}{width}")
            for text, (_, align), width in zip(line, columns, widths, strict=True)
        ).rstrip()
        for line in lines
    )


def _discard_output() -> None:
    """Whoever read our output is gone: let what is still buffered go nowhere, without complaint."""
    null = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            os.dup2(null, stream.fileno())
    os.close(null)
