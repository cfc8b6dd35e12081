"""One connection between a client and a broker: every frame passes, some are changed or read.

Brokers answer in the order of the requests, so that the oldest request that is not answered says
what an answer is about. Whatever cannot be understood passes as it is; once it is not known any
more what is asked or what answers what, everything does.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from filters.kafka.messaging import Line
from filters.kafka.outgoing import Outgoing
from filters.kafka.parts import Parts, Speaker
from filters.kafka.receiving import Unread
from meshproxy.filter import Conversation, Filter, Places
from meshproxy.wire.kafka import addresses, api_versions, fetch, groups, produce
from meshproxy.wire.kafka.apis import (
    API_VERSIONS,
    APIS,
    DESCRIBE_CLUSTER,
    FETCH,
    FIND_COORDINATOR,
    METADATA,
    OFFSET_COMMIT,
    PRODUCE,
    SASL_HANDSHAKE,
    TXN_OFFSET_COMMIT,
    understood,
)
from meshproxy.wire.kafka.frames import Frames, Piece, frame_size
from meshproxy.wire.kafka.primitives import Malformed
from meshproxy.wire.kafka.requests import RequestHead, correlation_id, read_request_head

CHANGED: Final = frozenset({API_VERSIONS, METADATA, FIND_COORDINATOR, DESCRIBE_CLUSTER})
"""APIs whose answers are changed."""


LARGEST_REQUEST: Final = 100 * 2**20
"""Brokers refuse more by default (socket.request.max.bytes), and do not wait for all of it."""
READ_AT_ONCE: Final = 2**20
"""Bytes of fetched records, uncompressed, that are read before others have their turn."""

PASSES_UNREAD: Final = "connection passes unread"
WHY: Final = {
    "request_unparsed": "What the client sends are no requests to Kafka that can be read. Does it "
    "speak TLS? Towards the sidecar its security.protocol is PLAINTEXT or SASL_PLAINTEXT.",
    "response_unparsed": "What the broker sends are no answers of Kafka.",
    "out_of_step": "The broker answers what was not asked.",
    "sasl_opaque": "SaslHandshake version 0: what follows has no frames that say what they are.",
    "request_too_large": "A request is larger than frame_bytes, and does not say early enough "
    "whether it will be answered.",
}
"""Why a connection is not understood any more, for its owner."""
OWN_ADDRESSES: Final = "brokers' own addresses passed on"


class Pending:
    """A request that is not answered yet. ``answer``: it is us who answer it."""

    __slots__ = ("answer", "asked_ns", "correlation_id", "key", "outgoing", "version")

    def __init__(self, head: RequestHead, asked_ns: int) -> None:
        self.key = head.key
        self.version = head.version
        self.correlation_id = head.correlation_id
        self.asked_ns = asked_ns
        self.answer = b""
        self.outgoing: Outgoing | None = None


class KafkaConversation(Conversation):
    """Frames in both directions. Times are Unix nanoseconds."""

    def __init__(self, line: Line, places: Places, parts: Parts) -> None:
        super().__init__(line.passage)
        self._line = line
        self._places = places
        self._parts = parts
        self._stats = parts.environment.stats
        self._limit = line.settings.frame_bytes
        self._requests = Frames(self._limit)
        self._responses = Frames(self._limit)
        self._waiting: deque[Piece] = deque()
        self._pending: deque[Pending] = deque()
        self._current: Pending | None = None
        self._fetched: deque[Unread] = deque()
        self._begun = False
        self._asks_unread = False
        self._answers_unread = False
        self._reason = ""

    def renew(self, speaker: Filter) -> None:
        """The configuration has changed."""
        if isinstance(speaker, Speaker):
            self._parts = speaker.parts
            self._line.settings = self.passage.scope.kafka or self._line.settings

    @property
    def quiet(self) -> bool:
        """Whether nothing is under way."""
        if self._asks_unread or self._pending or self._waiting or self.work is not None:
            return False
        return not (self._requests.held() or self._responses.held())

    def _event(self, name: str, detail: str = "") -> None:
        self._stats.kafka[name, detail] += 1
        if name in WHY:
            self._reason = name

    def _opaque(self) -> None:
        """From now on not everything is understood."""
        self._event("opaque")
        self.notices.append((PASSES_UNREAD, self._reason, WHY.get(self._reason, "")))

    # Requests

    def from_client(self, data: bytes, now_ns: int) -> None:
        """Requests, or parts of them."""
        if not self._begun:
            self._begun = True
            if frame_size(data) > max(self._limit, LARGEST_REQUEST):  # HTTP or TLS, rather
                self._event("request_unparsed")
                self._ask_unread()
        if self._asks_unread:
            self._waiting.append(Piece(data, False, False, len(data)))
        else:
            self._waiting += self._requests.feed(data)
        self._go_on(now_ns)

    def resume(self, now_ns: int) -> None:
        """A request has been read or written in a thread."""
        pending = self._current
        if pending is not None and pending.outgoing is not None:
            self._current = None
            self._advance(pending, pending.outgoing, now_ns, True)
        self._go_on(now_ns)

    def _go_on(self, now_ns: int) -> None:
        """Pass on what waits, until something has to be worked on elsewhere."""
        while self._waiting and self.work is None:
            piece = self._waiting.popleft()
            if not piece.first or self._asks_unread:
                self.to_upstream.append(piece.data)
            else:
                self._request(piece, now_ns)
                if self._asks_unread:
                    self._let_go_of_asks()

    def _let_go_of_asks(self) -> None:
        """What is held back of a frame that is not whole goes on, too."""
        held = self._requests.held()
        if held:
            self._requests = Frames(self._limit)
            self._waiting.append(Piece(held, False, False, len(held)))

    def _is_whole(self, piece: Piece) -> bool:
        return piece.last and piece.size <= self._limit

    def _request(self, piece: Piece, now_ns: int) -> None:
        data = piece.data
        try:
            head = read_request_head(data)
        except Malformed:
            self._event("request_unparsed")
            self._ask_unread()
            self.to_upstream.append(data)
            return
        if head.client_id:
            self._line.named(head.client_id)
        pending = Pending(head, now_ns)
        if head.key == API_VERSIONS and not understood(head.key, head.version):
            pending.answer = api_versions.unsupported(head.correlation_id)
            self._pending.append(pending)
            self._answer()
        elif head.key == PRODUCE:
            self._produce(piece, head, pending, now_ns)
        else:
            self._pending.append(pending)
            self.to_upstream.append(data)
            if not self._is_whole(piece):
                self._event("request_too_large", _name(head.key))
            else:
                self._learn(data, head, now_ns)

    def _learn(self, frame: bytes, head: RequestHead, now_ns: int) -> None:
        """What a request tells that passes as it is."""
        try:
            group = groups.group_of(frame, head)
            if group is not None:
                self._line.cluster.join(head.client_id, group)
            if head.key == OFFSET_COMMIT or head.key == TXN_OFFSET_COMMIT:
                self._committed(group or "", groups.read_offset_commit(frame, head), now_ns)
        except Malformed:
            self._event("request_unparsed", _name(head.key))
        except Exception as error:
            self._broken(error)

    def _committed(self, group: str, commits: list[groups.Committed], now_ns: int) -> None:
        cluster = self._line.cluster
        for each in commits:
            partition = (cluster.topic(each.topic, each.topic_id), each.partition)
            done = cluster.committed(group, partition, each.offset)
            self._parts.receiving.done(done, now_ns)

    # Produce

    def _produce(self, piece: Piece, head: RequestHead, pending: Pending, now_ns: int) -> None:
        data = piece.data
        if self._is_whole(piece):
            try:
                outgoing = self._parts.producing.begin(self._line, data, head, now_ns)
            except Malformed:
                self._event("request_unparsed", _name(head.key))
            except Exception as error:
                self._broken(error)
            else:
                pending.outgoing = outgoing
                self._advance(pending, outgoing, now_ns, False)
                return
        else:
            self._event("request_too_large", _name(head.key))
        acks = produce.read_acks(data, head)
        if acks is None:
            self._ask_unread()  # it is not known whether an answer will come
        elif acks:
            self._pending.append(pending)
        self.to_upstream.append(data)

    def _advance(self, pending: Pending, outgoing: Outgoing, now_ns: int, ran: bool) -> None:
        """Take a request as far as it goes on the loop; ``ran``: what is due was just done."""
        try:
            while not outgoing.done:
                if not ran:
                    if outgoing.heavy:
                        self._current = pending
                        self.work = outgoing
                        return
                    outgoing.run()
                outgoing.next()
                if not outgoing.done:
                    self._parts.producing.decide(self._line, outgoing)
                ran = False
            pieces = self._parts.producing.complete(self._line, outgoing)
        except Exception as error:
            self._broken(error)
            pieces = [outgoing.frame]
        self.to_upstream += pieces
        if outgoing.request.acks:
            self._pending.append(pending)
        else:
            self._parts.producing.unknown(outgoing, now_ns)

    # Responses

    def from_upstream(self, data: bytes, now_ns: int) -> None:
        """Responses, or parts of them."""
        if self._answers_unread:
            self.to_client.append(data)
            return
        for piece in self._responses.feed(data):
            if not piece.first or self._answers_unread:
                self.to_client.append(piece.data)
            else:
                self._response(piece, now_ns)
        if self._answers_unread:
            self._let_go_of_answers()

    def _let_go_of_answers(self) -> None:
        """What is held back of a frame that is not whole goes on, too."""
        held = self._responses.held()
        if held:
            self._responses = Frames(self._limit)
            self.to_client.append(held)

    def _response(self, piece: Piece, now_ns: int) -> None:
        data = piece.data
        if not self._is_expected(data):
            self._answer_unread(now_ns)
            self.to_client.append(data)
            return
        pending = self._pending.popleft()
        if self._is_whole(piece):
            data = self._understood(data, pending, now_ns)
        else:
            self._event("response_too_large", _name(pending.key))
            if pending.key in CHANGED:
                detail = f"An answer to {_name(pending.key)} is larger than frame_bytes."
                self.notices.append((OWN_ADDRESSES, "response_too_large", detail))
            self._parts.producing.unknown(pending.outgoing, now_ns)
        self.to_client.append(data)
        if pending.key == SASL_HANDSHAKE and pending.version == 0:
            self._event("sasl_opaque")  # what follows has no headers (KIP-43)
            self._answer_unread(now_ns)
        self._answer()

    def _is_expected(self, data: bytes) -> bool:
        """Whether a response answers the oldest request."""
        try:
            if self._pending and correlation_id(data) == self._pending[0].correlation_id:
                return True
            self._event("out_of_step")
        except Malformed:
            self._event("response_unparsed")
        return False

    def _understood(self, data: bytes, pending: Pending, now_ns: int) -> bytes:
        """A whole response as the client shall have it."""
        try:
            if pending.key == FETCH:
                frame = fetch.rewrite(data, pending.version, self._place)
                self._fetched.append(Unread(frame, pending.version, pending.asked_ns))
                return frame
            if pending.key == PRODUCE:
                return self._produced(data, pending, now_ns)
            return self._changed(data, pending) if pending.key in CHANGED else data
        except Malformed:
            self._event("response_unparsed", _name(pending.key))
        except OSError as error:
            self._event("broker_unreachable", str(error.strerror))
        except Exception as error:
            self._broken(error)
        self._parts.producing.unknown(pending.outgoing, now_ns)
        return data

    def _changed(self, data: bytes, pending: Pending) -> bytes:
        key, version = pending.key, pending.version
        if key == API_VERSIONS:
            return api_versions.clamp(data, version)
        if key == FIND_COORDINATOR:
            return addresses.find_coordinator(data, version, self._place)
        if key == DESCRIBE_CLUSTER:
            return addresses.describe_cluster(data, version, self._place)
        frame, topics = addresses.metadata(data, version, self._place)
        self._line.cluster.name_topics(topics)
        return frame

    def _produced(self, data: bytes, pending: Pending, now_ns: int) -> bytes:
        response = produce.read_response(data, pending.version, self._place)
        outgoing = pending.outgoing
        if outgoing is not None:
            producing = self._parts.producing
            producing.answered(self._line, outgoing, response.partitions, now_ns)
        return response.frame

    def _place(self, node: int, host: str, port: int) -> tuple[str, int]:
        return self._places.local(node, (host, port))

    def _answer(self) -> None:
        """Give our own answers once it is their turn."""
        while self._pending and self._pending[0].answer:
            self.to_client.append(self._pending.popleft().answer)
        if self._asks_unread and not self._pending:
            self._answers_unread = True  # what they answer is not known

    def passed(self, now_ns: int) -> None:
        """The client has what it asked for: time to read it."""
        budget = READ_AT_ONCE
        while self._fetched and budget > 0:
            unread = self._fetched[0]
            try:
                budget -= self._parts.receiving.read(self._line, unread, now_ns, budget)
                if not unread.partitions:
                    self._fetched.popleft()
            except Malformed:
                self._fetched.popleft()
                self._event("response_unparsed", _name(FETCH))
            except Exception as error:
                self._fetched.popleft()
                self._broken(error)
        self.more = bool(self._fetched)

    # Ends

    def _ask_unread(self) -> None:
        """From now on requests pass unread; answers, once those to earlier requests were given."""
        self._opaque()
        self._asks_unread = True
        self._answer()
        if self._answers_unread:
            self._let_go_of_answers()

    def _answer_unread(self, now_ns: int) -> None:
        """From now on everything passes unread, in the order in which it came."""
        self._answers_unread = True
        self._forget(now_ns)
        if not self._asks_unread:
            self._opaque()
            self._asks_unread = True
            self._let_go_of_asks()
            self._go_on(now_ns)

    def _forget(self, now_ns: int) -> None:
        """Nothing more will be known of what was not answered."""
        if self._current is not None:
            self._pending.append(self._current)
        for pending in self._pending:
            if pending.outgoing is not None:
                self._parts.producing.lost(self._line, pending.outgoing, now_ns)
        self._pending.clear()

    def _broken(self, error: Exception) -> None:
        """A mistake of ours must not harm the traffic."""
        self.errors.append(error)

    def client_ended(self, now_ns: int) -> None:
        """The client sends no more; what it was given and did not work on does not matter."""
        for _ in self._fetched:
            self._event("fetch_unread")
        self._fetched.clear()
        self.more = False
        for piece in self._waiting:
            self.to_upstream.append(piece.data)
        self._waiting.clear()
        held = self._requests.held()
        if held:
            self.to_upstream.append(held)

    def upstream_ended(self, now_ns: int) -> None:
        """The broker sends no more."""
        held = self._responses.held()
        if held:
            self.to_client.append(held)

    def close(self, now_ns: int) -> None:
        """What was not answered will not be, and what was not read is not worked on."""
        self._fetched.clear()
        self.more = False
        self._forget(now_ns)


def _name(key: int) -> str:
    """What Kafka calls an API, for counting: whoever makes keys up makes no new labels."""
    api = APIS.get(key)
    return api.name if api is not None else "other"
