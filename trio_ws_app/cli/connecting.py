"""``trio-ws-app connect``: connect, converse at a terminal or through a pipe, come back, say how it ended."""

from __future__ import annotations

import logging
import os
import signal
import ssl
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from math import inf

import attrs
import trio

from ..client.connect import connect as open_connection
from ..client.reconnect import ConnectOptions, reconnect
from ..connection import Connection
from ..errors import CloseCode, ConnectionClosed, HandshakeRefused, UsageError
from ..observability.escaping import escaped
from ..protocol.url import without_secrets
from ..settings import Settings
from .conversation import Conversation
from .errors import FAILED, PROGRAM
from .explain import why_not_connected
from .lines import InputLines, OutputLines
from .terminal import Terminal

_SIGNALLED = 128
_NORMAL_CODES = (CloseCode.NORMAL, CloseCode.GOING_AWAY, CloseCode.NO_STATUS)
_NO_CONNECTION = (OSError, trio.TooSlowError, HandshakeRefused, ConnectionClosed)


def connect(
    *,
    url: str,
    headers: tuple[str, ...],
    subprotocols: tuple[str, ...],
    keep_on: bool,
    unix: str | None,
    ca: str | None,
    insecure: bool,
    wait: float | None,
    open_timeout: float,
    silence: float,
) -> int:
    """Converse until one side ends it. Returns the exit status.

    After the end of a pipe that is when the server is silent for ``wait`` seconds; without ``wait`` for
    ``silence`` seconds, or never if the output is a terminal.
    """
    options: ConnectOptions = {
        "headers": [_header(text) for text in headers],
        "subprotocols": subprotocols,
        "ssl_context": _tls(url, ca, insecure),
        "open_stream": None if unix is None else partial(trio.open_unix_socket, unix),
        "settings": Settings(open_timeout=open_timeout, max_message_size=None),
    }
    if sys.stdin.isatty() and sys.stdout.isatty():
        terminal = Terminal()
        conversation = Conversation(terminal.lines, terminal, 0.0)
    else:
        terminal = None
        if wait is None:
            wait = inf if sys.stdout.isatty() else silence
        conversation = Conversation(InputLines(sys.stdin.fileno()), OutputLines(sys.stdout), wait)
    return trio.run(Session(url, options, conversation, keep_on, terminal).run)


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise UsageError(f"--header {text!r} is not like 'Name: value'")
    return name.strip(), value.strip()


def _tls(url: str, ca: str | None, insecure: bool) -> ssl.SSLContext | None:
    if not url.lower().startswith("wss:"):
        if ca is not None or insecure:
            raise UsageError(f"--ca and --insecure are for wss://, not for {url}")
        return None
    try:
        context = ssl.create_default_context(cafile=ca)
    except OSError as problem:
        raise UsageError(f"--ca: cannot use {ca}: {problem.strerror or problem}") from None
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


@attrs.define
class Session:
    """One run of the command."""

    url: str
    options: ConnectOptions
    conversation: Conversation
    keep_on: bool
    terminal: Terminal | None
    _open: trio.CancelScope | None = attrs.field(default=None, init=False)
    _last_words: str = attrs.field(default="", init=False)
    _status: int = attrs.field(default=0, init=False)

    async def run(self) -> int:
        """Talk to the server until the input, the server or a signal ends it; return the exit status."""
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._handle_signals, signals, nursery.cancel_scope)
                if self.terminal is not None:
                    nursery.start_soon(self.terminal.run)
                with self._showing_notices(nursery):
                    await self._connect()
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
        await self.conversation.display.notice(f"{PROGRAM}: {escaped(' '.join(text.split()))}")

    async def _connect(self) -> None:
        try:
            await (self._come_back() if self.keep_on else self._once())
        except _NO_CONNECTION as problem:  # before ValueError, which a certificate's failure also is
            self._end(why_not_connected(problem, self.url), FAILED)
        except ValueError as problem:
            raise UsageError(str(problem)) from None

    async def _once(self) -> None:
        async with open_connection(self.url, **self.options) as connection:
            by_us = await self._converse(connection)
        self._closed(connection, by_us)

    async def _come_back(self) -> None:
        async with reconnect(self.url, **self.options) as connections:
            async for connection in connections:
                by_us = await self._converse(connection)
                if by_us:
                    break
        self._closed(connection, by_us)

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

    def _closed(self, connection: Connection, by_us: bool) -> None:
        reason = connection.close_reason
        unsent = not by_us and self.conversation.has_rest()
        good = reason is not None and reason.code in _NORMAL_CODES and not unsent
        how = f"closed{'' if by_us else ' by the server'}: {reason}"
        self._end(f"{how}; there was more to send" if unsent else how, 0 if good else FAILED)

    def _end(self, text: str, status: int) -> None:
        self._last_words = text
        self._status = self._status or status


class _Notices(logging.Handler):
    """Hands on what is logged."""

    def __init__(self, show: Callable[[str], object]) -> None:
        super().__init__()
        self._show = show

    def emit(self, record: logging.LogRecord) -> None:
        self._show(record.getMessage())
