"""One handler's bug is one connection's bug (G5), and a goodbye is no bug (G6)."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import trio

from ..connection import Connection
from ..errors import CloseCode, ConnectionClosed
from ..protocol.closing import State
from ..wire.connection import WireConnection

logger = logging.getLogger("trio_ws_app.server")

Handler = Callable[[Connection], Awaitable[object]]


def code_after(error: BaseException, connection: WireConnection) -> CloseCode | None:
    """The code to close with when the handler has raised ``error``; None when it was cancelled.

    A bug becomes one ERROR record with its traceback, and 1011. A ``ConnectionClosed`` of this
    connection, alone or in groups, is how handlers learn of a goodbye. What is neither an Exception nor a
    cancellation is raised again.
    """
    cancelled, failure = _split(error)
    if not isinstance(failure, Exception | None):
        raise error
    code = CloseCode.NORMAL
    if failure is not None and not _is_goodbye(failure, connection):
        _log(failure, connection)
        code = CloseCode.INTERNAL_ERROR
    return code if cancelled is None else None


def _log(failure: Exception, connection: WireConnection) -> None:
    logger.error(
        "%s: the handler failed, the connection is closed with 1011",
        connection.id,
        exc_info=failure,
        extra={"connection": connection.id, "remote": connection.remote},
    )


def _split(error: BaseException) -> tuple[BaseException | None, BaseException | None]:
    """The cancellation in ``error``, and the rest."""
    if isinstance(error, BaseExceptionGroup):
        return error.split(trio.Cancelled)
    return (error, None) if isinstance(error, trio.Cancelled) else (None, error)


def _is_goodbye(error: BaseException, connection: WireConnection) -> bool:
    if connection.closing.state == State.OPEN:
        return False
    if isinstance(error, BaseExceptionGroup):
        return error.split(ConnectionClosed)[1] is None
    return isinstance(error, ConnectionClosed)
