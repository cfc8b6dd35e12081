"""Fixtures of the test support that these tests use."""

from tests.support.fixtures import collector

__all__ = ["collector"]
