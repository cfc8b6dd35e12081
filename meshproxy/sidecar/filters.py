"""Filters by entry point: ours and third parties' are found in the same way."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import entry_points

from meshproxy import logs
from meshproxy.config.model import Config
from meshproxy.filter import Environment, Filter
from meshproxy.transport.accept import NOT_SPOKEN

GROUP = "meshproxy.filters"

log = logs.get(__name__)


class FilterError(Exception):
    """A filter is installed and cannot be used."""


def load_filters(environment: Environment) -> list[Filter]:
    """Make one of each filter that is installed, in the order of their names.

    Raises `FilterError` when one cannot be imported or made.
    """
    filters = []
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        try:
            made = entry.load()(environment)
        except Exception as error:
            raise FilterError(f"filter {entry.name} ({entry.value}): {error!r}") from error
        if not isinstance(made, Filter):
            raise FilterError(f"filter {entry.name} ({entry.value}) is no meshproxy.filter.Filter")
        filters.append(made)
    return filters


def check_spoken(config: Config, filters: Sequence[Filter]) -> None:
    """Raise `FilterError` for a listener whose protocol no filter speaks."""
    spoken = {each.protocol for each in filters}
    for i, item in enumerate(config.outbound):
        if item.protocol not in NOT_SPOKEN and item.protocol not in spoken:
            raise FilterError(
                f"outbound[{i}].protocol: no filter that speaks {item.protocol} is installed"
            )
