# cython: annotation_typing=False
"""The closing handshake, the end of the transport, and what ends with them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import trio
from trio.lowlevel import ParkingLot

from ..errors import CloseCode, CloseReason
from ..primitives import encode_frame
from ..protocol.closing import TRANSITIONS, State, Turn, close_payload, close_reply
from ..protocol.frames import Opcode

if TYPE_CHECKING:
    from .inbox import Inbox
    from .outbox import Outbox
    from .pings import Pings
    from .timeouts import Timeouts
    from .transport import Transport

_CLOSE = int(Opcode.CLOSE)
_OPEN, _CLOSE_RECEIVED, _CLOSE_SENT, _GONE = map(int, State)


class Closing:
    """How far a connection is from its end, and what that means for its parts.

    ``state`` moves by the table in ``protocol.closing``. ``reason`` is how the connection ended,
    ``closed_by`` which side was first: "peer", "us" or "network". Scopes are cancelled as soon as the peer
    is gone or this side has closed (G9), and tasks that wait for the end are woken when nothing more will
    be written.

    A Close is queued here and written by the caller, who calls ``written`` afterwards.
    """

    def __init__(
        self,
        transport: Transport,
        outbox: Outbox,
        inbox: Inbox,
        pings: Pings,
        timeouts: Timeouts,
        now: Callable[[], float],
    ) -> None:
        self.state = _OPEN
        self.reason: CloseReason | None = None
        self.closed_by = ""
        self.closed_here = False  # by our own aclose()
        self.peer_closed = False  # its Close has come
        self.ended = False  # nothing more will be written
        self.broken = False  # nothing more can be written, and there may be more to read
        self.gone_at = -1.0  # when the peer had gone; negative until then
        self._transport = transport
        self._outbox = outbox
        self._inbox = inbox
        self._pings = pings
        self._timeouts = timeouts
        self._now = now
        self._scopes: list[trio.CancelScope] | None = None
        self._waiting: ParkingLot | None = None  # made when a task waits for the end

    def _turn(self, turn: Turn, side: str) -> object:
        """Go one step towards the end, of which ``side`` is the cause unless there was one before."""
        self.state = int(TRANSITIONS[self.state, turn])
        self.closed_by = self.closed_by or side
        if self.state > _CLOSE_RECEIVED:
            self._outbox.seal()
        return None

    # -- the closing handshake ---------------------------------------------------------------

    def send_close(self, code: int, reason: str) -> None:
        """Queue our Close if none went before; to the peer's, the reply."""
        if self.state == _OPEN:
            payload = close_payload(code, reason)
            self._turn(Turn.SEND_CLOSE, "us")
            self._queue(payload)
        elif self.state == _CLOSE_RECEIVED:
            self.reply()

    def close_here(self) -> None:
        """This side has closed: nothing more is received or sent by it."""
        self.closed_here = True
        self._outbox.seal()
        self._pings.end()
        self._inbox.clear()
        self._inbox.wake()
        self._cancel_scopes()

    def receive_close(self, close: CloseReason) -> None:
        """The peer's Close has come. If it is the first of the two, ``reply`` follows, or ``delay_reply``."""
        self.peer_closed = True
        self._turn(Turn.RECEIVE_CLOSE, "peer")
        self.peer_is_gone(close)

    def reply(self) -> None:
        """Answer the peer's Close with its own code and reason (RFC 6455, section 5.5.1)."""
        reason: Any = self.reason
        self._turn(Turn.SEND_CLOSE, "us")
        self._queue(close_reply(reason))
        self._inbox.wake()

    def delay_reply(self) -> None:
        """What came before the peer's Close is still to be answered, within ``close_timeout``."""
        self._timeouts.limit_closing(self._now())

    def fail(self, code: int, text: str) -> None:
        """The peer broke the protocol: say which rule, and end (RFC 6455, section 7.1.7)."""
        if self.state <= _CLOSE_RECEIVED:
            self._queue(close_payload(code, text))
        self._turn(Turn.LOSE_PEER, "us")
        self.peer_is_gone(CloseReason(code, text))

    def _queue(self, payload: bytes) -> object:
        """Queue our Close behind what waits; a streamed message can't be completed any more."""
        self._outbox.drop_held()
        self._outbox.push_streamed(encode_frame(_CLOSE, payload))
        self._timeouts.limit_closing(self._now())
        return None

    def written(self) -> None:
        """Nothing is queued: after both Closes the server ends the TCP connection (section 7.1.1)."""
        if self.state != _GONE or self.ended:
            return
        if self._transport.send_eof(self.peer_closed):
            self._timeouts.stop()
        else:
            self._transport.watch(True, False)
            self._timeouts.limit_closing(self._now())
        self._end()

    def give_up(self) -> None:
        """``close_timeout`` is over."""
        if self.ended:
            self._drop(False)  # the peer has both Closes, but does not end its side
        elif self.state == _CLOSE_RECEIVED:
            self.reply()
        else:
            # What is written may still be read, our Close too; what is not would keep its memory.
            self.abort("the peer did not answer our Close", not self._outbox.is_empty())

    # -- the end of the transport ------------------------------------------------------------

    def peer_is_gone(self, reason: CloseReason | None) -> None:
        """The peer has closed or vanished: tell what works for it. Messages may remain to be received.

        ``reason`` None is not known yet.
        """
        if self.gone_at < 0:
            self.gone_at = self._now()
            self._timeouts.peer_is_gone = True
        if self.reason is None:
            self.reason = reason
        self._pings.end()
        self._inbox.wake()
        self._outbox.shared = False
        self._outbox.wake_waiting()
        self._cancel_scopes()

    def lose_writing(self) -> None:
        """Nothing more can be written; what the peer sent before may still be there, and is read next."""
        self.broken = True
        self._timeouts.at(self._now())
        self._outbox.discard()
        self._outbox.seal()

    def lose(self, reason: CloseReason) -> None:
        """The transport is gone."""
        self._lose_peer("network", reason)
        self._drop(False)

    def abort(self, why: str, reset: bool) -> None:
        """End at once: no Close, and nothing that is queued; with ``reset`` nothing that the kernel holds."""
        self._lose_peer("us", CloseReason(CloseCode.ABNORMAL, why))
        self._drop(reset)

    def _lose_peer(self, side: str, reason: CloseReason) -> object:
        if self.state != _GONE:
            self._turn(Turn.LOSE_PEER, side)
            self.peer_is_gone(reason)
        return None

    def _drop(self, abort: bool) -> object:
        self._outbox.discard()
        self._timeouts.stop()
        self._transport.close(abort)
        return self._end()

    def _cancel_scopes(self) -> object:
        scopes, self._scopes = self._scopes or (), None
        for scope in scopes:
            scope.cancel()
        return None

    def _end(self) -> object:
        self.ended = True
        if self._waiting is not None:
            self._waiting.unpark_all()
        return None

    def waiting(self) -> ParkingLot:
        """Tasks that wait until nothing more will be written."""
        if self._waiting is None:
            self._waiting = ParkingLot()
        return self._waiting


class CancelWhenGone:
    """A block in which a scope is cancelled when the peer is gone or this side has closed."""

    def __init__(self, closing: Closing, scope: trio.CancelScope) -> None:
        self._closing = closing
        self._scope = scope

    def __enter__(self) -> None:
        closing = self._closing
        if closing.gone_at >= 0 or closing.closed_here:
            self._scope.cancel()
        elif closing._scopes is None:
            closing._scopes = [self._scope]
        else:
            closing._scopes.append(self._scope)

    def __exit__(self, *_: object) -> None:
        scopes = self._closing._scopes
        if scopes is not None and self._scope in scopes:
            scopes.remove(self._scope)
