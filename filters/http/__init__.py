"""Tracing of HTTP/1.1: SERVER and CLIENT spans, context in and out, broken chains mended."""

from filters.http.tracing import HttpTracing

__all__ = ["HttpTracing"]
