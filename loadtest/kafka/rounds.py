"""The order in which things are measured, so that noise meets all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from loadtest.processes import NotReadyError

Step = tuple[str, Callable[[], None]]
"""A peer's name, and what measures it once."""


class Rounds:
    """Takes steps in rounds. ``notes`` gets what went wrong, for the reader of the tables."""

    def __init__(
        self,
        planned: int,
        deadline: float,
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.notes: list[str] = []
        self._planned = planned
        self._deadline = deadline
        self._say = say
        self._clock = clock

    def take(self, title: str, cases: Sequence[Sequence[Step]], rounds: int | None = None) -> None:
        """Take the steps of each case once a round; no new round begins after the deadline.

        A step that fails is not taken again under this title, whatever the case: its peer has
        as many rounds then as all had before.
        """
        failed: set[str] = set()
        planned = self._planned if rounds is None else rounds
        for number in range(planned):
            if number and self._clock() > self._deadline:
                self.notes.append(f"{title}: cut to {number} rounds, the time was used up")
                return
            self._say(f"{title}: round {number + 1} of {planned}")
            for case in cases:
                for name, step in turned(case, number):
                    if name not in failed and not self._succeeds(title, name, step):
                        failed.add(name)

    def _succeeds(self, title: str, name: str, step: Callable[[], None]) -> bool:
        try:
            step()
        except NotReadyError as error:
            # The last line of what a client printed is its exception.
            reason = str(error).strip().splitlines()[-1]
            self.notes.append(f"{name}: {title}: {reason}")
            return False
        return True


def turned(case: Sequence[Step], number: int) -> list[Step]:
    """Every round begins elsewhere, so that no peer always follows the same one."""
    turn = number % max(1, len(case))
    return [*case[turn:], *case[:turn]]
