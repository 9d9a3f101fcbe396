"""What an error of the user's code means (G5), and which is none (G6)."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from math import inf

import trio

from ..errors import CloseCode, ConnectionClosed
from ..protocol.closing import is_legal_close_code
from ..wire.connection import WireConnection

logger = logging.getLogger("trio_ws_app.server")


def leaves(error: BaseException) -> Iterator[BaseException]:
    """The errors in a group and in the groups within it; an error that is no group, itself."""
    if isinstance(error, BaseExceptionGroup):
        for part in error.exceptions:
            yield from leaves(part)
    else:
        yield error


def interrupt_in(error: BaseException) -> KeyboardInterrupt | SystemExit | None:
    """The KeyboardInterrupt or SystemExit in ``error``: these alone end more than one connection."""
    found = (leaf for leaf in leaves(error) if isinstance(leaf, KeyboardInterrupt | SystemExit))
    return next(found, None)


def is_cancelled(error: BaseException) -> bool:
    """Whether ``error`` is nothing but the cancellation of the task that has caught it."""
    return trio.current_effective_deadline() == -inf and all(
        isinstance(leaf, trio.Cancelled) for leaf in leaves(error)
    )


def close_code_for(error: BaseException, connection: WireConnection) -> int | None:
    """The code to close with after the handler has raised ``error``; None if it was only cancelled.

    A failure becomes one ERROR record with its traceback, and 1011. An error that carries a ``close_code``
    of its own becomes one line, at WARNING, and that code. A ``ConnectionClosed`` of this connection, alone
    or in groups, is no failure but how handlers learn of the peer's Close.
    """
    if is_cancelled(error):
        return None
    failures = [leaf for leaf in leaves(error) if not _is_expected(leaf, connection)]
    if not failures:
        return CloseCode.NORMAL
    codes = [_own_close_code(failure) for failure in failures]
    if None not in codes:
        _log_condition(failures[0], codes[0], connection)
        return codes[0]
    _log_failure(error, connection)
    return CloseCode.INTERNAL_ERROR


def _is_expected(leaf: BaseException, connection: WireConnection) -> bool:
    if isinstance(leaf, ConnectionClosed):
        return leaf.connection is connection
    return isinstance(leaf, trio.Cancelled) and trio.current_effective_deadline() == -inf


def _own_close_code(error: BaseException) -> int | None:
    code = getattr(error, "close_code", None)
    return int(code) if isinstance(code, int) and is_legal_close_code(code) else None


def _log_condition(error: BaseException, code: int | None, connection: WireConnection) -> None:
    logger.warning(
        "%s: the connection is closed with %s: %s",
        connection.id,
        code,
        error,
        extra={"connection": connection.id, "remote": connection.remote},
    )


def _log_failure(error: BaseException, connection: WireConnection) -> None:
    logger.error(
        "%s: the handler failed, the connection is closed with 1011",
        connection.id,
        exc_info=error,
        extra={"connection": connection.id, "remote": connection.remote},
    )
