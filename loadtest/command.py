"""What the benches' command lines have in common."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Collection
from dataclasses import dataclass
from typing import NoReturn


@dataclass(frozen=True, slots=True)
class Command:
    """A bench as it is called, with the peers and figures that may be chosen from."""

    module: str
    name: str
    """Stands before what it says."""
    peers: Collection[str]
    figures: Collection[str]
    alone: str | None = None
    """A figure that is only measured by itself, when it is asked for."""

    def typed(self) -> str:
        """What was typed, to be typed again."""
        return " ".join([f"python -m {self.module}", *sys.argv[1:]])

    def say(self, text: str) -> None:
        """Say on standard error what happens now."""
        print(f"{self.name}: {text}", file=sys.stderr, flush=True)

    def fail(self, reason: object) -> NoReturn:
        sys.exit(f"{self.name}: {reason}")

    def parser(self, description: str | None, quick: str) -> argparse.ArgumentParser:
        """A parser of ``--quick``, ``--only`` and ``--figures``, for `parse`."""
        parser = argparse.ArgumentParser(prog=f"python -m {self.module}", description=description)
        parser.add_argument("--quick", action="store_true", help=quick)
        parser.add_argument("--only", metavar="PEER,…", help=f"of {', '.join(self.peers)}")
        alone = f"; or {self.alone} alone" if self.alone else ""
        parser.add_argument(
            "--figures", metavar="FIGURE,…", help=f"of {', '.join(self.figures)}{alone}"
        )
        return parser

    def parse(self, parser: argparse.ArgumentParser) -> argparse.Namespace:
        """The options; ``only`` and ``figures`` are lists, of all there are unless some are named.

        A name that is not known ends the program.
        """
        options = parser.parse_args()
        options.only = options.only.split(",") if options.only else list(self.peers)
        options.figures = options.figures.split(",") if options.figures else list(self.figures)
        for name in options.only:
            if name not in self.peers:
                parser.error(f"no peer is called {name!r}")
        nor = f", nor {self.alone} alone" if self.alone else ""
        for figure in options.figures:
            if figure not in self.figures and options.figures != [self.alone]:
                parser.error(f"{figure!r} is not one of {', '.join(self.figures)}{nor}")
        return options

    def in_full(self, options: argparse.Namespace) -> bool:
        """Whether every figure of every peer was asked for, and not the quick way."""
        all_peers = len(options.only) == len(self.peers)
        return all_peers and options.figures == list(self.figures) and not options.quick
