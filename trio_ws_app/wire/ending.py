"""How a link ends: goodbyes in both directions, a lost peer, an abort; and who is told.

Plain Python that Cython also compiles: the C types are in ``ending.pxd``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cython
import trio
from trio.lowlevel import Task, reschedule

from ..errors import CloseCode, CloseReason
from ..protocol.closing import TRANSITIONS, State, Turn, close_payload
from ..protocol.decoder import Close
from ..protocol.errors import ProtocolError
from ..protocol.frames import Opcode, encode_frame
from .outgoing import Outgoing

if TYPE_CHECKING:
    from ..protocol.deflate import PerMessageDeflate
    from ..settings import Settings
    from .engine import Engine
    from .transport import Transport

_OPEN = int(State.OPEN)
_GONE = int(State.GONE)


class Ending(Outgoing):
    """The closing handshake, and what happens where there is none."""

    def __init__(
        self,
        engine: Engine,
        transport: Transport,
        settings: Settings,
        deflate: PerMessageDeflate | None,
    ) -> None:
        super().__init__(engine, transport, settings, deflate)
        self.closed_by = ""  # "peer", "us" or "network"
        self.gone_at = -1.0  # Trio's clock; negative until then
        self._is_gone = False
        self._heard_close = False
        self._closing_since = -1.0
        self._gone_scopes: list[trio.CancelScope] | None = None
        self._end_waiters: list[Task] | None = None

    # -- what the other halves of a link do --------------------------------------------------

    def _wake_receiver(self) -> object:
        """The inbox or the state has changed."""

    def _forget_inbox(self) -> object:
        """Nobody will receive any more."""

    def _forget_pings(self) -> object:
        """No pong will come any more."""

    def _stop_timer(self) -> object:
        """No deadline matters any more."""

    # -- goodbyes ----------------------------------------------------------------------------

    def say_close(self, code: int, reason: str = "", closed_here: bool = False) -> None:
        """Queue our Close if none went before; with ``closed_here`` the owner receives nothing more."""
        payload = close_payload(code, reason)
        if self.state == _OPEN:
            self.state = int(TRANSITIONS[self.state, Turn.SEND_CLOSE])
            self.closed_by = "us"
            self._close_reason = None
            self._queue_close(payload)
            self._limit_closing()
        if closed_here and not self.closed_here:
            self.closed_here = True
            self._forget_inbox()
            self._tell_gone()
            self._wake_receiver()
        self._wake_room()
        self.flush()

    def _queue_close(self, payload: bytes) -> object:
        """Queue our Close; whoever does it flushes."""
        frame = encode_frame(Opcode.CLOSE, payload)
        self.queued += len(frame)
        if self._held is not None:  # the streamed message can't be completed any more
            for held in self._held:
                self.queued -= len(held)
            self._held = []
        self._chunks.append(frame)
        self._closing_since = self.engine.now()
        return None

    def _limit_closing(self) -> object:
        """The rest of the goodbye must not take longer than ``close_timeout``."""
        if self.settings.close_timeout is not None:
            self._check_at(self._closing_since + self.settings.close_timeout)
        return None

    def _take_close(self, close: Close) -> object:
        self._heard_close = True
        if self.state == _OPEN:
            self.closed_by = "peer"
            self._queue_close(b"" if close.code == CloseCode.NO_STATUS else close.code.to_bytes(2, "big"))
        self._turn_gone(Turn.RECEIVE_CLOSE, CloseReason(close.code, close.reason))
        self.transport.finish_soon()
        self.flush()
        if not self._chunks:
            self._end()
        if not self.ended:  # mostly it has, and never needs the time
            self._limit_closing()
        return None

    def _fail(self, error: ProtocolError) -> object:
        """The peer broke the protocol: say which rule, and end (RFC 6455, section 7.1.7)."""
        self.closed_by = self.closed_by or "us"
        reason = CloseReason(error.code, str(error))
        if self.state == _OPEN:
            self._queue_close(close_payload(error.code, str(error)))
            self._limit_closing()
        self._turn_gone(Turn.LOSE_PEER, reason)
        self.flush()
        if not self._chunks:
            self._end()
        return None

    # -- without a goodbye -------------------------------------------------------------------

    def _lose(self, why: str) -> object:
        """The transport is gone, or given up."""
        if self.ended and self.state == _GONE:
            self._drop_transport(False)
            return None
        if not self._is_gone or self.state != _GONE:
            self.closed_by = self.closed_by or "network"
            self._turn_gone(Turn.LOSE_PEER, CloseReason(CloseCode.ABNORMAL, why))
        self._drop_transport(False)
        return None

    def abort(self, why: str) -> None:
        """End at once: no goodbye, and nothing that is queued."""
        if self.state != _GONE:
            self.closed_by = self.closed_by or "us"
            self._turn_gone(Turn.LOSE_PEER, CloseReason(CloseCode.ABNORMAL, why))
        self._drop_transport(True)

    def failed(self) -> None:
        """Something of ours went wrong with this connection."""
        self.abort("the server failed")

    # -- the end of the transport ------------------------------------------------------------

    def _end(self) -> object:
        """Both goodbyes are said and written: the server ends the TCP connection (section 7.1.1)."""
        if self.ended:
            return None
        self.ended = True
        self._paused = False
        if self.transport.finish(self._heard_close):
            self._stop_timer()
        else:
            self.transport.watch(True, False)
            self._limit_closing()
        self._wake_ended()
        return None

    def _drop_transport(self, abort: cython.bint) -> object:
        self.ended = True
        self._discard_queue()
        self._stop_timer()
        self.transport.close(abort)
        self._wake_ended()
        self._wake_room()
        self.blocked = False
        self._drained()  # a synchronous consumer that waited for room finishes what has arrived
        return None

    def _wake_ended(self) -> object:
        tasks = self._end_waiters
        self._end_waiters = None
        if tasks is not None:
            for task in tasks:
                reschedule(task)
        return None

    def wait_ended(self, task: Task) -> None:
        """``task`` is rescheduled when nothing more will be written."""
        if self._end_waiters is None:
            self._end_waiters = []
        self._end_waiters.append(task)

    def leave_ended(self, task: Task) -> None:
        """``task`` no longer waits."""
        if self._end_waiters is not None and task in self._end_waiters:
            self._end_waiters.remove(task)

    # -- who is told that the peer is gone ---------------------------------------------------

    def _turn_gone(self, turn: Any, reason: CloseReason) -> object:
        self.state = int(TRANSITIONS[self.state, turn])
        if self._close_reason is None:
            self._close_reason = reason
        self._tell_gone()
        self._wake_receiver()
        self._wake_room()
        return None

    def _tell_gone(self) -> object:
        """Cancel what works for the peer (G9); what waits for messages finds out by itself."""
        if self.state == _GONE and not self._is_gone:
            self._is_gone = True
            self.gone_at = self.engine.now()
        scopes = self._gone_scopes
        self._gone_scopes = None
        if scopes is not None:
            for scope in scopes:
                scope.cancel()
        self._forget_pings()
        return None

    @property
    def is_gone(self) -> bool:
        """The peer has said goodbye or vanished, or this side has closed."""
        return bool(self._is_gone or self.closed_here)

    def add_gone_scope(self, scope: trio.CancelScope) -> None:
        """``scope`` is cancelled when the peer is gone."""
        if self._is_gone or self.closed_here:
            scope.cancel()
            return
        if self._gone_scopes is None:
            self._gone_scopes = []
        self._gone_scopes.append(scope)

    def remove_gone_scope(self, scope: trio.CancelScope) -> None:
        """``scope`` has ended."""
        if self._gone_scopes is not None and scope in self._gone_scopes:
            self._gone_scopes.remove(scope)
