"""Who waits for what happens to a connection without a task that waits."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context, copy_context
from types import TracebackType
from typing import TYPE_CHECKING

import trio
from trio.lowlevel import Abort, RaiseCancelT, Task, current_task, wait_task_rescheduled

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


class Rest:
    """Told to a task that waits for a message: there has been none for a while, so it is to end."""


class Demand:
    """Calls ``start`` once there is something to receive, in the context of whoever has made this.

    Nobody else may receive meanwhile; whoever makes this has asked ``check_free``. What ``start`` has
    started receives from then on, and waits with ``wait_message``. When nothing has come for a second
    that tells it to ``Rest``; from the same moment on this waits again, to call ``start`` in its context.
    """

    __slots__ = ("_connection", "_context", "_idle", "_start", "_waits")

    def __init__(self, connection: WireConnection, start: Callable[[], object]) -> None:
        self._connection = connection
        self._start: Callable[[], object] | None = start
        self._idle: Task | None = None  # waits for a message, or was just woken
        self._wait(copy_context())

    def _wait(self, context: Context) -> None:
        self._context: Context | None = context
        self._waits = True
        self._connection.wait_here(self._woken)
        if self._connection.inbox:
            self._woken()

    @property
    def met(self) -> bool:
        """Whether what ``start`` has started is there, and was not told to rest."""
        return self._context is None

    def _woken(self) -> None:
        """The inbox or the state has changed."""
        self._wait_no_more()
        if self._connection.inbox:
            self.begin()

    def begin(self) -> None:
        """Call ``start`` now, if it is still to be called."""
        self._wait_no_more()
        if self._context is not None and self._start is not None:
            context, self._context = self._context, None
            engine = self._connection.engine
            engine.resting.start(self, engine.now())
            context.run(self._start)

    async def wait_message(self) -> RaiseCancelT | Rest | None:
        """Return None when ``take`` has a message, or what raises the cancellation that came meanwhile.

        Whoever gets that has to end, and to see to it that somebody calls it. For a task that has nothing
        else to do it spares the exception: these take most of the time where thousands are cancelled.
        """
        connection = self._connection
        if connection.inbox:
            await connection.breathe()
        while not connection.inbox:
            task = current_task()
            if connection.wait_inbox(task):
                self._idle = task
                told: RaiseCancelT | Rest | None = await wait_task_rescheduled(self._dismiss)
                self._idle = None
                if told is not None:
                    return told
        return None

    def _dismiss(self, raise_cancel: RaiseCancelT) -> Abort:
        self._connection.dismiss(raise_cancel)
        return Abort.FAILED  # for Trio, which has nothing left to do

    def too_slow(self, now: float) -> None:
        """A second is over."""
        task, connection = self._idle, self._connection
        if task is None or not connection.waits(task) or connection.last_seen > now - RESTS_AFTER:
            connection.engine.resting.start(self, now)
        else:
            connection.dismiss(Rest())
            self._wait(task.context.copy())

    def end(self) -> None:
        """From here on nothing is started, and nobody told to rest."""
        self._start = None
        self._connection.engine.resting.stop(self)
        self._wait_no_more()

    def _wait_no_more(self) -> None:
        if self._waits:  # else somebody else may wait there by now
            self._waits = False
            self._connection.wait_here(None)
