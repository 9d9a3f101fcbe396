"""What an error of the user's code means (G5), and which is none (G6)."""

from __future__ import annotations

import logging
from math import inf

import trio

from ..asgi.application import ClientDisconnected
from ..callbacks import leaves
from ..errors import CloseCode, ConnectionClosed
from ..protocol.closing import is_legal_close_code
from ..request import Response
from ..wire.connection import WireConnection
from .masking import masked

logger = logging.getLogger("trio_ws_app.server")

BROKEN = Response(500, "internal server error\n")  # what a request gets for an error of the user's code
STOPPING = Response(503, "the server stops\n", {"Retry-After": "1"})

# What Starlette raises, and with it FastAPI, for a client that is gone. They have no base class in common.
_OF_STARLETTE = frozenset({"ClientDisconnect", "WebSocketDisconnect"})


def is_cancelled(error: BaseException) -> bool:
    """Whether ``error`` is nothing but the cancellation of the task that has caught it."""
    return trio.current_effective_deadline() == -inf and all(
        isinstance(leaf, trio.Cancelled) for leaf in leaves(error)
    )


def close_code_for(error: BaseException, connection: WireConnection) -> int:
    """The code to close with after the handler has raised ``error``, which is no cancellation alone.

    A failure becomes one ERROR record with its traceback, and 1011. An error that carries a ``close_code``
    of its own becomes one line, at WARNING, and that code. A ``ConnectionClosed`` of this connection, alone
    or in groups, is no failure but how handlers learn of the peer's Close.
    """
    failures = [leaf for leaf in leaves(error) if not _is_expected(leaf, connection)]
    if not failures:
        return CloseCode.NORMAL
    path = masked(connection.request.target)
    fields = {"connection": connection.id, "remote": connection.remote, "path": path}
    conditions = [condition for failure in failures if (condition := _own_condition(failure)) is not None]
    if len(conditions) < len(failures):
        message = "%s: the handler failed, the connection is closed with 1011"
        logger.error(message, connection.id, exc_info=error, extra=fields)
        return CloseCode.INTERNAL_ERROR
    code, text = conditions[0]
    logger.warning("%s: the connection is closed with %s: %s", connection.id, code, text, extra=fields)
    return code


def says_client_is_gone(error: BaseException) -> bool:
    """Whether ``error`` is how an ASGI application, or its framework, learns that the client is gone."""
    return isinstance(error, ClientDisconnected) or type(error).__name__ in _OF_STARLETTE


def _is_expected(leaf: BaseException, connection: WireConnection) -> bool:
    if says_client_is_gone(leaf):
        return connection.closing.gone_at >= 0 or connection.closing.closed_by != ""
    if isinstance(leaf, ConnectionClosed):
        return leaf.connection is connection
    return isinstance(leaf, trio.Cancelled) and trio.current_effective_deadline() == -inf


def _own_condition(error: BaseException) -> tuple[int, str] | None:
    """The close code and the text of an error that carries a code; None for any other.

    Both are read by code of the user's, so what that raises makes it an error like any other.
    """
    try:
        code = getattr(error, "close_code", None)
        return (int(code), str(error)) if isinstance(code, int) and is_legal_close_code(code) else None
    except BaseException:
        return None
