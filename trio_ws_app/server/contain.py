"""One handler's bug is one connection's bug (G5), and a goodbye is no bug (G6)."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from types import TracebackType

import trio

from ..connection import Connection
from ..errors import CloseCode, ConnectionClosed
from ..protocol.closing import State
from ..wire.connection import WireConnection

logger = logging.getLogger("trio_ws_app.server")

Handler = Callable[[Connection], Awaitable[object]]


class Contained:
    """``with Contained(connection) as contained: await handler(connection)``; then ``contained.code``.

    An error becomes one ERROR record with its traceback, and 1011. A ``ConnectionClosed`` of this
    connection, alone or in groups, is how handlers learn of a goodbye. Cancellation passes through.
    """

    __slots__ = ("_connection", "code")

    def __init__(self, connection: WireConnection) -> None:
        self._connection = connection
        self.code = CloseCode.GOING_AWAY  # of a handler that was cancelled

    def __enter__(self) -> Contained:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if error is None:
            self.code = CloseCode.NORMAL
            return False
        cancelled, failure = _split(error)
        if not isinstance(failure, Exception | None):
            return False
        if failure is None or _is_goodbye(failure, self._connection):
            self.code = CloseCode.GOING_AWAY if failure is None else CloseCode.NORMAL
        else:
            self._log(failure)
            self.code = CloseCode.INTERNAL_ERROR
        if cancelled is not None and failure is not None:
            raise cancelled from None
        return cancelled is None

    def _log(self, failure: Exception) -> None:
        logger.error(
            "%s: the handler failed, the connection is closed with 1011",
            self._connection.id,
            exc_info=failure,
            extra={"connection": self._connection.id, "remote": self._connection.remote},
        )


def _split(error: BaseException) -> tuple[BaseException | None, BaseException | None]:
    """The cancellation in ``error``, and the rest."""
    if isinstance(error, BaseExceptionGroup):
        return error.split(trio.Cancelled)
    return (error, None) if isinstance(error, trio.Cancelled) else (None, error)


def _is_goodbye(error: BaseException, connection: WireConnection) -> bool:
    if connection.state == State.OPEN:
        return False
    if isinstance(error, BaseExceptionGroup):
        return error.split(ConnectionClosed)[1] is None
    return isinstance(error, ConnectionClosed)
