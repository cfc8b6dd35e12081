"""The filter contract: all that a filter has to know of the sidecar around it.

A filter sees message heads, not bytes; one that speaks a protocol of its own (`Filter.protocol`)
holds the `Conversation` of each connection in it. It is synchronous and quick. What it raises is
counted, and an HTTP message passes as if the filter were not there. Filters are found by the
entry-point group ``meshproxy.filters``; each entry names a subclass of `Filter`. Where meshproxy is
compiled, filters of others still are plain Python: the classes here may be subclassed so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from mypy_extensions import mypyc_attr

from meshproxy.config.model import Config, Kafka
from meshproxy.linking.gaps import GapReport
from meshproxy.linking.inflight import InFlight
from meshproxy.linking.linker import Linker
from meshproxy.linking.sockets import Carrier
from meshproxy.stats import Stats
from meshproxy.trace.context import SpanContext
from meshproxy.trace.span import Span
from meshproxy.wire.http1 import Request, Response


class Environment:
    """What a filter is made with. Filters have no clock, randomness or I/O but these.

    ``environ`` are the process's environment variables; ``random`` gives so many random bytes;
    ``clock`` is a monotonic clock in seconds; ``emit`` takes finished spans and never blocks.
    ``kept`` is what filters want to find again after a reload, each by its own name.
    """

    def __init__(
        self,
        config: Config,
        environ: dict[str, str],
        random: Callable[[int], bytes],
        clock: Callable[[], float],
        emit: Callable[[Span], None],
        inflight: InFlight,
        linker: Linker,
        gaps: GapReport,
        stats: Stats,
        kept: dict[str, object],
    ) -> None:
        self.config = config
        self.environ = environ
        self.random = random
        self.clock = clock
        self.emit = emit
        self.inflight = inflight
        self.linker = linker
        self.gaps = gaps
        self.stats = stats
        self.kept = kept


class Scope:
    """What is the same for all that passes one listener.

    ``inbound``: in front of the service; otherwise behind it. ``trust`` is ``mesh`` or ``edge``.
    ``scheme`` is what the client speaks, ``http`` or ``https``. ``kafka`` are the settings of a
    listener for that protocol.
    """

    __slots__ = ("inbound", "kafka", "listen", "scheme", "trust")

    def __init__(
        self, inbound: bool, listen: str, scheme: str, trust: str, kafka: Kafka | None = None
    ) -> None:
        self.inbound = inbound
        self.listen = listen
        self.scheme = scheme
        self.trust = trust
        self.kafka = kafka


class Failure:
    """Why the proxy itself could not do its part: a low-cardinality kind, and a sentence."""

    __slots__ = ("kind", "message")

    def __init__(self, kind: str, message: str) -> None:
        self.kind = kind
        self.message = message


class Exchange(Carrier):
    """One request, its response, and what became of them.

    Times are Unix nanoseconds. ``client`` and ``destination`` are (host, port); ``peer`` is the
    configured name of the destination, or empty. ``connected_to`` is the numeric address that the
    request was sent to, once known. ``tls`` tells whether the upstream connection is encrypted.
    ``authority`` is the destination as the client names it (a Host field). ``status`` is what the
    client was answered, 0 when it was not. ``attempt`` counts how often the
    proxy itself sent this request before. ``body`` is the beginning of the request's body, as far
    as it came with the head. A filter that sets ``peek`` in `Filter.on_request` is shown up to so
    many bytes of a request body that comes later, and of the response's body.
    """

    __slots__ = (
        "attempt",
        "authority",
        "body",
        "client",
        "connected_to",
        "destination",
        "end_ns",
        "failure",
        "peek",
        "peer",
        "request",
        "response",
        "scope",
        "start_ns",
        "states",
        "status",
        "tls",
        "trace",
    )

    def __init__(
        self,
        scope: Scope,
        request: Request,
        client: tuple[str, int],
        destination: tuple[str, int],
        peer: str,
        tls: bool,
        start_ns: int,
        body: bytes = b"",
    ) -> None:
        super().__init__()
        self.scope = scope
        self.request = request
        self.body = body
        self.peek = 0
        self.authority = request.host
        self.client = client
        self.destination = destination
        self.peer = peer
        self.tls = tls
        self.start_ns = start_ns
        self.end_ns = 0
        self.response: Response | None = None
        self.failure: Failure | None = None
        self.status = 0
        self.attempt = 0
        self.connected_to: tuple[str, int] | None = None
        self.states: list[object] = []
        self.trace: SpanContext | None = None
        """For log lines; set by the filter that makes the span."""


class Passage(Carrier):
    """A connection that passed without being understood: opaque TCP, or TLS with its SNI."""

    __slots__ = ("client", "connected_to", "destination", "end_ns", "failure", "peer", "protocol",
                 "received", "scope", "sent", "server_name", "start_ns", "states")  # fmt: skip

    def __init__(
        self,
        scope: Scope,
        client: tuple[str, int],
        destination: tuple[str, int],
        peer: str,
        start_ns: int,
    ) -> None:
        super().__init__()
        self.scope = scope
        self.client = client
        self.destination = destination
        self.peer = peer
        self.start_ns = start_ns
        self.end_ns = 0
        self.protocol = "opaque"
        self.server_name = ""
        self.sent = 0
        self.received = 0
        self.failure: Failure | None = None
        self.connected_to: tuple[str, int] | None = None
        self.states: list[object] = []


@mypyc_attr(allow_interpreted_subclasses=True)
class Places:
    """Where the servers are that a conversation tells its client about."""

    def local(self, server: int, destination: tuple[str, int]) -> tuple[str, int]:
        """The address at which the client reaches a server through the sidecar.

        ``server`` is the number by which its protocol knows it, ``destination`` its own address.
        When this returns, the local address accepts connections. Raises OSError when it cannot be
        opened.
        """
        raise NotImplementedError


@mypyc_attr(allow_interpreted_subclasses=True)
class Work:
    """Something that takes too long for the event loop."""

    def run(self) -> None:
        """Do it. Called once, in another thread; nothing but the work may be touched there."""
        raise NotImplementedError


@mypyc_attr(allow_interpreted_subclasses=True)
class Conversation:
    """One connection in the protocol of a filter: every byte of it goes through here.

    The transport gives what it has read to `from_client` and `from_upstream`, writes what is then
    in ``to_upstream`` and ``to_client``, empties both, and calls `passed`. If ``work`` is set then,
    it reads no more from the client, has the work run in a thread, and calls `resume`. An exception
    out of any of these ends the connection; those in ``errors`` are only counted and logged, since
    the bytes passed all the same. ``notices`` are what the owner should know, as event, reason and
    detail; they are logged. While ``more`` is set there is more to do in `passed` than others
    should have to wait for: it is called again after their turn, and till then the server is not
    read from. Times are Unix nanoseconds.
    """

    def __init__(self, passage: Passage) -> None:
        self.passage = passage
        self.to_upstream: list[bytes] = []
        self.to_client: list[bytes] = []
        self.work: Work | None = None
        self.errors: list[Exception] = []
        self.notices: list[tuple[str, str, str]] = []
        self.more = False

    @property
    def quiet(self) -> bool:
        """Whether nothing is under way, so that the connection may be closed with no harm."""
        return True

    def from_client(self, data: bytes, now_ns: int) -> None:
        """The client sent these bytes."""
        raise NotImplementedError

    def from_upstream(self, data: bytes, now_ns: int) -> None:
        """The server sent these bytes."""
        raise NotImplementedError

    def resume(self, now_ns: int) -> None:
        """The work is done, and ``work`` is None again."""

    def passed(self, now_ns: int) -> None:
        """What was put out is on its way: time for what nobody waits for."""

    def client_ended(self, now_ns: int) -> None:
        """The client sends no more: what is held back of its bytes has to go out."""

    def upstream_ended(self, now_ns: int) -> None:
        """The server sends no more: what is held back of its bytes has to go out."""

    def renew(self, speaker: Filter) -> None:
        """The filter was made anew, with another configuration."""

    def close(self, now_ns: int) -> None:
        """The connection has ended; ``passage.failure`` tells if badly. Called once."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Filter:
    """Base of all filters: sees HTTP messages and passing connections, and does nothing.

    ``protocol`` is what a listener's ``protocol`` is set to for its connections to become
    conversations with this filter, by `converse`; empty for filters of HTTP.
    ``marked`` are the lower-case names of header fields that it wants to find by
    ``head.marked``, ``prefixes`` the beginnings of such names, ``fleeting`` those of them whose
    values are seldom seen twice.
    """

    name: ClassVar[str] = "filter"
    protocol: ClassVar[str] = ""
    marked: ClassVar[frozenset[bytes]] = frozenset()
    prefixes: ClassVar[tuple[bytes, ...]] = ()
    fleeting: ClassVar[frozenset[bytes]] = frozenset()

    def __init__(self, environment: Environment) -> None:
        self.environment = environment

    def on_request(self, exchange: Exchange) -> object:
        """A request is about to be sent on: lines may be dropped and added.

        What is returned is handed to `on_response` and `on_end`.
        """

    def on_request_body(self, exchange: Exchange, state: object, data: bytes) -> None:
        """The beginning of a request body that came after the head, if ``peek`` was set."""

    def on_response_body(self, exchange: Exchange, state: object, data: bytes) -> None:
        """The beginning of the response's body, if ``peek`` was set. Called once."""

    def on_response(self, exchange: Exchange, state: object) -> None:
        """The head of the final response is about to be sent on."""

    def on_end(self, exchange: Exchange, state: object) -> None:
        """The exchange is over, well or badly. Called once."""

    def on_open(self, passage: Passage) -> object:
        """A connection starts to pass. What is returned is handed to `on_close`."""

    def on_close(self, passage: Passage, state: object) -> None:
        """The connection has ended. Called once."""

    def on_tick(self, now_ns: int) -> None:
        """Time has passed: called every second or more often."""

    def converse(self, passage: Passage, places: Places) -> Conversation:
        """A connection in the filter's own protocol begins."""
        raise NotImplementedError
