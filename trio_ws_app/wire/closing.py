# cython: annotation_typing=False
"""How far a connection is from its end, and what is told of it."""

from __future__ import annotations

from types import TracebackType

import trio
from trio.lowlevel import Task, reschedule

from ..errors import CloseReason
from ..protocol.closing import TRANSITIONS, State, Turn

_OPEN = int(State.OPEN)
_CLOSE_RECEIVED = int(State.CLOSE_RECEIVED)


class Closing:
    """The state of the closing handshake, and what ends with it.

    ``state`` moves by the table in ``protocol.closing``. ``reason`` is how the connection ended,
    ``closed_by`` which side was first: "peer", "us" or "network". Scopes are cancelled as soon as the peer
    is gone or this side has closed (G9), and tasks that wait for the end are woken when nothing more will
    be written.
    """

    def __init__(self) -> None:
        self.state = _OPEN
        self.reason: CloseReason | None = None
        self.closed_by = ""
        self.closed_here = False  # by our own aclose()
        self.peer_closed = False  # its Close has come
        self.ended = False  # nothing more will be written
        self.broken = False  # nothing more can be written, and there may be more to read
        self.since = -1.0  # when our Close was queued; negative until then
        self.gone_at = -1.0  # when the peer had gone; negative until then
        self._scopes: list[trio.CancelScope] | None = None
        self._waiting: list[Task] | None = None

    def can_send(self) -> bool:
        """Whether a message may still be sent."""
        return self.state <= _CLOSE_RECEIVED and not (self.closed_here or self.broken)

    def is_over_for_producers(self) -> bool:
        """Whether the peer is gone, or this side has closed."""
        return self.gone_at >= 0 or self.closed_here

    def turn(self, turn: Turn) -> None:
        """Go one step towards the end."""
        self.state = int(TRANSITIONS[self.state, turn])

    def blame(self, side: str) -> None:
        """``side`` has ended the connection, unless the other was first."""
        self.closed_by = self.closed_by or side

    def peer_is_gone(self, now: float, reason: CloseReason | None) -> None:
        """The peer has closed or vanished: cancel what works for it. ``reason`` None is not known yet."""
        if self.gone_at < 0:
            self.gone_at = now
        if self.reason is None:
            self.reason = reason
        self._cancel_scopes()

    def close_here(self) -> None:
        """This side has closed: nothing more is received or sent by it."""
        self.closed_here = True
        self._cancel_scopes()

    # -- scopes that end with the peer -------------------------------------------------------

    def add_scope(self, scope: trio.CancelScope) -> None:
        """``scope`` is cancelled when the peer is gone, or at once if it is."""
        if self.is_over_for_producers():
            scope.cancel()
        elif self._scopes is None:
            self._scopes = [scope]
        else:
            self._scopes.append(scope)

    def remove_scope(self, scope: trio.CancelScope) -> None:
        """``scope`` has ended."""
        if self._scopes is not None and scope in self._scopes:
            self._scopes.remove(scope)

    def _cancel_scopes(self) -> object:
        scopes = self._scopes
        self._scopes = None
        if scopes is not None:
            for scope in scopes:
                scope.cancel()
        return None

    # -- tasks that wait for the end of the transport ----------------------------------------

    def end(self) -> None:
        """Nothing more will be written."""
        self.ended = True
        tasks = self._waiting
        self._waiting = None
        if tasks is not None:
            for task in tasks:
                reschedule(task)

    def wait(self, task: Task) -> None:
        """``task`` is rescheduled when nothing more will be written."""
        if self._waiting is None:
            self._waiting = []
        self._waiting.append(task)

    def leave(self, task: Task) -> None:
        """``task`` no longer waits."""
        if self._waiting is not None and task in self._waiting:
            self._waiting.remove(task)


class CancelWhenGone:
    """A block in which a scope is cancelled as soon as the peer is gone."""

    __slots__ = ("_closing", "_scope")

    def __init__(self, closing: Closing, scope: trio.CancelScope) -> None:
        self._closing = closing
        self._scope = scope

    def __enter__(self) -> None:
        self._closing.add_scope(self._scope)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.remove_scope(self._scope)
