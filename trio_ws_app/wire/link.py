# cython: annotation_typing=False
"""The synchronous whole of a connection: from bytes to messages and back. Nothing here waits.

A link is composed of what each file beside this one describes: an ``Outbox``, an ``Inbox``, a ``Keepalive``
and the ``Closing`` state. It carries what happens to one of them to the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import trio

from ..errors import CloseCode, CloseReason, ConnectionClosed, not_a_message
from ..primitives import BLOCKED, LOST, encode_frame
from ..protocol.closing import Close, State, Turn, close_payload, close_reply
from ..protocol.control import Ping, Pong
from ..protocol.decoder import Decoder
from ..protocol.errors import ProtocolError
from ..protocol.frames import Opcode, encode_header
from .closing import Closing
from .inbox import Inbox
from .inline import InlineConsumer
from .keepalive import Keepalive, Verdict
from .outbox import Header, Outbox, Urgent

if TYPE_CHECKING:
    from ..protocol.deflate import PerMessageDeflate
    from ..settings import Settings
    from .deadlines import Deadline
    from .engine import Engine
    from .transport import Transport

_BLOCKED = BLOCKED
_LOST = LOST
_TEXT, _BINARY = int(Opcode.TEXT), int(Opcode.BINARY)
_OPEN, _CLOSE_RECEIVED, _CLOSE_SENT, _GONE = map(int, State)
# A payload from this size on is queued as it is, behind its header, rather than copied into a frame.
_LARGE = 16 * 1024
_SMALLEST_READ, _LARGEST_READ = 4 * 1024, 256 * 1024
_VANISHED = CloseReason(CloseCode.ABNORMAL, "the peer went away without a goodbye")
_RESET = CloseReason(CloseCode.ABNORMAL, "the connection was reset")
_SAYING_GOODBYE = CloseReason(CloseCode.GOING_AWAY, "the server is saying goodbye")


class Link:
    """Bytes in, messages out, and back; the counters of one connection."""

    def __init__(
        self,
        engine: Engine,
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
        self.messages_in = self.messages_out = self.bytes_in = 0
        self.dropped = 0  # messages, by an overflow policy
        self.last_seen = engine.now()
        inflate = None if deflate is None else deflate.inflate
        self._decoder = Decoder(settings.max_message_size, settings.max_fragments, inflate)
        self._read_size = max(_SMALLEST_READ, min(settings.max_inbox_bytes, _LARGEST_READ))
        self._paused = False  # nothing is read from the peer: the inbox is full, and so is the read-ahead
        self._awaited = False  # a task has been woken for the messages of the inbox, and has taken none yet
        self._dirty = False  # to be flushed at the end of the turn
        self._pong: Urgent | None = None  # the last pongs, which may still be queued
        self._blocked_since = -1.0
        self._unfinished_since = -1.0  # a message has begun, and is not whole
        self._next_check = -1.0
        self._deadline: Deadline | None = None
        self._check_in_time(self.last_seen)

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
            self.feed(buffer, size)
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
        messages = self.inbox.messages
        if len(messages) > before or not self._decoder.unfinished:
            self._unfinished_since = -1.0
        while True:
            if len(messages) > before:
                self.messages_in += len(messages) - before
                self._deliver()
            if self._decoder.controls:
                self._act_on_controls()
            if failure is not None:
                return self._fail(failure)
            if messages or not self._decoder.kept:
                break
            before, failure = 0, self._decode_kept()
        if self._decoder.kept:
            self._unfinished_since = -1.0  # the inbox is full: a message that takes long is our doing
        elif self._unfinished_since < 0 and self._decoder.unfinished:
            self._unfinished_since = self.engine.now()
        return self._pause_or_go_on()

    def _decode_kept(self) -> ProtocolError | None:
        """The inbox is empty: decode what was kept while it was full."""
        inbox = self.inbox
        try:
            inbox.added(self._decoder.resume(inbox.messages, inbox.room()))
        except ProtocolError as error:
            return error
        return None

    def _pause_or_go_on(self) -> object:
        """Read from the peer while the read-ahead has room."""
        full = self._decoder.kept >= self.inbox.limit
        if full != self._paused and not self.closing.ended:
            self._paused = full
            self._watch()
            if not full and self.transport.pending():  # what no watch on the socket would show
                self.engine.deadlines.at(self.engine.now(), self._read_pending)
        return None

    def _read_pending(self, now: float) -> None:
        if not self._paused and not self.closing.ended:
            self.readable(bytearray(self._read_size), now)

    def _end_behind_full_inbox(self) -> object:
        """The stream has ended or broken; what lies before that, a Close perhaps, is still to be received."""
        self.transport.ignore_end()
        return self._peer_is_gone(None)

    def writable(self) -> None:
        """The transport takes bytes again."""
        self.outbox.blocked = False
        self._blocked_since = -1.0
        self._write()
        if not self.outbox.blocked:
            self._watch()
            self.consume_on()

    # -- the inbox ---------------------------------------------------------------------------

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
        if not consumer.run() or (self.closing.gone_at >= 0 and not self.inbox.messages):
            self._wake_receiver()
        self._write_now()
        return None

    def consume_on(self) -> object:
        """There may be room for what a plain consumer answers."""
        if self.consumer is not None and self.inbox.messages:
            self._run_consumer()
            if not self.inbox.messages:
                self._refill()
        return None

    def take(self) -> str | bytes:
        """The next message of the inbox; decoding goes on when the inbox is empty."""
        message = self.inbox.pop()
        self._awaited = False
        if not self.inbox.messages:
            self._refill()
        return message  # type: ignore[no-any-return]

    def _refill(self) -> object:
        if self._decoder.kept:
            self._act(0, self._decode_kept())
        return None

    @property
    def unreceived(self) -> int:
        """How many messages wait to be received."""
        return self.inbox.count()

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

    def _wake_receiver(self) -> object:
        if self.inbox.wake():
            self.engine.woken = True
        return None

    # -- sending -----------------------------------------------------------------------------

    def try_send(self, message: object) -> bool:
        """Queue ``message`` whole, or not at all and return False while the peer is behind."""
        self.check_sendable()
        if not self.outbox.has_room():
            if not isinstance(message, (str, bytes, bytearray, memoryview)):
                raise not_a_message(message)
            return False
        self._push_message(message, False)
        if self.inbox.messages:
            self._mark_dirty()  # what follows may leave in the same write
        else:
            self._write_now()
        return True

    def send_nowait(self, message: object) -> None:
        """Queue ``message``; see ``Connection.send_nowait``."""
        self.check_sendable()
        self._push_message(message, True)
        if self.consumer is None or not self.consumer.running:
            self._mark_dirty()

    def check_sendable(self) -> object:
        """Raise what a send raises when no message may be sent any more."""
        closing = self.closing
        if not closing.can_send():
            if closing.closed_here:
                raise trio.ClosedResourceError("this side has closed the connection")
            raise self._over()
        return None

    def _over(self) -> ConnectionClosed:
        connection: Any = self  # every link is a connection
        unknown = _RESET if self.closing.broken else _SAYING_GOODBYE
        return ConnectionClosed(self.closing.reason or unknown, connection)

    def _push_message(self, message: object, if_fits: bool) -> object:
        """Queue one message as one frame. Raises WouldBlock if it has to fit and does not."""
        outbox = self.outbox
        if isinstance(message, str):
            payload = message.encode()
            opcode = _TEXT
        elif type(message) is bytes:
            payload = message
            opcode = _BINARY
        elif isinstance(message, (bytes, bytearray, memoryview)):
            payload = bytes(message)
            opcode = _BINARY
        else:
            raise not_a_message(message)
        if self.deflate is not None and len(payload) >= self.settings.compression_threshold:
            return self._push_compressed(opcode, payload, if_fits)
        if if_fits and not outbox.fits(len(payload)):
            raise trio.WouldBlock
        if len(payload) >= _LARGE and self.transport.gathers:
            outbox.push(Header(encode_header(opcode, len(payload))))
            outbox.push(payload)
        else:
            outbox.push(encode_frame(opcode, payload))
        self.messages_out += 1
        return None

    def _push_compressed(self, opcode: int, payload: bytes, if_fits: bool) -> object:
        deflate: Any = self.deflate
        frame = encode_frame(opcode, deflate.deflate(payload), True, True)
        if if_fits and not self.outbox.fits(len(frame)):
            deflate.restart()  # what comes next must not refer to a message that is not sent
            raise trio.WouldBlock
        self.outbox.push(frame)
        self.messages_out += 1
        return None

    def offer(self, frame: Any) -> bool:
        """Queue a frame that others share; False when it would pass the bound. For open links only."""
        if not self.outbox.fits(len(frame)):
            return False
        self.outbox.push(frame)
        self.messages_out += 1
        self._mark_dirty()
        return True

    def push_fragment(self, opcode: int, payload: bytes, final: bool) -> None:
        """Queue one fragment of the streamed message."""
        self.check_sendable()
        self.outbox.push_streamed(encode_frame(opcode, payload, final))
        self._write_now()

    def end_stream(self) -> None:
        """The streamed message is over: what waited follows it."""
        self.outbox.end_stream()
        self.messages_out += 1
        if not self.outbox.is_empty():
            self._mark_dirty()
        self.consume_on()

    @property
    def queued(self) -> int:
        """What waits for the peer: bytes, and an overhead for each message."""
        return self.outbox.queued_cost()

    # -- writing -----------------------------------------------------------------------------

    def write_handshake(self, answer: bytes) -> None:
        """Write the answer to the opening handshake; nothing overtakes it."""
        self.outbox.push_urgent(Urgent(answer))
        self._write()

    def _mark_dirty(self) -> object:
        """Have the queue written at the end of this turn of Trio's scheduler."""
        if not self._dirty:
            self._dirty = True
            self.engine.mark_dirty(self)
        return None

    def flush(self) -> bool:
        """Write what is queued; whether that may concern a task or a deadline."""
        self._dirty = False
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
            return True
        if outcome == _BLOCKED:
            self._write_blocked()
            return True
        if self.closing.state == _GONE:
            self._end()
            return True
        return self.outbox.woke

    def _write_blocked(self) -> object:
        if self._blocked_since < 0:
            self._blocked_since = self.engine.now()
            self._watch()
            if self.settings.send_timeout is not None:
                self._check_at(self._blocked_since + self.settings.send_timeout)
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

    # -- pings and pongs ---------------------------------------------------------------------

    def _act_on_controls(self) -> object:
        controls = self._decoder.controls[:]
        self._decoder.controls.clear()
        pongs: list[bytes] = []
        for control in controls:
            if isinstance(control, Ping):
                pongs.append(encode_frame(Opcode.PONG, control.payload))
            elif isinstance(control, Pong):
                round_trip = self.keepalive.pong(control.payload, self.engine.now())
                if round_trip is not None:
                    self.engine.ping_latency.observe(round_trip)
            else:
                self._answer_pings(pongs)
                return self._take_close(control)
        return self._answer_pings(pongs)

    def _answer_pings(self, pongs: Sequence[bytes]) -> object:
        """Every ping is answered, unless the peer does not read our answers.

        Then only the latest needs one (RFC 6455, section 5.5.3), so a flood of pings is bounded.
        """
        if pongs and self.closing.state == _OPEN:
            blocked = self.outbox.blocked
            pong = Urgent(pongs[-1] if blocked else b"".join(pongs))
            self.outbox.push_urgent(pong, self._pong if blocked else None)
            self._pong = pong
            self._mark_dirty()
        return None

    def send_ping(self, task: trio.lowlevel.Task | None) -> bytes:
        """Queue a ping; ``task`` is rescheduled at its pong or at the end."""
        payload = self.keepalive.ping(self.engine.now(), task)
        self.outbox.push_urgent(Urgent(encode_frame(Opcode.PING, payload)))
        self._mark_dirty()
        return payload

    # -- deadlines ---------------------------------------------------------------------------

    def _check_at(self, when: float) -> object:
        """Look at every deadline at ``when``, or sooner."""
        if self._next_check < 0 or when < self._next_check:
            self._next_check = when
            self.engine.deadlines.cancel(self._deadline)
            self._deadline = self.engine.deadlines.at(when, self.check)
        return None

    def _check_in_time(self, now: float) -> object:
        """Look again when the keepalive or a slow message wants it."""
        look = self.keepalive.next_look(self.last_seen, now)
        if look is not None:
            self._check_at(look)
        if self.settings.message_timeout is not None:
            begun = now if self._unfinished_since < 0 else self._unfinished_since
            self._check_at(begun + self.settings.message_timeout)
        return None

    def check(self, now: float) -> None:
        """Look at every deadline, and set the time to look again.

        A deadline is compared by the very sum that it was set with: a difference that is rounded
        otherwise would set it again for this instant, for ever.
        """
        self._deadline = None
        self._next_check = -1.0
        closing, settings = self.closing, self.settings
        if closing.ended:
            self._check_linger(now)
        elif self._is_late(self._blocked_since, settings.send_timeout, now):
            self.abort("the peer took no data for too long")
        elif self._is_late(closing.since, settings.close_timeout, now):
            if closing.state == _CLOSE_RECEIVED:
                self._reply_to_close()
            else:
                self.abort("the peer did not answer our Close")
        elif closing.since < 0:
            self._check_peer(now)

    def _is_late(self, since: float, timeout: float | None, now: float) -> bool:
        """Whether what began at ``since`` is over its time; if not, look again when it will be."""
        if since < 0 or timeout is None:
            return False
        if now >= since + timeout:
            return True
        self._check_at(since + timeout)
        return False

    def _check_peer(self, now: float) -> object:
        if self._is_late(self._unfinished_since, self.settings.message_timeout, now):
            self._fail(ProtocolError(CloseCode.POLICY_VIOLATION, "a message took too long"))
            return None
        verdict = self.keepalive.judge(self.last_seen, now)
        # While nothing is read no pong can be seen: then TCP's own acknowledgements judge the peer.
        if verdict is Verdict.DEAD and not self._paused:
            self.abort("the peer did not answer a ping")
            return None
        if verdict is Verdict.ASK:
            self.send_ping(None)
            self.transport.limit_unacknowledged(self.settings.ping_timeout if self._paused else None)
        return self._check_in_time(now)

    def _check_linger(self, now: float) -> object:
        """The peer has both Closes but does not end its side: end it for it."""
        if self._is_late(self.closing.since, self.settings.close_timeout, now):
            self._drop_transport(True)
        return None

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
        """Queue our Close, whose rest must not take longer than ``close_timeout``."""
        self.outbox.drop_held()  # the streamed message can't be completed any more
        self.outbox.push_streamed(encode_frame(Opcode.CLOSE, payload))
        self._limit_closing()
        return None

    def _limit_closing(self) -> object:
        self.closing.since = self.engine.now()
        if self.settings.close_timeout is not None:
            self._check_at(self.closing.since + self.settings.close_timeout)
        return None

    def _take_close(self, close: Close) -> object:
        closing = self.closing
        closing.peer_closed = True
        closing.turn(Turn.RECEIVE_CLOSE)
        if closing.state == _CLOSE_RECEIVED:
            closing.blame("peer")
        self._peer_is_gone(CloseReason(close.code, close.reason))
        if closing.state == _GONE:
            self._end_if_written()
        elif self._awaited and self.inbox.messages:
            self._limit_closing()  # the task that has been woken for them may still answer
        else:
            self._reply_to_close()
        return None

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

    # -- without a closing handshake ---------------------------------------------------------

    def _lose(self, reason: CloseReason) -> object:
        """The transport is gone."""
        if self.closing.state != _GONE:
            self.closing.blame("network")
            self.closing.turn(Turn.LOSE_PEER)
            self._peer_is_gone(reason)
        return self._drop_transport(False)

    def abort(self, why: str) -> None:
        """End at once: no Close, and nothing that is queued."""
        if self.closing.state != _GONE:
            self.closing.blame("us")
            self.closing.turn(Turn.LOSE_PEER)
            self._peer_is_gone(CloseReason(CloseCode.ABNORMAL, why))
        self._drop_transport(True)

    def failed(self) -> None:
        """Something of ours went wrong with this connection."""
        self.abort("the server failed")

    # -- the end of the transport ------------------------------------------------------------

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

    def _stop_deadline(self) -> object:
        self.engine.deadlines.cancel(self._deadline)
        self._deadline = None
        return None
