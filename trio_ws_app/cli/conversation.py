"""A run of ``connect``: lines become messages and messages lines, over one connection or several."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

import attrs
import trio

from ..client.connect import connect
from ..client.reconnect import ConnectOptions, reconnect
from ..connection import Connection, Message
from ..duplex import Side, duplex
from ..errors import CloseCode, ConnectionClosed, HandshakeRefused, UsageError
from ..observability.escaping import escaped
from ..protocol.url import without_secrets
from .errors import FAILED, PROGRAM
from .explain import why_not_connected
from .lines import InputLines, OutputLines
from .terminal import Terminal

logger = logging.getLogger("trio_ws_app.client")

_SIGNALLED = 128
_NORMAL_CODES = (CloseCode.NORMAL, CloseCode.GOING_AWAY, CloseCode.NO_STATUS)
_NO_CONNECTION = (OSError, trio.TooSlowError, HandshakeRefused, ConnectionClosed)


@attrs.define
class Conversation:
    """Sends lines and shows messages; over several connections if one breaks off.

    ``silence`` is how many seconds without a message end the waiting for answers after the last line.
    """

    source: InputLines | trio.MemoryReceiveChannel[str]
    display: OutputLines | Terminal
    silence: float
    _line: str | None = attrs.field(default=None, init=False)  # that is not sent yet
    _waiting: trio.CancelScope = attrs.field(factory=trio.CancelScope, init=False)

    async def run(self, connection: Connection) -> bool:
        """Talk until the input is over, or the connection is; True if it was the input."""
        how = await duplex(connection, consume=self._show, produce=self._messages(connection))
        return how.first is Side.PRODUCER

    def has_rest(self) -> bool:
        """Whether a pipe has something now that was not sent; at a terminal a person sees that."""
        return isinstance(self.source, InputLines) and (self._line is not None or self.source.has_rest())

    async def _messages(self, connection: Connection) -> AsyncIterator[str]:
        while (line := await self._current()) is not None:
            yield line
            self._line = None  # it was sent; otherwise the next connection gets it
        await self._wait_for_answers(connection)

    async def _current(self) -> str | None:
        """The line that is not sent yet, else the next one; None at the end."""
        if self._line is None:
            self._line = await anext(self.source, None)
        return self._line

    async def _wait_for_answers(self, connection: Connection) -> None:
        """Wait for the round trip of a ping, which no answer can beat, then for silence."""
        with suppress(ConnectionClosed):
            await connection.ping()
        with trio.move_on_after(self.silence) as self._waiting:
            await trio.sleep_forever()

    async def _show(self, message: Message) -> None:
        await self.display.write(message if isinstance(message, str) else f"binary {message.hex()}")
        self._waiting.deadline = trio.current_time() + self.silence


@attrs.define
class Session:
    """One run of the command."""

    url: str
    options: ConnectOptions
    conversation: Conversation
    keep_on: bool
    _open: trio.CancelScope | None = attrs.field(default=None, init=False)
    _last_words: str = attrs.field(default="", init=False)
    _status: int = attrs.field(default=0, init=False)

    async def run(self) -> int:
        """Talk to the server until the input, the server or a signal ends it; return the exit status."""
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._handle_signals, signals, nursery.cancel_scope)
                if isinstance(self.conversation.display, Terminal):
                    nursery.start_soon(self.conversation.display.run)
                notices = _Notices(lambda text: nursery.start_soon(self._notice, text))
                logger.addHandler(notices)
                logger.setLevel(logging.INFO)
                try:
                    await self._connect()
                finally:
                    logger.removeHandler(notices)  # the nursery takes none any more
                nursery.cancel_scope.cancel()
        if self._last_words:
            await self._notice(self._last_words)
        return self._status

    async def _handle_signals(self, signals: AsyncIterator[int], everything: trio.CancelScope) -> None:
        """At the first signal close the connection, if there is one; at the second end at once."""
        self._status = _SIGNALLED + await anext(signals)
        if self._open is not None:
            self._open.cancel()
            await anext(signals)
        everything.cancel()

    async def _notice(self, text: str) -> None:
        await self.conversation.display.notice(f"{PROGRAM}: {escaped(' '.join(text.split()))}")

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
        self._closed(connection, by_us)

    async def _come_back(self) -> None:
        async with reconnect(self.url, **self.options) as connections:
            async for connection in connections:
                by_us = await self._converse(connection)
                if by_us or self._status:  # a signal may come while the connection ends by itself
                    break
        self._closed(connection, by_us)

    async def _converse(self, connection: Connection) -> bool:
        """True if this side has ended it."""
        if isinstance(self.conversation.display, Terminal):
            await self._notice(f"connected to {without_secrets(self.url)}; Ctrl-D closes the connection")
        try:
            with trio.CancelScope() as self._open:
                return await self.conversation.run(connection)
        except OSError as problem:  # of our output
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            if not isinstance(problem, BrokenPipeError):  # its reader is gone
                self._end(f"cannot write the output: {problem.strerror}", FAILED)
        finally:
            self._open = None
        return True

    def _closed(self, connection: Connection, by_us: bool) -> None:
        reason = connection.close_reason
        unsent = not by_us and self.conversation.has_rest()
        good = reason is not None and reason.code in _NORMAL_CODES and not unsent
        how = f"closed{'' if by_us else ' by the server'}: {reason}"
        self._end(f"{how}; there was more to send" if unsent else how, 0 if good else FAILED)

    def _end(self, text: str, status: int) -> None:
        self._last_words = self._last_words or text
        self._status = self._status or status


class _Notices(logging.Handler):
    """Hands on what ``reconnect`` logs."""

    def __init__(self, show: Callable[[str], object]) -> None:
        super().__init__()
        self._show = show

    def emit(self, record: logging.LogRecord) -> None:
        self._show(record.getMessage())
