"""A client that comes back: ``async with reconnect(url) as connections``."""

from __future__ import annotations

import logging
import ssl
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import TypedDict, Unpack

import attrs
import trio

from ..concurrency.background import background
from ..connection import Connection
from ..errors import CloseCode, CloseReason, ConnectionClosed, HandshakeRefused, system_error
from ..protocol.url import parse_url, without_secrets
from ..settings import Settings
from .backoff import Backoff, is_transient
from .connect import OpenStream, closing, connect

logger = logging.getLogger("trio_ws_app.client")

OpenConnection = Callable[[], AbstractAsyncContextManager[Connection]]

_FINISHED = (CloseCode.NORMAL, CloseCode.NO_STATUS)
_FAILURES = (OSError, trio.TooSlowError, HandshakeRefused, ConnectionClosed)


class ConnectOptions(TypedDict, total=False):
    """The options of ``connect``."""

    headers: Mapping[str, str] | Iterable[tuple[str, str]]
    subprotocols: Sequence[str]
    ssl_context: ssl.SSLContext | None
    open_stream: OpenStream | None
    settings: Settings | None


@asynccontextmanager
async def reconnect(
    url: str | Callable[[], str],
    *,
    backoff: Backoff | None = None,
    retry: Callable[[Exception], bool] = is_transient,
    **options: Unpack[ConnectOptions],
) -> AsyncIterator[AsyncIterator[Connection]]:
    """Connect again and again, within a block::

        async with reconnect(url) as connections:
            async for connection in connections:
                ...

    Each turn of the loop has an open connection. The next turn closes it if it is still open, waits as
    ``backoff`` says, and connects. A failed attempt is repeated likewise. Both are logged with level INFO.
    ``options`` are those of ``connect``. ``url`` may be a function, which is asked before each attempt: with
    the position of the last message in the query, a server that follows topics sends what was missed.

    The loop ends normally when a connection ends with 1000 or without a code. When ``retry(failure)`` is
    false, since waiting will not help, the loop raises the failure: ``ConnectionClosed``,
    ``HandshakeRefused``, ``OSError`` or ``trio.TooSlowError``.

    The end of the block closes the connection of the last turn, after ``break`` or an exception too: it
    sends a Close frame and waits for the server's up to ``close_timeout``. If the block is cancelled, the
    connection is dropped.

    Raises:
        ValueError: the URL is not valid.
    """
    current_url = url if callable(url) else partial(str, url)
    first_url = current_url()
    parse_url(first_url)

    def open_connection() -> AbstractAsyncContextManager[Connection]:
        return connect(current_url(), **options)

    name = without_secrets(first_url)
    async with connections_in_turn(open_connection, backoff or Backoff(), retry, name) as connections:
        yield connections


@asynccontextmanager
async def connections_in_turn(
    open_connection: OpenConnection, backoff: Backoff, retry: Callable[[Exception], bool], name: str
) -> AsyncIterator[AsyncIterator[Connection]]:
    """``reconnect`` for any block that gives a connection; ``name`` is for the log."""
    async with background() as nursery:
        connections = _Connections(nursery, open_connection, backoff, retry, name)
        async with closing(connections):
            yield connections


@attrs.define(eq=False)
class _Turn:
    """One connection, whose block is held by a task of its own.

    The loop's task could not hold it: the loop may be left, or be in a cancel scope that ends, while the
    connection's nursery is open.
    """

    connection: Connection
    opened_at: float = attrs.field(factory=trio.current_time)
    over: trio.Event = attrs.field(factory=trio.Event)
    closed: trio.Event = attrs.field(factory=trio.Event)

    async def end(self) -> None:
        """Have the connection closed, if it is still open, and wait for that."""
        self.over.set()
        await self.closed.wait()


@attrs.define(eq=False)
class _Connections(AsyncIterator[Connection], trio.abc.AsyncResource):
    """The iterator: one connection at a time."""

    _nursery: trio.Nursery
    _open_connection: OpenConnection
    _backoff: Backoff
    _retry: Callable[[Exception], bool]
    _name: str
    _failures: int = 0
    _turn: _Turn | None = None
    _is_over: bool = False

    async def __anext__(self) -> Connection:
        failure = await self._end_turn()
        while not self._is_over:
            if failure is not None:
                await self._wait_after(failure)
            try:
                self._turn = await self._nursery.start(self._run_turn)
            except _FAILURES as error:
                failure = self._worth_retrying(error)
            else:
                return self._turn.connection
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Close the connection of the last turn; the loop is over."""
        self._is_over = True
        turn, self._turn = self._turn, None
        if turn is not None:
            await turn.end()

    async def _run_turn(self, task_status: trio.TaskStatus[_Turn]) -> None:
        async with self._open_connection() as connection:
            turn = _Turn(connection)
            task_status.started(turn)
            await turn.over.wait()
        turn.closed.set()

    async def _end_turn(self) -> Exception | None:
        """End the connection of the last turn, if there is one; return why it ended, to be retried."""
        turn, self._turn = self._turn, None
        if turn is None:
            return None
        reason = turn.connection.close_reason
        if trio.current_time() - turn.opened_at > self._backoff.limit(self._failures):
            self._failures = 0
        await turn.end()
        if reason is None:
            return ConnectionClosed(CloseReason(CloseCode.NORMAL, "the turn is over"), turn.connection)
        self._is_over = reason.code in _FINISHED
        return None if self._is_over else self._worth_retrying(ConnectionClosed(reason, turn.connection))

    def _worth_retrying(self, error: Exception) -> Exception:
        if not self._retry(error):
            self._is_over = True
            raise error
        return error

    async def _wait_after(self, failure: Exception) -> None:
        delay = self._backoff.delay(self._failures, failure)
        self._failures += 1
        logger.info("%s: %s; the next attempt is in %.1f s", self._name, _text(failure), delay)
        await trio.sleep(delay)


def _text(error: Exception) -> str:
    if isinstance(error, trio.TooSlowError):
        return "no connection in time"
    return system_error(error) if isinstance(error, OSError) else str(error)
