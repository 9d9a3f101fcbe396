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


async def run_contained(handler: Handler, connection: WireConnection) -> CloseCode:
    """Run the handler; return the close code that its end deserves.

    An error becomes one ERROR record with its traceback, and 1011. A ``ConnectionClosed`` of this
    connection, alone or in groups, is how handlers learn of a goodbye. Cancellation passes through.
    """
    try:
        await handler(connection)
    except BaseException as error:
        cancelled, failure = _split(error)
        if not isinstance(failure, Exception | None):
            raise
        if failure is not None and not _is_goodbye(failure, connection):
            logger.error(
                "%s: the handler failed, the connection is closed with 1011",
                connection.id,
                exc_info=failure,
                extra={"connection": connection.id, "remote": connection.remote},
            )
            if cancelled is None:
                return CloseCode.INTERNAL_ERROR
        if cancelled is not None:
            raise cancelled from None
    return CloseCode.NORMAL


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
