"""What tracing needs within an application's own process: the current span, ids, sampling, export.

Nothing here ever waits for telemetry, and nothing is set up before the first use.
"""

from meshproxy.inprocess.context import Current, Scope, current, parent
from meshproxy.inprocess.requests import TraceContextMiddleware, request_context
from meshproxy.inprocess.tracer import Started, Tracer, tracer

__all__ = [
    "Current",
    "Scope",
    "Started",
    "TraceContextMiddleware",
    "Tracer",
    "current",
    "parent",
    "request_context",
    "tracer",
]
