"""One run of ``connect``: connect, converse, come back, and say how it ended."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager

import attrs
import trio

from ..client.connect import connect
from ..client.reconnect import ConnectOptions, reconnect
from ..connection import Connection
from ..errors import CloseCode, CloseReason, ConnectionClosed, HandshakeRefused, UsageError
from ..observability.escaping import escaped
from ..protocol.url import without_secrets
from .conversation import Conversation
from .errors import FAILED, PROGRAM
from .explain import why_not_connected
from .terminal import Terminal

_SIGNALLED = 128
_NORMAL_CODES = (CloseCode.NORMAL, CloseCode.GOING_AWAY, CloseCode.NO_STATUS)
_NO_CONNECTION = (OSError, trio.TooSlowError, HandshakeRefused, ConnectionClosed)


@attrs.define
class Session:
    """One run of the command."""

    url: str
    options: ConnectOptions
    conversation: Conversation
    keep_on: bool
    terminal: Terminal | None
    _everything: trio.CancelScope = attrs.field(factory=trio.CancelScope, init=False)
    _open: trio.CancelScope | None = attrs.field(default=None, init=False)
    _last_words: str = attrs.field(default="", init=False)
    _status: int = attrs.field(default=0, init=False)

    async def run(self) -> int:
        """Talk to the server until the input, the server or a signal ends it; return the exit status."""
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._handle_signals, signals)
                if self.terminal is not None:
                    nursery.start_soon(self.terminal.run)
                with self._everything, self._showing_notices(nursery):
                    await self._connect()
                nursery.cancel_scope.cancel()
        if self._last_words:
            await self.conversation.display.notice(self._last_words)
        return self._status

    async def _handle_signals(self, signals: AsyncIterator[int]) -> None:
        """At the first signal close the connection, if there is one; at the second end at once."""
        self._status = _SIGNALLED + await anext(signals)
        if self._open is not None:
            self._open.cancel()
            await anext(signals)
        self._everything.cancel()

    @contextmanager
    def _showing_notices(self, nursery: trio.Nursery) -> Iterator[None]:
        """Show what ``reconnect`` logs."""
        handler = _Notices(lambda text: nursery.start_soon(self._notice, text))
        logger = logging.getLogger("trio_ws_app.client")
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        try:
            yield
        finally:
            logger.removeHandler(handler)

    async def _notice(self, text: str) -> None:
        await self.conversation.display.notice(_one_line(text))

    async def _connect(self) -> None:
        try:
            await (self._come_back() if self.keep_on else self._once())
        except _NO_CONNECTION as problem:  # before ValueError, which a certificate's failure also is
            self._end(why_not_connected(problem, self.url), FAILED)
        except ValueError as problem:
            raise UsageError(str(problem)) from None

    async def _once(self) -> None:
        async with connect(self.url, **self.options) as connection:
            by_us = await self._converse(connection)
        self._closed(connection.close_reason, by_us)

    async def _come_back(self) -> None:
        reason, by_us = None, False
        async with reconnect(self.url, **self.options) as connections:
            async for connection in connections:
                by_us = await self._converse(connection)
                if by_us:
                    break
                reason = connection.close_reason
        self._closed(connection.close_reason if by_us else reason, by_us)

    async def _converse(self, connection: Connection) -> bool:
        """True if this side has ended it."""
        if self.terminal is not None:
            await self._notice(f"connected to {without_secrets(self.url)}; Ctrl-D closes the connection")
        try:
            with trio.CancelScope() as self._open:
                return await self.conversation.run(connection)
        except BrokenPipeError:  # the reader of our output is gone
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        finally:
            self._open = None
        return True

    def _closed(self, reason: CloseReason | None, by_us: bool) -> None:
        unsent = not by_us and self.conversation.source.has_rest()
        good = reason is not None and reason.code in _NORMAL_CODES and not unsent
        how = f"closed{'' if by_us else ' by the server'}: {reason}"
        self._end(f"{how}; there was more to send" if unsent else how, 0 if good else FAILED)

    def _end(self, text: str, status: int) -> None:
        self._last_words = _one_line(text)
        self._status = self._status or status


def _one_line(text: str) -> str:
    return f"{PROGRAM}: {escaped(' '.join(text.split()))}"


@attrs.define(eq=False)
class _Notices(logging.Handler):
    """Hands on what is logged."""

    show: Callable[[str], object]

    def __attrs_pre_init__(self) -> None:
        super().__init__()

    def emit(self, record: logging.LogRecord) -> None:
        self.show(record.getMessage())
