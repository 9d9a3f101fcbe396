# cython: annotation_typing=False
"""The synchronous whole of a connection: from bytes to messages and back. Nothing here waits.

A link is composed of what the files beside this one describe, and carries what happens to one part to the
others: bytes come in at ``readable`` and ``feed``, ``sender`` has the way out, ``closing`` the end.

In the loop that every message passes, methods are called by the name of the class, ``Link.feed(self, ...)``:
compiled, that is a direct call, while ``self.feed(...)`` looks for an override first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio
from trio.lowlevel import Task, current_task

from ..errors import CloseCode, CloseReason, ConnectionClosed
from ..primitives import BLOCKED, LOST
from ..protocol.closing import ProtocolError, State
from ..protocol.decoder import Decoder
from ..protocol.frames import Ping, Pong
from .closing import Closing
from .inbox import Inbox
from .inline import InlineConsumer
from .outbox import Outbox
from .pings import Pings
from .sending import Sender
from .timeouts import Late, Timeouts

if TYPE_CHECKING:
    from ..protocol.deflate import PerMessageDeflate
    from ..settings import Settings
    from .sending import Host
    from .transport import Transport

_OPEN, _CLOSE_RECEIVED, _CLOSE_SENT, _GONE = map(int, State)
MESSAGES_A_TURN = 64  # that one task sends and receives before it lets the others run
_MESSAGES_A_TURN = MESSAGES_A_TURN
# Of the inbox for a plain consumer: each may be the work of a large message, so the others are served first.
_REFILLS_A_TURN = 2
_SMALLEST_READ, _LARGEST_READ = 4 * 1024, 256 * 1024
_CONTROLS_A_READ = 256  # a peer that sends more control frames at once is read in small pieces from then on
_VANISHED = CloseReason(CloseCode.ABNORMAL, "the peer went away without a Close")
_RESET = CloseReason(CloseCode.ABNORMAL, "the connection was reset")
_CLOSING = CloseReason(CloseCode.GOING_AWAY, "the server is closing the connection")


class Link:
    """One connection's parts, and what happens between them; an ``Endpoint``, and a ``Waiter``."""

    def __init__(
        self, engine: Host, transport: Transport, settings: Settings, deflate: PerMessageDeflate | None
    ) -> None:
        inflate = None if deflate is None else deflate.inflate
        decoder = Decoder(settings.max_message_size, settings.max_fragments, inflate)
        self.engine = engine
        self.transport = transport
        self.settings = settings
        self.inbox = Inbox(settings.max_inbox_bytes, decoder)
        self.outbox = Outbox(transport, settings.max_queue_bytes)
        self.pings = Pings(engine.ping_latency)
        self.timeouts = Timeouts(settings, engine.deadlines, self)
        self.closing = Closing(transport, self.outbox, self.inbox, self.pings, self.timeouts, engine.now)
        threshold = settings.compression_threshold
        self.sender = Sender(engine, self.outbox, self.inbox, self.closing, self.timeouts, deflate, threshold)
        self.consumer: InlineConsumer | None = None
        self.busy = False  # a task receives, or has left that to the consumer
        self.messages_in = self.bytes_in = 0
        self.dropped = 0  # messages, by an overflow policy
        self.last_seen = engine.now()
        self._read_size = max(_SMALLEST_READ, min(settings.max_inbox_bytes, _LARGEST_READ))
        self._turn = _MESSAGES_A_TURN
        self._is_behind = False  # the decoder holds bytes: of a message that is not whole, or kept
        self._receiver = 0  # the id of the task that has received last; 0 if none has
        self._at_work = False  # on its last message: it has neither asked for the next nor sent anything
        self.timeouts.schedule(self.last_seen, self.last_seen)

    # -- from the transport ------------------------------------------------------------------

    def readable(self, buffer: bytearray, now: float) -> object:
        """Take what the transport has, and act on it."""
        if self.inbox.paused and not self.closing.ended:  # only the end of the stream is watched now
            return self._end_behind_full_inbox()
        while True:
            size = self.transport.recv_into(buffer, self._read_size)
            if size == BLOCKED:
                return None
            if size <= 0:
                return self._lose(_RESET if size == LOST else _VANISHED)
            self.last_seen = now
            Link.feed(self, buffer, size)
            if self.inbox.paused or self.closing.ended or not self.transport.pending():
                return None

    def feed(self, buffer: bytearray, size: int) -> object:
        """Act on received bytes; a peer that breaks the protocol gets a Close that says so."""
        self.bytes_in += size
        if self.closing.peer_closed or self.closing.state == _GONE:
            return None  # after the Close nothing counts (RFC 6455, section 5.5.1)
        before = len(self.inbox.messages)
        return self._act(before, self.inbox.feed(buffer, size))

    def _act(self, before: int, failure: ProtocolError | None) -> object:
        """Act on what was decoded, of which the messages are those behind the first ``before``."""
        messages, decoder = self.inbox.messages, self.inbox.decoder
        got = len(messages) > before
        refills = 0
        while True:
            if len(messages) > before:
                self.messages_in += len(messages) - before
                self._deliver(refills < _REFILLS_A_TURN)
            if decoder.controls:
                self._act_on_controls()
            if failure is not None:
                return self._fail(failure)
            if messages or decoder.is_idle() or not decoder.kept:
                break
            before, failure = 0, self.inbox.refill()
            refills += 1
        if self._is_behind or not decoder.is_idle():
            self._is_behind = not decoder.is_idle()
            self._note_unfinished(got)
            if not self.closing.ended and self.inbox.pause_if_full():
                self.sender.watch()
                if not self.inbox.paused and self.transport.pending():  # what no watch on the socket shows
                    self.timeouts.at(self.engine.now())
        return None

    def _act_on_controls(self) -> object:
        controls = self.inbox.decoder.controls[:]
        self.inbox.decoder.controls.clear()
        if len(controls) > _CONTROLS_A_READ:
            self._read_size = _SMALLEST_READ  # no bound but this one limits what they cost the others
        pings: list[bytes] = []
        close = None
        for control in controls:
            if isinstance(control, Ping):
                pings.append(control.payload)
            elif isinstance(control, Pong):
                self.pings.pong(control.payload, self.engine.now())
            else:
                close = control
        if pings and self.closing.state == _OPEN:
            self.sender.pong(pings)
        return None if close is None else self._receive_close(close)

    def _note_unfinished(self, got: bool) -> object:
        """Note when the message began that is not whole; ``got`` if others have ended meanwhile."""
        timeouts, decoder = self.timeouts, self.inbox.decoder
        if got or not decoder.unfinished:
            timeouts.message_since = None
        # While something is kept, we are behind, and not the peer.
        if timeouts.message_since is None and decoder.unfinished and not decoder.kept:
            timeouts.message_since = self.engine.now()
        return None

    def writable(self) -> None:
        self.sender.writable()
        if not self.outbox.blocked:
            self.consume_on()

    # -- receiving ---------------------------------------------------------------------------

    def _deliver(self, at_once: bool) -> object:
        """Give the inbox to the consumer, ``at_once`` or when its task has its turn, or to the receiver."""
        if self.closing.closed_here:
            self.inbox.clear()
        elif at_once and self.consumer is not None:
            self._run_consumer()
        else:
            self._wake_receiver()
        return None

    def _wake_receiver(self) -> object:
        if self.inbox.wake():
            self.engine.woken = True
        return None

    def _run_consumer(self) -> object:
        """Give the inbox to the plain consumer, as far as the peer takes what it answers."""
        consumer: Any = self.consumer
        if consumer.running:
            return None  # it goes on with them itself
        while True:
            goes_on = consumer.run()
            Sender.write_now(self.sender)
            if not (goes_on and self.inbox.messages and self.outbox.has_room()):
                break
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

    def take(self) -> str | bytes:
        """The next message of the inbox; decoding goes on when the inbox is empty."""
        message = self.inbox.pop()
        self._at_work = True
        if not self._receiver:
            self._receiver = id(current_task())
        if not self.inbox.messages:
            self._refill()
        return message  # type: ignore[no-any-return]

    def _refill(self) -> object:
        if self.inbox.decoder.kept:
            self._turn = 1  # a refill may be the work of a large message: the others run before the next
            self._act(0, self.inbox.refill())
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
        self._at_work = False
        if closing.closed_here:
            raise trio.ClosedResourceError("this side has closed the connection")
        if self.inbox.messages:
            return False
        if closing.state == _CLOSE_RECEIVED:
            self._reply_to_close()  # all that came before it has been consumed
        else:
            Sender.write_now(self.sender)  # what waits is written before the task does
        if closing.state == _GONE:
            raise self.closed_error()
        return True

    def begin_waiting(self, task: Task) -> None:
        """``task`` is rescheduled when there may be a message, or the end; no other may receive meanwhile."""
        self.busy = True
        self._receiver = id(task)
        self.inbox.wait(task)

    # -- sending -----------------------------------------------------------------------------

    def try_send(self, message: object) -> bool:
        """Queue ``message`` whole, or not at all and return False while the peer is behind."""
        Link.check_sendable(self)
        if self._at_work and self._receiver == id(current_task()):
            self._at_work = False
        return Sender.try_send(self.sender, message)

    def send_nowait(self, message: object) -> None:
        """Queue ``message``; see ``Connection.send_nowait``."""
        Link.check_sendable(self)
        self._at_work = False
        Sender.push(self.sender, message, True)
        if self.consumer is None or not self.consumer.running:
            Sender.flush_soon(self.sender)

    def check_sendable(self) -> object:
        """Raise what a send raises when no message may be sent any more."""
        return None if self.outbox.shared else self._check_end()

    def _check_end(self) -> object:
        """The peer is gone, or this side has closed; messages may be sent if they are answers."""
        closing = self.closing
        if closing.state == _CLOSE_RECEIVED and not self._receives():
            self._reply_to_close()  # a handler that only sends has nothing to answer
        if not self.outbox.sealed:
            return None
        if closing.closed_here:
            raise trio.ClosedResourceError("this side has closed the connection")
        raise self.closed_error()

    def closed_error(self) -> ConnectionClosed:
        """What receiving and sending raise once the connection is over."""
        connection: Any = self  # every link is a connection
        unknown = _RESET if self.closing.broken else _CLOSING
        return ConnectionClosed(self.closing.reason or unknown, connection)

    # -- deadlines ---------------------------------------------------------------------------

    def on_timeout(self, now: float) -> None:
        """Read what no watch shows, act on what is late then, and set the deadline anew."""
        self.timeouts.passed()
        if not self.closing.ended and not self.inbox.paused:
            if self.closing.broken:
                return self._read_the_rest(now)
            if self.transport.pending():
                self.readable(bytearray(self._read_size), now)
                if self.closing.ended:
                    return None
        return self._act_on_late(self.timeouts.judge(self.last_seen, now), now)

    def _read_the_rest(self, now: float) -> None:
        """Writing has failed: take what the peer sent before."""
        buffer = bytearray(self._read_size)
        before = -1
        while before < self.bytes_in and not self.closing.ended and not self.inbox.paused:
            before = self.bytes_in
            self.readable(buffer, now)
        if self.inbox.paused:
            self._end_behind_full_inbox()
        else:
            self._lose(_RESET)

    def _act_on_late(self, late: Late, now: float) -> None:
        if late is Late.WRITE:
            self.abort("the peer took no data for too long")
        elif late is Late.CLOSE:
            self.closing.give_up()
            self.sender.write_close()
        elif late is Late.MESSAGE:
            self._fail(ProtocolError(CloseCode.POLICY_VIOLATION, "a message took too long"))
        # While nothing is read no pong can be seen: then TCP's own acknowledgements judge the peer.
        elif late is Late.PEER and not self.inbox.paused:
            self.abort("the peer did not answer a ping")
        else:
            if late is Late.PING:
                self.sender.ping(self.pings.add(now))
                self.transport.limit_unacknowledged(self.settings.ping_timeout if self.inbox.paused else None)
            self.timeouts.schedule(self.last_seen, now)

    # -- the end -----------------------------------------------------------------------------

    def send_close(self, code: int, reason: str = "", closed_here: bool = False) -> None:
        """Send our Close if none went before; with ``closed_here`` the owner receives nothing more.

        Raises ValueError for a code or a reason that would be sent and may not be.
        """
        self.closing.send_close(code, reason)
        if closed_here and not self.closing.closed_here:
            self.closing.close_here()
            self._refill()  # a Close may be behind it
        self.sender.write_close()

    def _receive_close(self, close: CloseReason) -> object:
        self.closing.receive_close(close)
        self.engine.woken = True
        if self.closing.state == _GONE:
            return self.sender.write_close()
        if self._has_to_answer():
            self.closing.delay_reply()  # until the receiver asks for more than came before the Close
        else:
            self._reply_to_close()
        return None

    def _receives(self) -> bool:
        """Whether a task has received, or a plain consumer does."""
        return self._receiver != 0 or self.consumer is not None

    def _has_to_answer(self) -> bool:
        """Whether what came before the peer's Close may still be answered, if only when a receiver begins."""
        if not self.inbox.messages and not self.inbox.decoder.kept:
            return self._at_work
        return self._receives() or self.sender.count == 0

    def _reply_to_close(self) -> object:
        self.closing.reply()
        return self.sender.write_close()

    def _fail(self, error: ProtocolError) -> object:
        """The peer broke the protocol: say which rule, and end."""
        self.closing.fail(error.code, str(error))
        return self.sender.write_close()

    def _end_behind_full_inbox(self) -> object:
        """The stream has ended or broken; what lies before that, a Close perhaps, is still to be received."""
        self.transport.ignore_end()
        self.closing.peer_is_gone(None)
        return None

    def _lose(self, reason: CloseReason) -> object:
        self.closing.lose(reason)
        self.engine.woken = True
        return None

    def abort(self, why: str, reset: bool = True) -> None:
        """End at once: no Close, and nothing that is queued; with ``reset`` nothing that the kernel holds."""
        self.closing.abort(why, reset)

    def failed(self) -> None:
        self.sender.failed()
