# cython: annotation_typing=False
"""The way out: from a message to the outbox, and from the outbox to the transport."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import trio

from ..errors import not_a_message
from ..primitives import BLOCKED, LOST, encode_frame
from ..protocol.frames import Opcode, encode_header
from .chunks import Header, Urgent

if TYPE_CHECKING:
    from ..protocol.deflate import PerMessageDeflate
    from .closing import Closing
    from .deadlines import Deadlines
    from .histogram import Histogram
    from .inbox import Inbox
    from .outbox import Outbox
    from .timeouts import Timeouts

_TEXT, _BINARY, _PING, _PONG = map(int, (Opcode.TEXT, Opcode.BINARY, Opcode.PING, Opcode.PONG))
# A payload from this size on is queued as it is, behind its header, rather than copied into a frame.
_LARGE = 16 * 1024


class Host(Protocol):
    """What runs the connections: the engine."""

    now: Callable[[], float]
    deadlines: Deadlines
    woken: bool  # a task has been given something to do in this turn
    to_flush: list[Sender]
    ping_latency: Histogram
    drops: Counter[str]

    def expect_flush(self) -> None:
        """A sender is about to be the first of ``to_flush``: it is flushed when this turn is over."""


class Sender:
    """Queues what one connection sends, and writes it: at once, or with all others when the turn is over.

    Nothing here waits. Whether a message may still be sent is for the caller to know.
    """

    def __init__(
        self,
        host: Host,
        outbox: Outbox,
        inbox: Inbox,
        closing: Closing,
        timeouts: Timeouts,
        deflate: PerMessageDeflate | None,
        compression_threshold: int,
    ) -> None:
        self.outbox = outbox
        self.deflate = deflate
        self.count = 0  # messages that were queued
        self._host = host
        self._inbox = inbox
        self._closing = closing
        self._timeouts = timeouts
        self._compression_threshold = compression_threshold
        self._last_pong: Urgent | None = None  # the last pongs, which may still be queued
        self._to_flush = False  # at the end of the turn, with all others that are in the host's list
        self._all_to_flush = host.to_flush

    # -- queueing ----------------------------------------------------------------------------

    def try_send(self, message: object) -> bool:
        """Queue ``message`` whole, or not at all and return False while the peer is behind."""
        if not self.outbox.has_room():
            if not isinstance(message, (str, bytes, bytearray, memoryview)):
                raise not_a_message(message)
            return False
        Sender.push(self, message, False)
        if self._inbox.messages:
            self.flush_soon()  # what follows may leave in the same write
        else:
            self.write_now()
        return True

    def push(self, message: object, if_fits: bool) -> object:
        """Queue ``message`` as a frame, whole and in one step (G2).

        Raises WouldBlock if it has to fit and would pass the bound, TypeError for what is no message.
        """
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
        outbox, size = self.outbox, len(payload)
        if self.deflate is not None and size >= self._compression_threshold:
            outbox.push(self._compressed(opcode, payload, if_fits))
        elif if_fits and not outbox.fits(size):
            raise trio.WouldBlock
        elif size >= _LARGE and outbox.transport.vectored:
            outbox.push(Header(encode_header(opcode, size)))
            outbox.push(payload)
        else:
            outbox.push(encode_frame(opcode, payload))
        self.count += 1
        return None

    def _compressed(self, opcode: int, payload: bytes, if_fits: bool) -> bytes:
        deflate: Any = self.deflate
        frame = encode_frame(opcode, deflate.deflate(payload), True, True)
        if if_fits and not self.outbox.fits(len(frame)):
            deflate.restart()  # what comes next must not refer to a message that is not sent
            raise trio.WouldBlock
        return frame

    def offer(self, frame: Any) -> bool:
        """Queue a shared frame; False if it would pass the bound."""
        if not self.outbox.fits(len(frame)):
            return False
        self.outbox.push(frame)
        self.count += 1
        self.flush_soon()
        return True

    def push_fragment(self, opcode: int, payload: bytes, final: bool) -> None:
        """Queue one fragment of the streamed message."""
        self.outbox.push_streamed(encode_frame(opcode, payload, final))
        if final:
            self.count += 1
        self.write_now()

    def end_stream(self) -> None:
        """The streamed message is over: what waited follows it."""
        self.outbox.end_stream()
        if not self.outbox.is_empty():
            self.flush_soon()

    def ping(self, payload: bytes) -> None:
        """Queue a ping, which overtakes the messages that wait."""
        self.outbox.push_urgent(Urgent(encode_frame(_PING, payload)))
        self.flush_soon()

    def pong(self, payloads: Sequence[bytes]) -> None:
        """Answer every ping, unless the peer does not read our answers.

        Then only the latest needs one (RFC 6455, section 5.5.3), so a flood of pings is bounded.
        """
        blocked = self.outbox.blocked
        answered = payloads[-1:] if blocked else payloads
        pong = Urgent(b"".join([encode_frame(_PONG, payload) for payload in answered]))
        self.outbox.push_urgent(pong, self._last_pong if blocked else None)
        self._last_pong = pong
        self.flush_soon()

    def write_handshake(self, answer: bytes) -> None:
        """Write the answer to the opening handshake; nothing overtakes it."""
        self.outbox.push_urgent(Urgent(answer))
        self.write()

    # -- writing -----------------------------------------------------------------------------

    def flush_soon(self) -> object:
        """Have the queue written at the end of this turn of Trio's scheduler."""
        if not self._to_flush:
            self._to_flush = True
            if not self._all_to_flush:
                self._host.expect_flush()
            self._all_to_flush.append(self)
        return None

    def flush(self) -> bool:
        """Write what is queued; whether that may concern a task or a deadline."""
        self._to_flush = False
        if self.outbox.is_empty() or self.outbox.blocked:
            return False
        return self.write()

    def write_now(self) -> object:
        """Write what is queued, unless the transport is known to take nothing."""
        if not (self.outbox.is_empty() or self.outbox.blocked):
            self.write()
        return None

    def write(self) -> bool:
        """Write, and act on the outcome; whether that may concern a task or a deadline."""
        outcome = self.outbox.write()
        if outcome == LOST:
            self._closing.lose_writing()
        elif outcome == BLOCKED:
            self._timeouts.write_blocked(self._host.now())
            self.watch()
        elif self.outbox.sealed:
            self._closing.written()
        else:
            return self.outbox.woke
        return True

    def write_close(self) -> object:
        """Write what is queued; the connection may be over with that."""
        self.write_now()
        if self.outbox.is_empty():
            self._closing.written()
        return None

    def writable(self) -> None:
        """The transport takes bytes again."""
        self.outbox.blocked = False
        self._timeouts.write_goes_on()
        self.write()
        if not self.outbox.blocked:
            self.watch()

    def watch(self) -> object:
        """Have the transport tell of what matters now."""
        if not self._closing.ended:
            self.outbox.transport.watch(not self._inbox.paused, self.outbox.blocked)
        return None

    def failed(self) -> None:
        """Something of ours went wrong with this connection."""
        self._closing.abort("the server failed", True)
