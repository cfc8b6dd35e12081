"""A connection in the protocol of a filter: all bytes go through the filter's conversation."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from meshproxy.filter import Conversation, Failure, Filter, Passage, Work
from meshproxy.transport.passage import Holding, Passing
from meshproxy.transport.pipeline import now_ns
from meshproxy.transport.places import PlacesOf, Ports
from meshproxy.transport.runtime import plain_host
from meshproxy.transport.sockets import reset
from meshproxy.transport.tunnel import Tunnel, TunnelEnd, failure_of

if TYPE_CHECKING:
    from meshproxy.linking.sockets import Socket
    from meshproxy.transport.listener import Listener
    from meshproxy.transport.upstream import Upstream

CUT = "filter raised; the connection is cut"


class Conversing(Passing):
    """Joins a client with an upstream by a conversation; no filter but its own is told."""

    def __init__(self, listener: Listener, client: Holding, address: tuple[str, int]) -> None:
        super().__init__(listener, client, address)
        ours = client.transport.get_extra_info("sockname")  # None when it is gone again already
        self._ports = listener.ports
        self._host = plain_host(ours)[0] if ours else ""

    def _service_end(self, upstream: Upstream) -> Socket | None:
        # Always made to an address of ours, also if that is not the listener's own.
        return self._listener.service_end(self._client.transport, self._address, None)

    def _begin(self, passage: Passage) -> None:
        """Nothing yet: there is a conversation once both ends are there."""

    def _end(self, passage: Passage) -> None:
        self._listener.left()

    def _join(self, passage: Passage, other: Holding) -> None:
        client, pipeline = self._client, self._pipeline
        speaker = cast(Filter, pipeline.speaker(passage.protocol))

        def raised(error: Exception, event: str) -> None:
            pipeline.broken(speaker, error, event)

        try:
            conversation = speaker.converse(passage, PlacesOf(self._ports, self._host))
        except Exception as error:
            raised(error, CUT)
            reset(client.transport)
            reset(other.transport)
            self._end(passage)
            return
        ends = (client.transport, other.transport)
        dialogue = Dialogue(self._listener, self._ports, conversation, ends, raised)
        client.replay(dialogue.client)
        other.replay(dialogue.upstream)
        if pipeline is not self._listener.pipeline:
            dialogue.renew()  # there was a reload while the upstream was connected to


class Dialogue(Tunnel):
    """A tunnel through a conversation, which may change, keep back and add bytes.

    ``raised`` is told of an exception out of the conversation, and what it means for the traffic.
    """

    client: DialogueEnd
    upstream: DialogueEnd

    def __init__(
        self,
        listener: Listener,
        ports: Ports,
        conversation: Conversation,
        ends: tuple[asyncio.Transport, asyncio.Transport],
        raised: Callable[[Exception, str], None],
    ) -> None:
        self.listener = listener
        self.working = False
        self.more = False
        self._ports = ports
        self._conversation = conversation
        self._raised = raised
        self._failure: Failure | None = None
        self._over = False
        longest_idle = listener.pipeline.limits.connection_idle
        super().__init__(listener.runtime, *ends, longest_idle, self._end)

    def _make_ends(self, client: asyncio.Transport, upstream: asyncio.Transport) -> None:
        talk = self._conversation
        self.client = DialogueEnd(self, client, upstream, talk.from_client, talk.client_ended)
        self.upstream = DialogueEnd(self, upstream, client, talk.from_upstream, talk.upstream_ended)

    # The conversation's turn

    def take(self, step: Callable[..., None], *what: bytes) -> None:
        """Let the conversation take a step, and send what it puts out."""
        if self._over:
            return
        now = now_ns()
        try:
            step(*what, now)
            self._put_out(now)
        except Exception as error:
            self._cut(error)

    def _put_out(self, now: int) -> None:
        conversation = self._conversation
        if conversation.to_upstream:
            _send(self.upstream.transport, conversation.to_upstream, self.client.ended)
        if conversation.to_client:
            _send(self.client.transport, conversation.to_client, self.upstream.ended)
        conversation.passed(now)
        if conversation.errors:
            for error in conversation.errors:
                self._raised(error, "filter raised; the bytes pass without it")
            conversation.errors.clear()
        if conversation.notices:
            self._say(conversation)
        if conversation.more is not self.more:
            self._give_way(conversation.more)
        if conversation.work is not None and not self.working:
            self._begin_work(conversation.work)
        elif self._ports.closed:
            self._part()

    def _give_way(self, more: bool) -> None:
        """Others first, if there is more to do that nobody waits for."""
        self.more = more
        self.regulate()
        if more:
            self._runtime.loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        self.take(self._conversation.passed)
        if self.more and not self._over:
            self._runtime.loop.call_soon(self._go_on)

    def _say(self, conversation: Conversation) -> None:
        for event, reason, detail in conversation.notices:
            self.listener.noticed(event, reason, detail, conversation.passage)
        conversation.notices.clear()

    def _cut(self, error: Exception) -> None:
        self._over = True
        self._failure = Failure("filter_error", f"The filter failed: {error!r}.")
        self._raised(error, CUT)
        reset(self.client.transport)
        reset(self.upstream.transport)

    def _begin_work(self, work: Work) -> None:
        self.working = True
        self.regulate()
        self._runtime.workers.do(work.run, self._worked)

    def _worked(self, error: Exception | None) -> None:
        self.working = False
        self._conversation.work = None
        if error is not None:
            self._raised(error, "filter raised in a thread; the connection goes on")
        self.take(self._conversation.resume)
        if not self.working:
            self.regulate()
            if self.client.at_end:
                self.client.come_to_end()

    def renew(self) -> None:
        """Go by the listener's new configuration."""
        conversation = self._conversation
        conversation.passage.scope = self.listener.scope
        speaker = self.listener.pipeline.speaker(conversation.passage.protocol)
        if speaker is not None and not self._over:
            try:
                conversation.renew(speaker)
            except Exception as error:
                self._cut(error)
        self.check(self._runtime.ticker.now)

    # Coming to an end

    def check(self, now: float) -> None:
        """Time limits; and nobody stays without their listener, once nothing is under way."""
        super().check(now)
        if self._ports.closed and not self._over:
            try:
                self._part()
            except Exception as error:
                self._cut(error)

    def _part(self) -> None:
        if not self.working and self._conversation.quiet:
            self.client.transport.close()
            self.upstream.transport.close()

    def _end(self, error: BaseException | None) -> None:
        passage = self._conversation.passage
        passage.sent = self.sent
        passage.received = self.received
        passage.failure = self._failure or failure_of(error)
        passage.end_ns = now_ns()
        self._over = True
        try:
            self._conversation.close(passage.end_ns)
        except Exception as raised:
            self._raised(raised, "filter raised at the end of a connection")
        self.listener.left()

    # Flow control

    def regulate(self) -> None:
        """Read from an end if there is room for what may come of it.

        A client that does not take its answers is not read from, since some of them may be the
        conversation's own.
        """
        client, upstream = self.client, self.upstream
        _read(client, not (self.working or client.slow or upstream.slow))
        _read(upstream, not (self.more or client.slow))


class DialogueEnd(TunnelEnd):
    """One end: what it receives, the conversation hears.

    ``at_end``: it sends no more. ``slow``: it has yet to take what was written to it.
    """

    __slots__ = ("_dialogue", "_hear", "_hear_end", "_told", "at_end", "slow")

    def __init__(
        self,
        dialogue: Dialogue,
        transport: asyncio.Transport,
        other: asyncio.Transport,
        hear: Callable[[bytes, int], None],
        hear_end: Callable[[int], None],
    ) -> None:
        super().__init__(dialogue, transport, other)
        self._dialogue = dialogue
        self._hear = hear
        self._hear_end = hear_end
        self._told = False
        self.at_end = False
        self.slow = False

    def data_received(self, data: bytes) -> None:
        """Bytes for the conversation."""
        self.count += len(data)
        self._dialogue.active = True
        self._dialogue.take(self._hear, data)

    def eof_received(self) -> bool:
        """This end sends no more. The client's end waits for work that is not done."""
        self.at_end = True
        self.come_to_end()
        return self.transport.can_write_eof()

    def come_to_end(self) -> None:
        """Pass the end on, after all that was held back."""
        dialogue = self._dialogue
        if self._must_wait():
            return
        if not self._told:
            self._told = True
            dialogue.take(self._hear_end)
        if not self._must_wait() and not self.ended and not self.pass_end():
            self.transport.close()

    def _must_wait(self) -> bool:
        return self._dialogue.working and self is self._dialogue.client

    def pause_writing(self) -> None:
        """This end is slow."""
        self.slow = True
        self._dialogue.regulate()

    def resume_writing(self) -> None:
        """This end has caught up."""
        self.slow = False
        self._dialogue.regulate()


def _send(transport: asyncio.Transport, pieces: list[bytes], ended: bool) -> None:
    """Write ``pieces`` and empty the list; drop them where nobody takes them any more."""
    if not ended and not transport.is_closing():
        if len(pieces) == 1:
            transport.write(pieces[0])
        else:
            transport.writelines(pieces)
    pieces.clear()


def _read(end: DialogueEnd, go: bool) -> None:
    if end.at_end or end.transport.is_closing():
        return
    if go:
        end.transport.resume_reading()
    else:
        end.transport.pause_reading()
