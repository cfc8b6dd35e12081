"""What inbound and outbound tracing share: reading headers, minting ids, writing headers."""

from __future__ import annotations

from typing import Final

from filters.shared import Contexts
from meshproxy.filter import Environment
from meshproxy.linking.gaps import Gap
from meshproxy.trace import traceparent
from meshproxy.trace.context import SpanContext
from meshproxy.trace.propagator import Extracted, Propagator
from meshproxy.trace.sampling import SamplingRequest
from meshproxy.wire.http1 import Head, Request

REQUEST_ID: Final = b"x-request-id"
CORRELATION_IDS: Final = (REQUEST_ID, b"x-correlation-id", b"x-amzn-requestid", b"x-ms-request-id")
OTHER_IDS: Final = frozenset(CORRELATION_IDS) - {REQUEST_ID}

KEPT: Final = frozenset(CORRELATION_IDS)
"""Marked fields that stay in the message."""

Fields = dict[bytes, list[bytes]]

STABILITY: Final = "OTEL_SEMCONV_STABILITY_OPT_IN"
"""``http/dup`` adds the attribute names from before the HTTP conventions were stable."""


class Tracing:
    """The parts that a filter for one direction works with."""

    def __init__(self, environment: Environment) -> None:
        config = environment.config
        self.environment = environment
        self.contexts = Contexts(environment)
        self.ids = self.contexts.ids
        self.sampler = self.contexts.sampler
        self.propagator = Propagator(config.propagation.extract, config.propagation.inject)
        self.plain = tuple(config.propagation.inject) == ("tracecontext",)
        wanted = environment.environ.get(STABILITY, "").split(",")
        self.old_names = "http/dup" in [each.strip() for each in wanted]
        self.unread = Propagator.fields - Propagator.fields_of(config.propagation.extract)

    def marked(self, request: Request) -> Fields:
        """The marked fields of a request by name; those of trace context are not sent on."""
        found: Fields = {}
        for index in request.marked:
            field = request.fields[index]
            name = field.name
            if name not in KEPT:
                request.dropped.append(index)
            if name in found:
                found[name].append(field.value)
            else:
                found[name] = [field.value]
        return found

    def broken(self, fields: Fields, extracted: Extracted) -> Gap | None:
        """Why what came has no context that counts; None when it named none."""
        if extracted.duplicated:
            return Gap.DUPLICATED
        if extracted.malformed:
            return Gap.MALFORMED
        if not extracted.w3c and any(name in self.unread for name in fields):
            return Gap.FORMAT
        return None

    def sampling_request(self, request: Request, path: str, route: str) -> SamplingRequest | None:
        """What sampling rules look at; None when there are none."""
        if not self.sampler.reads_requests:
            return None
        headers: Fields = {}
        for field in request.fields:
            headers.setdefault(field.name, []).append(field.value)
        return SamplingRequest(request.line.method.decode("latin-1"), path, route, headers)

    def inject(self, head: Head, context: SpanContext, extracted: Extracted | None) -> None:
        """Add the header lines that name ``context`` as the parent of what comes next."""
        if extracted is None and self.plain:
            head.added.append(b"traceparent: " + traceparent.format(context))
            if context.tracestate:
                head.added.append(b"tracestate: " + context.tracestate.encode("ascii"))
            return
        head.added += [
            name + b": " + value for name, value in self.propagator.inject(context, extracted)
        ]
