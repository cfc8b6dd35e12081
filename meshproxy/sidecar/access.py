"""The access log: one line for every exchange."""

from __future__ import annotations

from collections.abc import Callable

from meshproxy import logs
from meshproxy.filter import Exchange
from meshproxy.transport.pipeline import trace_facts

log = logs.get("meshproxy.access")


def access_log(enabled: bool) -> Callable[[Exchange], None] | None:
    """What writes the line, or None when the log is off."""
    return _write if enabled else None


def _write(exchange: Exchange) -> None:
    line = exchange.request.line
    facts: dict[str, object] = {
        "direction": "inbound" if exchange.scope.inbound else "outbound",
        "method": line.method.decode("latin-1"),
        "target": line.target.partition(b"?")[0].decode("latin-1"),  # queries may hold secrets
        "status": exchange.status,
        "duration_ms": round((exchange.end_ns - exchange.start_ns) / 1e6, 3),
        "client": exchange.client[0],
        "destination": f"{exchange.destination[0]}:{exchange.destination[1]}",
    }
    if exchange.peer:
        facts["peer"] = exchange.peer
    facts.update(trace_facts(exchange))
    if exchange.failure is not None:
        facts["error"] = exchange.failure.kind
        facts["detail"] = exchange.failure.message
    log.info("request", **facts)
