"""The configuration as immutable records, with defaults. Unknown keys are refused.

Addresses are strings here (``host:port``, ``[::1]:port``); `meshproxy.config.values.Address` is
their parsed form. Durations are strings such as ``250ms``, ``5s``, ``5m``, ``1h`` or a number of
seconds; after loading they are floats, in seconds.

A ``kind`` in the metadata names the syntax of a text; `meshproxy.config.formats` checks it.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

YEAR = 365 * 86400.0
"""The longest duration, in seconds: timers of all event loops can still count it."""

Name = Annotated[str, Meta(min_length=1)]
ListenAddress = Annotated[str, Meta(extra={"kind": "listen"})]
UpstreamAddress = Annotated[str, Meta(extra={"kind": "upstream"})]
Duration = Annotated[
    float,
    Meta(gt=0, le=YEAR, extra={"kind": "duration"}, extra_json_schema={"x-kind": "duration"}),
]
HeaderName = Annotated[str, Meta(extra={"kind": "header name"})]
HeaderValue = Annotated[str, Meta(extra={"kind": "header value"})]
Ratio = Annotated[float, Meta(ge=0, le=1)]
Positive = Annotated[int, Meta(ge=1, le=2**31 - 1)]
Port = Annotated[int, Meta(ge=1, le=65535)]
NodeId = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Protocol = Literal["auto", "http", "opaque"]
OutboundProtocol = Literal["auto", "http", "opaque", "kafka"]
Trust = Literal["mesh", "edge"]
Format = Literal[
    "tracecontext", "b3", "b3multi", "jaeger", "xray", "gcp", "datadog", "skywalking", "ot"
]


class Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all configuration records."""


class Service(Record, frozen=True):
    """Who the service is: becomes resource attributes."""

    name: Annotated[Name, Meta(description="service.name")] = "unknown_service"
    namespace: Annotated[str | None, Meta(description="service.namespace")] = None
    version: Annotated[
        str | None, Meta(description="service.version; in quotes when it looks like a number")
    ] = None
    environment: Annotated[str | None, Meta(description="deployment.environment.name")] = None
    instance: Annotated[
        str | None, Meta(description="service.instance.id; host name and process id when not given")
    ] = None
    attributes: Annotated[
        dict[Name, str], Meta(description="further resource attributes, by name")
    ] = {}


class ServerTls(Record, frozen=True):
    """TLS termination: certificate files, read again when they change."""

    cert: Annotated[Name, Meta(description="file of the certificate chain, PEM")]
    key: Annotated[Name, Meta(description="file of the private key, PEM")]
    client_ca: Annotated[
        Name | None,
        Meta(description="file of authorities, PEM; clients must then show a certificate"),
    ] = None


class ClientTls(Record, frozen=True):
    """TLS origination towards the upstream."""

    ca: Annotated[
        Name | None, Meta(description="file of authorities, PEM; the system's when not given")
    ] = None
    cert: Annotated[
        Name | None, Meta(description="file of the client certificate, PEM; goes with key")
    ] = None
    key: Annotated[
        Name | None, Meta(description="file of the client's private key, PEM; goes with cert")
    ] = None
    server_name: Annotated[
        Name | None, Meta(description="name to ask for (SNI) and to verify; else upstream's host")
    ] = None
    verify: Annotated[bool, Meta(description="whether the upstream's certificate is verified")] = (
        True
    )


class Inbound(Record, frozen=True):
    """A listener in front of the service."""

    listen: Annotated[
        ListenAddress, Meta(description="address to listen on: host:port, [ipv6]:port or :port")
    ] = "0.0.0.0:15006"
    upstream: Annotated[
        UpstreamAddress | None,
        Meta(description="the service's own address: host:port, [ipv6]:port or name:port"),
    ] = None
    mode: Annotated[
        Literal["reverse-proxy", "redirect"] | None,
        Meta(
            description="reverse-proxy: everything goes to upstream (inferred when upstream is "
            "given); redirect: connections that the kernel redirected go where they were meant to"
        ),
    ] = None
    protocol: Annotated[
        Protocol,
        Meta(description="auto: detected by the first bytes; http: HTTP/1 only; opaque: not read"),
    ] = "auto"
    tls: Annotated[
        ServerTls | None, Meta(description="terminate TLS with these certificate files")
    ] = None
    upstream_tls: Annotated[
        ClientTls | None, Meta(description="speak TLS to the upstream; an empty mapping suffices")
    ] = None
    trust: Annotated[
        Trust | None, Meta(description="for this listener, instead of propagation.trust")
    ] = None


class Kafka(Record, frozen=True):
    """How a listener treats Kafka."""

    per_record: Annotated[
        bool, Meta(description="a PRODUCER span for each record, not one for each batch")
    ] = False
    consumer_spans: Annotated[
        bool, Meta(description="a CONSUMER span for each record that is fetched, too")
    ] = False
    message_bytes: Annotated[
        Positive,
        Meta(
            description="largest record batch that the brokers take (message.max.bytes): one that "
            "would become larger by its trace context is sent without"
        ),
    ] = 1048588
    frame_bytes: Annotated[
        int,
        Meta(
            ge=65536,
            le=2**30,
            description="largest request or response that is read; larger ones stream through",
        ),
    ] = 2**24
    broker_ports: Annotated[
        Port | None,
        Meta(
            description="the broker with node id n is at this port plus n, if that is free; "
            "otherwise at any free port. The listener's port plus 1 when not given"
        ),
    ] = None
    broker_ids: Annotated[
        tuple[NodeId, ...],
        Meta(
            description="node ids of brokers whose ports are opened at the start, before anything "
            "was asked: aiokafka and kafka-python come back to those after a restart, and not to "
            "the listener's own"
        ),
    ] = ()


class Outbound(Record, frozen=True):
    """A listener behind the service, for the calls that it makes."""

    listen: Annotated[
        ListenAddress, Meta(description="address to listen on: host:port, [ipv6]:port or :port")
    ] = "127.0.0.1:15001"
    upstream: Annotated[
        UpstreamAddress | None,
        Meta(description="where a fixed route leads: host:port, [ipv6]:port or name:port"),
    ] = None
    mode: Annotated[
        Literal["fixed", "forward-proxy", "redirect"] | None,
        Meta(
            description="fixed: everything goes to upstream (inferred when upstream is given); "
            "forward-proxy: for HTTP_PROXY, absolute form and CONNECT; "
            "redirect: connections that the kernel redirected go where they were meant to"
        ),
    ] = None
    peer: Annotated[
        Name | None, Meta(description="name of the service behind the upstream, for the spans")
    ] = None
    protocol: Annotated[
        OutboundProtocol,
        Meta(
            description="auto: detected by the first bytes; http: HTTP/1 only; opaque: not read; "
            "kafka: Apache Kafka, upstream being a bootstrap broker"
        ),
    ] = "auto"
    kafka: Annotated[Kafka | None, Meta(description="settings for protocol kafka")] = None
    upstream_tls: Annotated[
        ClientTls | None, Meta(description="speak TLS to the upstream; an empty mapping suffices")
    ] = None
    trust: Annotated[
        Trust | None,
        Meta(
            description="for this listener, instead of propagation.trust; "
            "edge: the destination is a third party"
        ),
    ] = None


class Propagation(Record, frozen=True):
    """Which trace-context formats are read and written, and whom they are believed from."""

    extract: Annotated[
        tuple[Format, ...], Meta(description="formats that are read, in order of preference")
    ] = (
        "tracecontext", "b3", "b3multi", "jaeger", "xray", "gcp", "datadog", "skywalking", "ot",
    )  # fmt: skip
    inject: Annotated[tuple[Format, ...], Meta(description="formats that are written on calls")] = (
        "tracecontext",
    )
    trust: Annotated[
        Trust,
        Meta(
            description="mesh: a caller's trace is continued; "
            "edge: a new trace is started, with a link to the caller's"
        ),
    ] = "mesh"
    strip: Annotated[
        tuple[Annotated[str, Meta(extra={"kind": "destination"})], ...],
        Meta(
            description="destinations that get no trace context at all: host, *.domain or host:port"
        ),
    ] = ()


class Linking(Record, frozen=True):
    """How sure a guess must be before it is injected."""

    threshold: Annotated[
        Ratio, Meta(description="least confidence with which a call is linked to a request")
    ] = 0.99
    process: Annotated[
        Literal["auto", "off"],
        Meta(
            description="auto: ask the kernel which of the service's processes and threads works "
            "on what, where it may be asked; off: don't"
        ),
    ] = "auto"
    memory: Annotated[
        int,
        Meta(
            ge=2**20,
            le=2**34,
            description="bytes for requests in flight and for what is learnt of them, about",
        ),
    ] = 2**24


class Match(Record, frozen=True):
    """What a sampling rule applies to; all that is given must fit. ``*`` matches anything."""

    path: Annotated[
        Annotated[str, Meta(extra={"kind": "path pattern"})] | None,
        Meta(description="path of the request, without the query"),
    ] = None
    route: Annotated[
        Name | None, Meta(description='method and route, such as "POST /checkout"')
    ] = None
    method: Annotated[
        Annotated[str, Meta(extra={"kind": "method"})] | None,
        Meta(description='method of the request, such as "GET"'),
    ] = None
    headers: Annotated[
        dict[HeaderName, HeaderValue], Meta(description="header fields and their values")
    ] = {}


class SamplingRule(Record, frozen=True):
    """The first rule that fits, by falling priority and then by order, decides."""

    match: Annotated[
        Match, Meta(description="what the rule applies to; everything when left out")
    ] = Match()
    ratio: Annotated[
        Ratio | None, Meta(description="share of traces that is kept; this or drop")
    ] = None
    drop: Annotated[bool, Meta(description="make no span at all; this or ratio")] = False
    priority: Annotated[
        int, Meta(ge=-(2**31), le=2**31 - 1, description="higher ones are asked first")
    ] = 0


class Sampling(Record, frozen=True):
    """Head sampling."""

    default: Annotated[
        Ratio, Meta(description="share of new traces that is kept where no rule fits")
    ] = 1.0
    parent_based: Annotated[
        bool, Meta(description="follow the caller's decision where there is one")
    ] = True
    rules: Annotated[tuple[SamplingRule, ...], Meta(description="exceptions from the default")] = ()
    rate_limit: Annotated[
        Annotated[float, Meta(gt=0, le=1e9)] | None,
        Meta(description="most new traces kept in a second; without limit when not given"),
    ] = None
    errors: Annotated[
        Literal["always", "sampled"],
        Meta(description="always: a span that is an error is exported, sampled or not"),
    ] = "always"


class Queue(Record, frozen=True):
    """Bounds of one exporter's queue."""

    size: Annotated[
        Positive, Meta(description="spans held at most; what comes beyond is dropped and counted")
    ] = 4096
    batch: Annotated[Positive, Meta(description="spans sent at once, at most")] = 512
    interval: Annotated[
        Duration, Meta(description="longest wait before a batch that is not full is sent")
    ] = 1.0


class OtlpExporter(Record, frozen=True, tag_field="type", tag="otlp"):
    """OTLP over HTTP with protobuf."""

    endpoint: Annotated[
        str,
        Meta(
            description="http:// or https:// URL; /v1/traces is added to one without a path",
            extra={"kind": "url"},
        ),
    ]
    headers: Annotated[
        dict[HeaderName, HeaderValue],
        Meta(description="header fields to send along, such as an API key"),
    ] = {}
    compression: Annotated[
        Literal["gzip", "none"], Meta(description="how bodies are compressed")
    ] = "gzip"
    timeout: Annotated[Duration, Meta(description="limit of one attempt to send")] = 10.0
    ca: Annotated[
        Name | None, Meta(description="file of authorities, PEM; the system's when not given")
    ] = None
    queue: Annotated[Queue, Meta(description="bounds of the queue")] = Queue()
    retry_for: Annotated[
        Duration, Meta(description="how long a batch is tried again before it is dropped")
    ] = 60.0


class ConsoleExporter(Record, frozen=True, tag_field="type", tag="console"):
    """A line a span on standard output, for people."""

    queue: Annotated[Queue, Meta(description="bounds of the queue")] = Queue()


class FileExporter(Record, frozen=True, tag_field="type", tag="file"):
    """OTLP JSON lines appended to a file: one ExportTraceServiceRequest a line."""

    path: Annotated[Name, Meta(description="file to append to; made when it does not exist")]
    queue: Annotated[Queue, Meta(description="bounds of the queue")] = Queue()


Exporter = OtlpExporter | ConsoleExporter | FileExporter


class Admin(Record, frozen=True):
    """Where the admin endpoints listen."""

    listen: Annotated[
        ListenAddress,
        Meta(description="address to listen on; whoever reaches it can stop the sidecar"),
    ] = "127.0.0.1:15000"


class Health(Record, frozen=True):
    """Where ``/healthz`` and ``/readyz`` are served to the outside."""

    listen: Annotated[ListenAddress, Meta(description="address to listen on")] = "0.0.0.0:15021"


class Limits(Record, frozen=True):
    """What one client, one request or one connection may use."""

    header_bytes: Annotated[
        int, Meta(ge=1024, le=2**24, description="bytes of a message's head, at most")
    ] = 61440
    headers: Annotated[Positive, Meta(description="header fields of a message, at most")] = 100
    connections: Annotated[
        Positive, Meta(description="connections accepted at a time, all listeners together")
    ] = 10000
    connect_timeout: Annotated[
        Duration, Meta(description="limit for a connection to an upstream to stand")
    ] = 5.0
    header_timeout: Annotated[
        Duration, Meta(description="limit for the head of a request to be complete")
    ] = 10.0
    stream_idle: Annotated[
        Duration, Meta(description="longest silence within a request or its response")
    ] = 300.0
    connection_idle: Annotated[
        Duration, Meta(description="longest silence of a connection between requests")
    ] = 3600.0
    pool_idle: Annotated[
        Duration, Meta(description="how long an unused upstream connection is kept")
    ] = 3.0
    pool_size: Annotated[
        Positive, Meta(description="unused connections kept for one upstream, at most")
    ] = 256
    drain: Annotated[
        Duration, Meta(description="how long requests in flight may finish after SIGTERM")
    ] = 45.0
    buffer_bytes: Annotated[
        int,
        Meta(
            ge=4096,
            le=2**30,
            description="bytes held for a slow reader before its writer must wait",
        ),
    ] = 65536


class Routes(Record, frozen=True):
    """How a path becomes a low-cardinality route."""

    templates: Annotated[
        tuple[Annotated[str, Meta(extra={"kind": "route template"})], ...],
        Meta(description='known routes, such as "/users/{id}"; other paths are templated by rules'),
    ] = ()
    limit: Annotated[
        Positive, Meta(description="different routes told apart; the rest share one name")
    ] = 200


class Capture(Record, frozen=True):
    """What of a request becomes span attributes."""

    request_headers: Annotated[
        tuple[HeaderName, ...],
        Meta(description="request header fields, as http.request.header.<name>"),
    ] = ()
    response_headers: Annotated[
        tuple[HeaderName, ...],
        Meta(description="response header fields, as http.response.header.<name>"),
    ] = ()
    baggage: Annotated[
        tuple[Annotated[str, Meta(extra={"kind": "baggage key"})], ...],
        Meta(description="baggage entries, as baggage.<key>"),
    ] = ()


class Log(Record, frozen=True):
    """What the process says about itself, as JSON lines on standard error."""

    level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="least level that is logged")
    ] = "info"
    access: Annotated[bool, Meta(description="log a line for every request")] = False


class Config(Record, frozen=True):
    """A whole sidecar."""

    service: Annotated[Service, Meta(description="who the service is")] = Service()
    inbound: Annotated[
        tuple[Inbound, ...], Meta(description="listeners in front of the service")
    ] = ()
    outbound: Annotated[
        tuple[Outbound, ...], Meta(description="listeners for the calls that the service makes")
    ] = ()
    propagation: Annotated[Propagation, Meta(description="trace-context formats and trust")] = (
        Propagation()
    )
    linking: Annotated[Linking, Meta(description="how calls are linked to requests")] = Linking()
    sampling: Annotated[Sampling, Meta(description="which traces are kept")] = Sampling()
    export: Annotated[
        tuple[Exporter, ...], Meta(description="where spans are sent; nowhere when empty")
    ] = ()
    routes: Annotated[Routes, Meta(description="low-cardinality routes")] = Routes()
    capture: Annotated[Capture, Meta(description="further span attributes")] = Capture()
    admin: Annotated[Admin, Meta(description="the admin endpoints")] = Admin()
    health: Annotated[
        Health | None,
        Meta(
            description="health endpoints for the outside; "
            "when not given, on 0.0.0.0:15021 if that is free"
        ),
    ] = None
    limits: Annotated[Limits, Meta(description="limits of time, number and size")] = Limits()
    log: Annotated[Log, Meta(description="the process's own log")] = Log()
    opaque_ports: Annotated[
        tuple[Port, ...],
        Meta(
            description="destination ports, in redirect mode, whose traffic passes unread: "
            "protocols in which the server speaks first"
        ),
    ] = (25, 587, 3306, 4444, 5432, 6379, 9300, 11211)
