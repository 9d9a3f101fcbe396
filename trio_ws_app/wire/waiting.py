"""Who waits for what happens to a connection without a task that waits."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING

import trio

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
    """Calls ``call`` once there is something to receive, in the context of whoever has made this.

    Nobody else may receive meanwhile; whoever makes this has asked ``check_free``.
    """

    __slots__ = ("_connection", "_start", "_waits")

    def __init__(self, connection: WireConnection, call: Callable[[], object]) -> None:
        self._connection = connection
        self._start: Callable[[], object] | None = partial(copy_context().run, call)
        self._waits = True
        connection.wait_here(self._woken)
        if connection.inbox:
            self._woken()

    @property
    def came(self) -> bool:
        """Whether there was something, and ``call`` was called."""
        return self._start is None

    def _woken(self) -> None:
        """The inbox or the state has changed."""
        self.end()
        if self._connection.inbox and self._start is not None:
            start, self._start = self._start, None  # from now on it would only take room
            start()

    def end(self) -> None:
        """From here on nothing is called."""
        if self._waits:  # else somebody else may wait there by now
            self._waits = False
            self._connection.wait_here(None)
