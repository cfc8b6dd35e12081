"""Evidence from owners, over a system that is made up."""

from __future__ import annotations

import pytest

from meshproxy.linking.owners import OwnerEvidence
from tests.linking.system import Clock, System


@pytest.fixture
def system() -> System:
    return System()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def evidence(system: System, clock: Clock) -> OwnerEvidence:
    return OwnerEvidence(system, clock)
