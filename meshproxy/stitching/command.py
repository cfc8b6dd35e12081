"""``meshproxy stitch FILE``: fill in the parents of calls whose trace context was lost."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from meshproxy.linking.stitch import Link, Options
    from meshproxy.stitching.source import Source

_DONE, _FAILED = 0, 1

_MILLISECOND = 1_000_000


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command and its options."""
    parser = commands.add_parser("stitch", help="find the causes of calls in a file of spans")
    parser.add_argument(
        "file", metavar="FILE", help='OTLP JSON lines or CSV, may be gzipped; "-" is standard input'
    )
    parser.add_argument(
        "-o", "--output", metavar="OUT", default="-", help="default: standard output"
    )
    parser.add_argument(
        "--threshold",
        type=_probability,
        default=0.95,
        metavar="P",
        help="confidence from which a span gets a new parent (OTLP; default %(default)s)",
    )
    parser.add_argument(
        "--skew",
        type=_milliseconds,
        default=2.0,
        metavar="MS",
        help="how much before its request a call may seem to begin (default %(default)s ms)",
    )
    parser.add_argument(
        "--linger",
        type=_milliseconds,
        default=5000.0,
        metavar="MS",
        help="how long after its request a call may begin (default %(default)s ms)",
    )
    parser.add_argument(
        "--skip-bad-lines", action="store_true", help="pass on lines that are no OTLP JSON"
    )


def _probability(text: str) -> float:
    value = float(text)
    if not 0.0 <= value <= 1.0:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value


def _milliseconds(text: str) -> float:
    value = float(text)
    if not 0.0 <= value <= 3_600_000.0:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and an hour")
    return value


def run(args: argparse.Namespace) -> int:
    """Do what the parsed ``args`` say; return the exit code."""
    from meshproxy.stitching.source import Source, UnusableError

    try:
        with Source(args.file) as source:
            summary = _stitch(source, args)
    except UnusableError as error:
        _say(str(error))
        return _FAILED
    except BrokenPipeError:
        raise
    except OSError as error:
        _say(f"{error.filename or args.output}: {error.strerror or error}")
        return _FAILED
    _say(summary)
    return _DONE


def _stitch(source: Source, args: argparse.Namespace) -> str:
    from meshproxy.linking.stitch import Options
    from meshproxy.stitching.table import first_line

    options = Options(int(args.skew * _MILLISECOND), int(args.linger * _MILLISECOND))
    first = first_line(source)
    if not first:
        with _opened(args.output):
            return f"{source.name} is empty: nothing to do"
    if first.lstrip().startswith(b"{"):
        return _stitch_spans(source, options, args)
    return _stitch_table(source, options, args)


def _stitch_table(source: Source, options: Options, args: argparse.Namespace) -> str:
    from meshproxy.linking.stitch import stitch
    from meshproxy.stitching import table

    rows = table.read(source, _say)
    links = stitch(rows.observations(), options)
    with _opened(args.output) as out:
        rows.write(links, out)
    return _summary(links, args.threshold, rows.skipped)


def _stitch_spans(source: Source, options: Options, args: argparse.Namespace) -> str:
    from meshproxy.linking.stitch import stitch
    from meshproxy.stitching import mend, spans

    recording = spans.read(source, _say, tolerant=args.skip_bad_lines)
    observations = spans.observations(recording.records)
    wanted = {o.key for o in observations if o.direction == "out" and o.parent is None}
    links = stitch(observations, options)
    mending = mend.Mending(recording, links, wanted, args.threshold)
    with _opened(args.output) as out:
        mending.write(source, out)
    certain = sum(o.direction == "out" for o in observations) - len(wanted)
    return (
        f"{certain} calls were linked; of {len(wanted)} others {mending.mended} are now, "
        f"{mending.unsure} have links to candidates; lines passed on as they are: "
        f"{len(recording.bad)}"
    )


def _summary(links: Sequence[Link], threshold: float, skipped: int) -> str:
    sure = sum(link.parent is not None and link.confidence >= threshold for link in links)
    nobody = sum(link.parent is None for link in links)
    return (
        f"{len(links)} calls: {sure} with a parent of confidence {threshold:g} or more, "
        f"{len(links) - sure - nobody} of less, {nobody} that no request caused; "
        f"lines skipped: {skipped}"
    )


@contextmanager
def _opened(name: str) -> Iterator[IO[bytes]]:
    """The output. A file appears, or is replaced, when all of it is written."""
    if name == "-":
        yield sys.stdout.buffer
        return
    path = Path(name)
    if path.exists() and not path.is_file():
        with path.open("wb") as file:
            yield file
        return
    path = path.resolve()
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with partial.open("xb") as file:
            yield file
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _say(message: str) -> None:
    print(f"meshproxy: {message}", file=sys.stderr)
