"""A client that comes back: ``async for connection in reconnect(url)``."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from types import TracebackType
from typing import TypedDict, Unpack

import trio

from ..connection import Connection
from ..errors import CloseCode, CloseReason, ConnectionClosed, HandshakeRefused
from ..protocol.url import parse_url
from ..settings import Settings
from .backoff import Backoff, is_transient
from .carrier import Carrier
from .connect import OpenStream, connect

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


def reconnect(
    url: str,
    *,
    backoff: Backoff | None = None,
    retry: Callable[[Exception], bool] = is_transient,
    **options: Unpack[ConnectOptions],
) -> Reconnecting:
    """Connect again and again: ``async for connection in reconnect(url): ...``

    Each turn of the loop has an open connection, whose block ends with the turn: the next one says goodbye
    when it is still open, waits as ``backoff`` says, and connects. A failed attempt is repeated likewise.
    Both are logged with level INFO. ``options`` are those of ``connect``.

    The loop ends normally when a connection ends with 1000 or without a code. When ``retry(failure)`` is
    false, since waiting will not help, the loop ends with the failure: ``ConnectionClosed``,
    ``HandshakeRefused``, ``OSError`` or ``trio.TooSlowError``.

    A loop that is left early (``break``, an exception) leaves the goodbye to the background. To wait
    for it: ``async with reconnect(url) as connections: async for connection in connections: ...``

    Raises:
        ValueError: the URL makes no sense.
    """
    parse_url(url)
    return Reconnecting(partial(connect, url, **options), backoff or Backoff(), retry, url)


class Reconnecting:
    """An asynchronous iterator of connections, one at a time; ``reconnect`` makes it.

    ``open_connection`` makes the block of one attempt, ``name`` is for the log.
    """

    def __init__(
        self, open_connection: OpenConnection, backoff: Backoff, retry: Callable[[Exception], bool], name: str
    ) -> None:
        self._open_connection = open_connection
        self._backoff = backoff
        self._retry = retry
        self._name = name
        self._failures = 0
        self._carrier: Carrier | None = None
        self._is_over = False

    def __aiter__(self) -> Reconnecting:
        return self

    async def __anext__(self) -> Connection:
        failure = await self._end_of_turn()
        while not self._is_over:
            if failure is not None:
                await self._wait_after(failure)
            try:
                return await self._open()
            except _FAILURES as error:
                failure = self._worth_retrying(error)
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Say goodbye on the connection of the last turn; the loop is over."""
        self._is_over = True
        carrier, self._carrier = self._carrier, None
        if carrier is not None:
            await carrier.end()

    async def __aenter__(self) -> Reconnecting:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __del__(self) -> None:
        carrier: Carrier | None = getattr(self, "_carrier", None)
        if carrier is not None:
            carrier.let_go()

    async def _open(self) -> Connection:
        carrier = Carrier(self._open_connection())
        connection = await carrier.start()
        self._carrier = carrier
        return connection

    async def _end_of_turn(self) -> Exception | None:
        """End the connection of the last turn, if there is one; what ended it, to be retried."""
        carrier, self._carrier = self._carrier, None
        if carrier is None:
            return None
        reason = carrier.connection.close_reason
        if trio.current_time() - carrier.opened_at > self._backoff.limit(self._failures):
            self._failures = 0
        await carrier.end()
        if reason is None:
            return ConnectionClosed(CloseReason(CloseCode.NORMAL, "the turn is over"))
        self._is_over = reason.code in _FINISHED
        return None if self._is_over else self._worth_retrying(ConnectionClosed(reason))

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
    return "no connection in time" if isinstance(error, trio.TooSlowError) else str(error)
