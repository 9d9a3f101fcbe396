"""``trio-ws-app connect``: an interactive client, and a filter that sends lines and prints answers."""

from __future__ import annotations

import logging
import os
import re
import signal
import socket
import ssl
import sys
from collections.abc import AsyncIterator
from functools import partial

import attrs
import click
import trio

from ..client.connect import connect
from ..client.reconnect import ConnectOptions, reconnect
from ..connection import Connection
from ..errors import CloseCode, CloseReason, ConnectionClosed, HandshakeRefused, UsageError
from ..settings import Settings
from .conversation import Conversation
from .errors import PROGRAM
from .lines import InputLines, OutputLines

_FAILED = 1
_SIGNALLED = 128
_GOODBYES = (CloseCode.NORMAL, CloseCode.GOING_AWAY, CloseCode.NO_STATUS)
_NO_CONNECTION = (OSError, trio.TooSlowError, HandshakeRefused, ConnectionClosed)

_EXAMPLES = """\b
Examples:
  trio-ws-app connect ws://127.0.0.1:8765
  printf 'a\\nb\\n' | trio-ws-app connect ws://127.0.0.1:8765
  trio-ws-app connect wss://example.com/feed -H 'Authorization: Bearer TOKEN' --reconnect
"""


@click.command("connect", epilog=_EXAMPLES)
@click.argument("url")
@click.option("-H", "--header", "headers", multiple=True, metavar="'NAME: VALUE'", help="Of the request.")
@click.option("--subprotocol", "subprotocols", multiple=True, metavar="NAME", help="Offered, the best first.")
@click.option("--reconnect", "keep_on", is_flag=True, help="Come back when the connection breaks off.")
@click.option("--unix", metavar="PATH", help="Go through this Unix socket.")
@click.option("--ca", metavar="FILE", help="Trust the authorities in this file (PEM), not the system's.")
@click.option("--insecure", is_flag=True, help="Trust every certificate.")
@click.option(
    "--wait",
    type=click.FloatRange(0),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="After the end of the input, wait for answers until the server is silent for so long.",
)
@click.option(
    "--open-timeout",
    type=click.FloatRange(0, min_open=True),
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="Time for the connection to open.",
)
def connect_command(
    *,
    url: str,
    headers: tuple[str, ...],
    subprotocols: tuple[str, ...],
    keep_on: bool,
    unix: str | None,
    ca: str | None,
    insecure: bool,
    wait: float,
    open_timeout: float,
) -> int:
    """Connect to a WebSocket server; send the lines of standard input, print what comes.

    In a terminal type a message a line; Ctrl-D says goodbye. In a pipe each line is a message, each answer
    is printed on a line of its own (a binary one as "binary" and its bytes in hexadecimal), and
    some silence after the end of the input ends it. The close code goes to standard error.

    Exit status: 0 after a normal goodbye, 1 when there is no connection or it ends otherwise, 2 for a
    mistake in the command.
    """
    options: ConnectOptions = {
        "headers": [_header(text) for text in headers],
        "subprotocols": subprotocols,
        "ssl_context": _tls(url, ca, insecure),
        "open_stream": None if unix is None else partial(trio.open_unix_socket, unix),
        "settings": Settings(open_timeout=open_timeout, max_message_size=None),
    }
    if keep_on:
        logger = logging.getLogger("trio_ws_app.client")
        logger.addHandler(_Teller())
        logger.setLevel(logging.INFO)
    output = OutputLines(sys.stdout, sys.stdin.isatty() and sys.stdout.isatty())
    conversation = Conversation(InputLines(sys.stdin.fileno()), output, wait)
    return trio.run(_Client(url, options, conversation, keep_on).run)


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
class _Client:
    """One run of the command."""

    url: str
    options: ConnectOptions
    conversation: Conversation
    keep_on: bool
    _everything: trio.CancelScope = attrs.field(factory=trio.CancelScope, init=False)
    _talking: trio.CancelScope | None = attrs.field(default=None, init=False)
    _status: int = attrs.field(default=0, init=False)

    async def run(self) -> int:
        """Talk to the server until the input, the server or a signal ends it; the exit status."""
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._obey, signals)
                with self._everything:
                    await self._connect()
                nursery.cancel_scope.cancel()
        return self._status

    async def _obey(self, signals: AsyncIterator[int]) -> None:
        """End with a goodbye where there is somebody to say it to; at a second signal at once."""
        self._status = _SIGNALLED + await anext(signals)
        if self._talking is not None:
            self._talking.cancel()
            await anext(signals)
        self._everything.cancel()

    async def _connect(self) -> None:
        try:
            await (self._come_back() if self.keep_on else self._once())
        except ValueError as problem:
            raise UsageError(str(problem)) from None
        except _NO_CONNECTION as problem:
            self._fail(_explained(problem, self.url))

    async def _once(self) -> None:
        async with connect(self.url, **self.options) as connection:
            by_us = await self._talk(connection)
        self._tell_end(connection.close_reason, by_us)

    async def _come_back(self) -> None:
        reason, by_us = None, False
        async with reconnect(self.url, **self.options) as connections:
            async for connection in connections:
                by_us = await self._talk(connection)
                if by_us:
                    break
                reason = connection.close_reason
        self._tell_end(connection.close_reason if by_us else reason, by_us)

    async def _talk(self, connection: Connection) -> bool:
        """True when this side has ended it."""
        if self.conversation.output.is_terminal:
            _tell(f"connected to {_without_secrets(self.url)}; Ctrl-D says goodbye")
        try:
            with trio.CancelScope() as self._talking:
                return await self.conversation.hold(connection)
        except BrokenPipeError:  # nobody reads our output any more
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        finally:
            self._talking = None
        return True

    def _tell_end(self, reason: CloseReason | None, by_us: bool) -> None:
        _tell(f"closed{'' if by_us else ' by the server'}: {reason}")
        unsent = not by_us and not self.conversation.output.is_terminal and self.conversation.lines.has_rest()
        if reason is None or reason.code not in _GOODBYES or unsent:
            self._status = self._status or _FAILED

    def _fail(self, text: str) -> None:
        _tell(text)
        self._status = _FAILED


def _explained(problem: Exception, url: str) -> str:
    """Why there is no connection, in one line."""
    where = _without_secrets(url)
    if isinstance(problem, HandshakeRefused):
        body = problem.body.decode(errors="replace")[:200]
        return f"{where} refuses the connection with HTTP status {problem.status}: {body}".rstrip(": \n")
    if isinstance(problem, ConnectionClosed):
        return f"the connection to {where} ended: {problem.reason}"
    if isinstance(problem, trio.TooSlowError):
        return f"no connection to {where} in time; --open-timeout gives it more"
    if isinstance(problem, ssl.SSLCertVerificationError):
        return f"{where} cannot be trusted: {problem.verify_message}; --ca names the authority to trust"
    if isinstance(problem, ssl.SSLError) and problem.reason == "WRONG_VERSION_NUMBER":
        return f"{where} does not speak TLS: write ws:// instead of wss://"
    return f"cannot connect to {where}: {_innermost(problem)}"


def _innermost(problem: BaseException) -> str:
    """What the system said; Trio tries several addresses, and puts their errors together."""
    while isinstance(problem, BaseExceptionGroup):
        problem = problem.exceptions[0]
    if isinstance(problem.__cause__, OSError | BaseExceptionGroup):
        return _innermost(problem.__cause__)
    if isinstance(problem, OSError) and not isinstance(problem, socket.gaierror | ssl.SSLError):
        return os.strerror(problem.errno) if problem.errno else str(problem)
    return getattr(problem, "strerror", None) or str(problem)


def _without_secrets(url: str) -> str:
    """The URL without user and password, and without its query."""
    return re.sub(r"//[^/@]*@", "//", url).partition("?")[0]


def _tell(text: str) -> None:
    click.echo(f"{PROGRAM}: {' '.join(text.split())}", err=True)


class _Teller(logging.Handler):
    """Shows what ``reconnect`` says."""

    def emit(self, record: logging.LogRecord) -> None:
        _tell(record.getMessage())
