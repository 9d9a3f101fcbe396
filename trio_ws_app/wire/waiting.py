"""Who waits for what happens to a connection without a task that waits."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context, copy_context
from types import TracebackType
from typing import TYPE_CHECKING

import trio

from .engine import RESTS_AFTER
from .link import Link

if TYPE_CHECKING:
    from .connection import WireConnection


class CancelWhenGone:
    """See ``Connection.cancel_when_gone``."""

    __slots__ = ("_connection", "_scope")

    def __init__(self, connection: Link, scope: trio.CancelScope) -> None:
        self._connection = connection
        self._scope = scope

    def __enter__(self) -> None:
        self._connection.add_gone_scope(self._scope)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.remove_gone_scope(self._scope)


class Demand:
    """Calls ``start`` once there is something to receive, in the context of whoever has made this.

    Nobody else may receive meanwhile; whoever makes this has asked ``check_free``. What ``start`` has
    started receives from then on. When nothing has come for a second ``wait_message`` tells it to rest:
    it asks ``rest``, ends, and is started again with the next message, in the context that it had.
    """

    __slots__ = ("_connection", "_context", "_start", "_waits")

    def __init__(self, connection: WireConnection, start: Callable[[], object]) -> None:
        self._connection = connection
        self._start: Callable[[], object] | None = start
        self._wait()

    def _wait(self) -> None:
        self._context: Context | None = copy_context()
        self._waits = True
        self._connection.wait_here(self._woken)
        if self._connection.inbox:
            self._woken()

    @property
    def met(self) -> bool:
        """Whether what ``start`` has started is there."""
        return self._context is None

    def _woken(self) -> None:
        """The inbox or the state has changed."""
        self._wait_no_more()
        if self._connection.inbox and self._context is not None and self._start is not None:
            context, self._context = self._context, None
            engine = self._connection.engine
            engine.resting.start(self, engine.now())
            context.run(self._start)

    def too_slow(self, now: float) -> None:
        """A second is over."""
        if not self._connection.let_rest(now - RESTS_AFTER):
            self._connection.engine.resting.start(self, now)

    def rest(self) -> bool:
        """What was started has nothing to do; whether it is to end, since it would be started again."""
        if self._start is None:
            return False
        self._wait()
        return True

    def end(self) -> None:
        """From here on nothing is started, and nobody told to rest."""
        self._start = None
        if self.met:
            self._connection.engine.resting.stop(self)
        self._wait_no_more()

    def _wait_no_more(self) -> None:
        if self._waits:  # else somebody else may wait there by now
            self._waits = False
            self._connection.wait_here(None)
