"""The command line. Exit codes: 0 done, 1 failed, 2 used wrongly, 130 interrupted.

What a command needs is imported when it runs: the command line itself costs next to nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import NamedTuple, TypeAlias

from meshproxy import __version__, gapreport
from meshproxy.stitching import command as stitching

OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
"""What `argparse.ArgumentParser.add_subparsers` gives."""


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
    if options.command is None:
        parser.print_help(sys.stderr)
        return USAGE
    return COMMANDS[options.command].run(options)


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
        known = COMMANDS[word].subcommands if word in COMMANDS else ()
    return None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="meshproxy",
        description="Distributed tracing for services that nobody can or wants to change.",
    )
    parser.add_argument("--version", action="version", version=f"meshproxy {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for command in COMMANDS.values():
        command.add_parser(commands)
    return parser


def _sidecar_parser(commands: Commands) -> None:
    sidecar = commands.add_parser("sidecar", help="run a sidecar")
    sidecar.add_argument("-c", "--config", metavar="FILE", required=True, help="configuration")


def _sidecar(options: argparse.Namespace) -> int:
    from meshproxy.sidecar.main import run

    return run(options.config)


def _demo_parser(commands: Commands) -> None:
    demo = commands.add_parser("demo", help="run a small mesh without and with meshproxy")
    demo.add_argument("--keep", action="store_true", help="keep it running at the end")


def _demo(options: argparse.Namespace) -> int:
    from meshproxy.demo.main import run

    return run(options.keep)


def _config_parser(commands: Commands) -> None:
    config = commands.add_parser("config", help="check a configuration, print its schema")
    subcommands = config.add_subparsers(dest="subcommand", metavar="COMMAND", required=True)
    check = subcommands.add_parser("check", help="tell every mistake in configuration files")
    check.add_argument("files", metavar="FILE", nargs="+", help='a file; "-" is standard input')
    subcommands.add_parser("schema", help="print the JSON Schema of the configuration")


def _config(options: argparse.Namespace) -> int:
    return _config_check(options.files) if options.subcommand == "check" else _config_schema()


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


def _discard_output() -> None:
    """Whoever read our output is gone: let what is still buffered go nowhere, without complaint."""
    null = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            os.dup2(null, stream.fileno())
    os.close(null)


class Command(NamedTuple):
    """One command: adds its options, and does what they ask for; `run` gives the exit code."""

    add_parser: Callable[[Commands], None]
    run: Callable[[argparse.Namespace], int]
    subcommands: tuple[str, ...] = ()


COMMANDS: dict[str, Command] = {
    "sidecar": Command(_sidecar_parser, _sidecar),
    "demo": Command(_demo_parser, _demo),
    "config": Command(_config_parser, _config, ("check", "schema")),
    "gaps": Command(gapreport.add_parser, gapreport.run),
    "stitch": Command(stitching.add_parser, stitching.run),
}
"""All commands; a module that brings one imports next to nothing at its top."""
