# cython: annotation_typing=False
"""The synchronous whole of a connection: from bytes to messages and back. Nothing here waits.

A link is composed of what the files beside this one describe, and carries what happens to one part to the
others: bytes come in at ``readable`` and ``feed``, messages go out through ``try_send`` and ``flush``.

In the loop that every message passes, methods are called by the name of the class, ``Link.feed(self, ...)``:
compiled, that is a direct call, while ``self.feed(...)`` looks for an override first.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING, Any, Protocol

import trio

from ..errors import CloseCode, CloseReason, ConnectionClosed, not_a_message
from ..primitives import BLOCKED, LOST, encode_frame
from ..protocol.closing import Close, State, Turn, close_payload, close_reply
from ..protocol.control import Ping, Pong
from ..protocol.decoder import Decoder
from ..protocol.errors import ProtocolError
from .closing import Closing
from .controls import ControlWriter
from .inbox import Inbox
from .inline import InlineConsumer
from .keepalive import Keepalive
from .messages import MessageWriter
from .outbox import Outbox, Urgent
from .timeouts import Late, Timeouts

if TYPE_CHECKING:
    from ..protocol.deflate import PerMessageDeflate
    from ..settings import Settings
    from .deadlines import Deadline, Deadlines
    from .histogram import Histogram
    from .transport import Transport

logger = logging.getLogger("trio_ws_app.wire")

_BLOCKED = BLOCKED
_LOST = LOST
_OPEN, _CLOSE_RECEIVED, _CLOSE_SENT, _GONE = map(int, State)
MESSAGES_A_TURN = 64  # that one task sends and receives before it lets the others run
_MESSAGES_A_TURN = MESSAGES_A_TURN
_REFILLS_A_TURN = 2  # of the inbox for a plain consumer, from what was kept, before the others run
_SMALLEST_READ, _LARGEST_READ = 4 * 1024, 256 * 1024
_VANISHED = CloseReason(CloseCode.ABNORMAL, "the peer went away without a Close")
_RESET = CloseReason(CloseCode.ABNORMAL, "the connection was reset")
_CLOSING = CloseReason(CloseCode.GOING_AWAY, "the server is closing the connection")


class Host(Protocol):
    """What runs a link: the engine."""

    now: Callable[[], float]
    deadlines: Deadlines
    woken: bool  # a task has been given something to do in this turn
    to_flush: list[Link]
    ping_latency: Histogram
    drops: Counter[str]

    def expect_flush(self) -> None:
        """A link is about to be the first of ``to_flush``: it is flushed when this turn is over."""


class Link:
    """One connection's parts, and what happens between them."""

    def __init__(
        self,
        engine: Host,
        transport: Transport,
        settings: Settings,
        deflate: PerMessageDeflate | None = None,
    ) -> None:
        self.engine = engine
        self.transport = transport
        self.settings = settings
        self.deflate = deflate
        self.outbox = Outbox(transport, settings.max_queue_bytes)
        self.inbox = Inbox(settings.max_inbox_bytes)
        self.keepalive = Keepalive(settings.ping_interval, settings.ping_timeout)
        self.closing = Closing()
        self.consumer: InlineConsumer | None = None
        self.busy = False  # a task receives, or has left that to the consumer
        self.messages_in = self.bytes_in = 0
        self.dropped = 0  # messages, by an overflow policy
        self.last_seen = engine.now()
        inflate = None if deflate is None else deflate.inflate
        self._decoder = Decoder(settings.max_message_size, settings.max_fragments, inflate)
        self._messages = MessageWriter(self.outbox, deflate, settings.compression_threshold)
        self._controls = ControlWriter(self.outbox)
        self._timeouts = Timeouts(settings, self.keepalive, self.closing)
        self._read_size = max(_SMALLEST_READ, min(settings.max_inbox_bytes, _LARGEST_READ))
        self._paused = False  # nothing is read: the inbox is full, and so is the read-ahead
        self._turn = _MESSAGES_A_TURN
        self._is_behind = False  # the decoder holds bytes: of a message that is not whole, or kept
        self._awaited = False  # a task was woken for the messages of the inbox, and has taken none yet
        self._to_flush = False  # at the end of the turn, with all others that are in the engine's list
        self._all_to_flush = engine.to_flush
        self._deadline: Deadline | None = None
        self._deadline_at = inf
        self._schedule_check(self.last_seen)

    # -- from the transport ------------------------------------------------------------------

    def readable(self, buffer: bytearray, now: float) -> object:
        """Take what the transport has, and act on it."""
        if self._paused:  # only the end of the stream is watched now
            return self._end_behind_full_inbox()
        while True:
            size = self.transport.recv_into(buffer, self._read_size)
            if size == _BLOCKED:
                return None
            if size == _LOST:
                return self._lose(_RESET)
            if size == 0:
                return self._lose(_VANISHED)
            self.last_seen = now
            Link.feed(self, buffer, size)
            if self._paused or self.closing.ended or not self.transport.pending():
                return None

    def feed(self, buffer: bytearray, size: int) -> object:
        """Act on received bytes; a peer that breaks the protocol is told so."""
        self.bytes_in += size
        if self.closing.peer_closed or self.closing.state == _GONE:
            return None  # after the Close nothing counts (RFC 6455, section 5.5.1)
        inbox = self.inbox
        before = len(inbox.messages)
        failure = None
        try:
            inbox.added(self._decoder.feed(buffer, size, inbox.messages, inbox.room()))
        except ProtocolError as error:
            failure = error
        return self._act(before, failure)

    def _act(self, before: int, failure: ProtocolError | None) -> object:
        """Act on what was decoded, of which the messages are those behind the first ``before``."""
        messages, decoder = self.inbox.messages, self._decoder
        got = len(messages) > before
        refills = 0
        while True:
            if len(messages) > before:
                self.messages_in += len(messages) - before
                if refills < _REFILLS_A_TURN or self.consumer is None:
                    self._deliver()
                else:  # each may be the work of a large message, so the others are served first
                    self.engine.deadlines.at(self.engine.now(), self._consume_later)
            if decoder.controls:
                self._act_on_controls()
            if failure is not None:
                return self._fail(failure)
            if messages or decoder.is_idle() or not decoder.kept:
                break
            before, failure = 0, self._decode_kept()
            refills += 1
        if self._is_behind or not decoder.is_idle():
            self._is_behind = not decoder.is_idle()
            self._note_unfinished(got)
            self._pause_or_go_on()
        return None

    def _note_unfinished(self, got: bool) -> object:
        """Note when the message began that is not whole; ``got`` if others have ended meanwhile."""
        timeouts = self._timeouts
        if got or not self._decoder.unfinished:
            timeouts.message_since = None
        # While something is kept, we are behind, and not the peer.
        if timeouts.message_since is None and self._decoder.unfinished and not self._decoder.kept:
            timeouts.message_since = self.engine.now()
        return None

    def _decode_kept(self) -> ProtocolError | None:
        """The inbox is empty: decode what was kept while it was full."""
        inbox = self.inbox
        try:
            inbox.added(self._decoder.resume(inbox.messages, inbox.room()))
        except ProtocolError as error:
            return error
        return None

    def _act_on_controls(self) -> object:
        controls = self._decoder.controls[:]
        self._decoder.controls.clear()
        pings: list[bytes] = []
        close = None
        for control in controls:
            if isinstance(control, Ping):
                pings.append(control.payload)
            elif isinstance(control, Pong):
                self._take_pong(control)
            else:
                close = control
        if pings and self.closing.state == _OPEN:
            self._controls.pong(pings)
            self._flush_soon()
        return None if close is None else self._take_close(close)

    def _take_pong(self, pong: Pong) -> object:
        round_trip = self.keepalive.pong(pong.payload, self.engine.now())
        if round_trip is not None:
            self.engine.ping_latency.observe(round_trip)
        return None

    def _pause_or_go_on(self) -> object:
        """Read from the peer while the read-ahead has room."""
        full = self._decoder.kept >= self.inbox.limit
        if full != self._paused and not self.closing.ended:
            self._paused = full
            self._watch()
            if not full and self.transport.pending():  # what no watch on the socket would show
                self._check_at(self.engine.now())
        return None

    def _end_behind_full_inbox(self) -> object:
        """The stream has ended or broken; what lies before that, a Close perhaps, is still to be received."""
        self.transport.ignore_end()
        return self._peer_is_gone(None)

    def writable(self) -> None:
        """The transport takes bytes again."""
        self.outbox.blocked = False
        self._timeouts.blocked_since = None
        self._write()
        if not self.outbox.blocked:
            self._watch()
            self.consume_on()

    # -- receiving ---------------------------------------------------------------------------

    def _deliver(self) -> object:
        if self.closing.closed_here:
            self.inbox.clear()
        elif self.consumer is not None:
            self._run_consumer()
        elif self.inbox.wake():
            self.engine.woken = True
            self._awaited = True
        return None

    def _run_consumer(self) -> object:
        """Give the inbox to the plain consumer, as far as the peer takes what it answers."""
        consumer: Any = self.consumer
        if consumer.running:
            return None  # it goes on with them itself
        goes_on = consumer.run()
        self._write_now()
        while goes_on and self.inbox.messages and self.outbox.has_room():
            goes_on = consumer.run()
            self._write_now()
        if not goes_on or (self.closing.gone_at >= 0 and not self.inbox.messages):
            self._wake_receiver()
        return None

    def consume_on(self) -> object:
        """There may be room for what a plain consumer answers."""
        if self.consumer is not None and self.inbox.messages:
            self._run_consumer()
            if not self.inbox.messages:
                self._refill()
        return None

    def _consume_later(self, now: float) -> None:  # noqa: ARG002  # a deadline's signature
        self.consume_on()

    def take(self) -> str | bytes:
        """The next message of the inbox; decoding goes on when the inbox is empty."""
        message = self.inbox.pop()
        self._awaited = False
        if not self.inbox.messages:
            self._refill()
        return message  # type: ignore[no-any-return]

    def _refill(self) -> object:
        if self._decoder.kept:
            self._turn = 1  # a refill may be the work of a large message: the others run before the next
            self._act(0, self._decode_kept())
        return None

    def is_turn_over(self) -> bool:
        """Whether the task that sends or receives is to let the others run now."""
        self._turn -= 1
        if self._turn:
            return False
        self._turn = _MESSAGES_A_TURN
        return True

    def must_wait(self) -> bool:
        """Whether a receiver has to wait for a message. Raises when nothing more can come."""
        closing = self.closing
        if closing.closed_here:
            raise trio.ClosedResourceError("this side has closed the connection")
        if self.inbox.messages:
            return False
        if closing.state == _CLOSE_RECEIVED:
            self._reply_to_close()  # all that came before it has been consumed
        else:
            self._write_now()  # what waits is written before the task does
            if self.inbox.messages:
                return False  # the write has failed, and what had come before was read
        if closing.state == _GONE:
            raise self._over()
        return True

    def begin_waiting(self, task: trio.lowlevel.Task) -> None:
        """``task`` is rescheduled when there may be a message, or the end; no other may receive meanwhile."""
        self.busy = True
        self.inbox.wait(task)

    def _wake_receiver(self) -> object:
        if self.inbox.wake():
            self.engine.woken = True
        return None

    # -- sending -----------------------------------------------------------------------------

    def try_send(self, message: object) -> bool:
        """Queue ``message`` whole, or not at all and return False while the peer is behind."""
        Link.check_sendable(self)
        if not self.outbox.has_room():
            if not isinstance(message, (str, bytes, bytearray, memoryview)):
                raise not_a_message(message)
            return False
        self._messages.push(message, False)
        if self.inbox.messages:
            self._flush_soon()  # what follows may leave in the same write
        else:
            self._write_now()
        return True

    def send_nowait(self, message: object) -> None:
        """Queue ``message``; see ``Connection.send_nowait``."""
        Link.check_sendable(self)
        self._messages.push(message, True)
        if self.consumer is None or not self.consumer.running:
            self._flush_soon()

    def offer(self, frame: Any) -> bool:
        """Queue a shared frame; False if it would pass the bound. For open links only."""
        if not self._messages.offer(frame):
            return False
        self._flush_soon()
        return True

    def push_fragment(self, opcode: int, payload: bytes, final: bool) -> None:
        """Queue one fragment of the streamed message."""
        self.check_sendable()
        self.outbox.push_streamed(encode_frame(opcode, payload, final))
        if final:
            self._messages.count += 1
        self._write_now()

    def end_stream(self) -> None:
        """The streamed message is over: what waited follows it."""
        self.outbox.end_stream()
        if not self.outbox.is_empty():
            self._flush_soon()
        self.consume_on()

    def send_ping(self, task: trio.lowlevel.Task | None) -> bytes:
        """Queue a ping; ``task`` is rescheduled at its pong or at the end."""
        payload = self.keepalive.ping(self.engine.now(), task)
        self._controls.ping(payload)
        self._flush_soon()
        return payload

    def check_sendable(self) -> object:
        """Raise what a send raises when no message may be sent any more."""
        if not self.closing.can_send():
            if self.closing.closed_here:
                raise trio.ClosedResourceError("this side has closed the connection")
            raise self._over()
        return None

    def _over(self) -> ConnectionClosed:
        connection: Any = self  # every link is a connection
        unknown = _RESET if self.closing.broken else _CLOSING
        return ConnectionClosed(self.closing.reason or unknown, connection)

    @property
    def messages_out(self) -> int:
        """How many messages were queued for the peer."""
        return self._messages.count

    @property
    def queued(self) -> int:
        """What waits for the peer: bytes, and an overhead for each message."""
        return self.outbox.queued_cost()

    # -- writing -----------------------------------------------------------------------------

    def write_handshake(self, answer: bytes) -> None:
        """Write the answer to the opening handshake; nothing overtakes it."""
        self.outbox.push_urgent(Urgent(answer))
        self._write()

    def _flush_soon(self) -> object:
        """Have the queue written at the end of this turn of Trio's scheduler."""
        if not self._to_flush:
            self._to_flush = True
            if not self._all_to_flush:
                self.engine.expect_flush()
            self._all_to_flush.append(self)
        return None

    def flush(self) -> bool:
        """Write what is queued; whether that may concern a task or a deadline."""
        self._to_flush = False
        if self.outbox.is_empty() or self.outbox.blocked:
            return False
        return self._write()

    def _write_now(self) -> object:
        if not (self.outbox.is_empty() or self.outbox.blocked):
            self._write()
        return None

    def _write(self) -> bool:
        """Write, and act on the outcome; whether that may concern a task or a deadline."""
        outcome = self.outbox.write()
        if outcome == _LOST:
            self._lose_writing()
        elif outcome == _BLOCKED:
            self._write_blocked()
        elif self.closing.state == _GONE:
            self._end()
        else:
            return self.outbox.woke
        return True

    def _write_blocked(self) -> object:
        if self._timeouts.blocked_since is None:
            now = self.engine.now()
            self._timeouts.blocked_since = now
            self._watch()
            timeout = self.settings.send_timeout
            if timeout is not None and now + timeout < self._deadline_at:
                self._schedule_check(now)
        return None

    def _watch(self) -> object:
        if not self.closing.ended:
            self.transport.watch(not self._paused, self.outbox.blocked)
        return None

    def _lose_writing(self) -> object:
        """Nothing more can be written; what the peer sent before may still be there to read."""
        self.outbox.discard()
        buffer = bytearray(65536)
        while not self.closing.ended and not self._paused:
            before = self.bytes_in
            self.readable(buffer, self.engine.now())
            if self.bytes_in == before:
                break
        if self._paused:
            self.closing.broken = True
            return self._end_behind_full_inbox()
        return self._lose(_RESET)

    # -- deadlines ---------------------------------------------------------------------------

    def _schedule_check(self, now: float) -> object:
        """Set the deadline at which something may be late."""
        return self._check_at(self._timeouts.next_check(self.last_seen, now))

    def _check_at(self, when: float) -> object:
        """Call ``check`` at ``when``; a deadline that was set for later is taken back."""
        if when < self._deadline_at:
            self._stop_deadline()
            self._deadline_at = when
            self._deadline = self.engine.deadlines.at(when, self.check)
        return None

    def _stop_deadline(self) -> object:
        self.engine.deadlines.cancel(self._deadline)
        self._deadline = None
        self._deadline_at = inf
        return None

    def check(self, now: float) -> None:
        """Read what no watch shows, act on what is late then, and set the deadline anew."""
        self._deadline = None
        self._deadline_at = inf
        try:
            if self.transport.pending() and not self._paused and not self.closing.ended:
                self.readable(bytearray(self._read_size), now)
                if self.closing.ended:
                    return
            self._act_on_late(now)
        except Exception:
            # One connection's failure is one connection's failure (G5), also when it is ours.
            logger.exception("a connection failed at a deadline and is aborted")
            self.failed()

    def _act_on_late(self, now: float) -> None:
        late = self._timeouts.judge(self.last_seen, now)
        if late is Late.WRITE:
            return self.abort("the peer took no data for too long")
        if late is Late.CLOSE:
            return self._give_up_closing()
        if late is Late.MESSAGE:
            self._fail(ProtocolError(CloseCode.POLICY_VIOLATION, "a message took too long"))
            return None
        # While nothing is read no pong can be seen: then TCP's own acknowledgements judge the peer.
        if late is Late.PEER and not self._paused:
            return self.abort("the peer did not answer a ping")
        if late is Late.PING:
            self.send_ping(None)
            self.transport.limit_unacknowledged(self.settings.ping_timeout if self._paused else None)
        self._schedule_check(now)
        return None

    def _give_up_closing(self) -> None:
        if self.closing.ended:
            self._drop_transport(False)  # the peer has both Closes, but does not end its side
        elif self.closing.state == _CLOSE_RECEIVED:
            self._reply_to_close()
        else:
            # What is written may still be read, our Close too; what is not would keep its memory.
            self.abort("the peer did not answer our Close", reset=not self.outbox.is_empty())

    # -- closing -----------------------------------------------------------------------------

    def send_close(self, code: int, reason: str = "", closed_here: bool = False) -> None:
        """Queue our Close if none went before; with ``closed_here`` the owner receives nothing more."""
        payload = close_payload(code, reason)
        closing = self.closing
        if closing.state == _OPEN:
            closing.turn(Turn.SEND_CLOSE)
            closing.blame("us")
            self._queue_close(payload)
        elif closing.state == _CLOSE_RECEIVED:
            self._reply_to_close()
        if closed_here and not closing.closed_here:
            closing.close_here()
            self.keepalive.end()
            self.inbox.clear()
            self._refill()  # a Close may be behind it
            self._wake_receiver()
        self.outbox.wake_waiting()
        self._write_now()

    def _queue_close(self, payload: bytes) -> object:
        self._controls.close(payload)
        return self._limit_closing()

    def _limit_closing(self) -> object:
        """What is left of the closing handshake must not take longer than ``close_timeout``."""
        self.closing.since = self.engine.now()
        return self._schedule_check(self.closing.since)

    def _take_close(self, close: Close) -> object:
        closing = self.closing
        closing.peer_closed = True
        closing.turn(Turn.RECEIVE_CLOSE)
        if closing.state == _CLOSE_RECEIVED:
            closing.blame("peer")
        self._peer_is_gone(CloseReason(close.code, close.reason))
        if closing.state == _GONE:
            return self._end_if_written()
        if self._awaited and self.inbox.messages:
            return self._limit_closing()  # the task that was woken for them may still answer
        return self._reply_to_close()

    def _reply_to_close(self) -> object:
        """Answer the peer's Close with its own code and reason (RFC 6455, section 5.5.1)."""
        reason: Any = self.closing.reason
        self.closing.turn(Turn.SEND_CLOSE)
        self._queue_close(close_reply(Close(reason.code, reason.reason)))
        self._wake_receiver()
        self.outbox.wake_waiting()
        return self._end_if_written()

    def _end_if_written(self) -> object:
        self._write_now()
        if self.outbox.is_empty():
            self._end()
        return None

    def _fail(self, error: ProtocolError) -> object:
        """The peer broke the protocol: say which rule, and end (RFC 6455, section 7.1.7)."""
        closing = self.closing
        closing.blame("us")
        if closing.state <= _CLOSE_RECEIVED:
            self._queue_close(close_payload(error.code, str(error)))
        closing.turn(Turn.LOSE_PEER)
        self._peer_is_gone(CloseReason(error.code, str(error)))
        return self._end_if_written()

    def _peer_is_gone(self, reason: CloseReason | None) -> object:
        """Tell those who work for the peer, and the receiver; messages may remain to be received."""
        self.closing.peer_is_gone(self.engine.now(), reason)
        self.keepalive.end()
        self._wake_receiver()
        self.outbox.wake_waiting()
        return None

    # -- the end of the transport ------------------------------------------------------------

    def _lose(self, reason: CloseReason) -> object:
        """The transport is gone."""
        if self.closing.state != _GONE:
            self.closing.blame("network")
            self.closing.turn(Turn.LOSE_PEER)
            self._peer_is_gone(reason)
        return self._drop_transport(False)

    def abort(self, why: str, reset: bool = True) -> None:
        """End at once: no Close, and nothing that is queued; with ``reset`` nothing that the kernel holds."""
        if self.closing.state != _GONE:
            self.closing.blame("us")
            self.closing.turn(Turn.LOSE_PEER)
            self._peer_is_gone(CloseReason(CloseCode.ABNORMAL, why))
        self._drop_transport(reset)

    def failed(self) -> None:
        """Something of ours went wrong with this connection."""
        self.abort("the server failed")

    def _end(self) -> object:
        """Both Closes are written: the server ends the TCP connection (RFC 6455, section 7.1.1)."""
        if self.closing.ended:
            return None
        self._paused = False
        if self.transport.send_eof(self.closing.peer_closed):
            self._stop_deadline()
        else:
            self.transport.watch(True, False)
            self._limit_closing()
        self.closing.end()
        return None

    def _drop_transport(self, abort: bool) -> object:
        self.outbox.discard()
        self.outbox.blocked = False
        self._stop_deadline()
        self.transport.close(abort)
        self.closing.end()
        self.outbox.wake_waiting()
        self.consume_on()  # a plain consumer that waited for room finishes what has arrived
        return None
