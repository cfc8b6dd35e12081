"""meshproxy: distributed tracing for services that nobody can or wants to change."""

from importlib.metadata import version

__version__ = version("meshproxy")
