"""``trio-ws-app connect``: an interactive client, and a filter that sends lines and prints answers."""

from __future__ import annotations

import ssl
import sys
from functools import partial
from math import inf

import click
import trio

from ..errors import UsageError
from ..settings import Settings
from .options import FloatRange, settings_from, text

_SILENCE = 5.0  # seconds

_EXAMPLES = """\b
Examples:
  trio-ws-app connect ws://127.0.0.1:8765
  printf 'a\\nb\\n' | trio-ws-app connect --wait 1 ws://127.0.0.1:8765 > answers.txt
  trio-ws-app token ann | trio-ws-app connect --wait inf ws://127.0.0.1:8765 | tee events.txt
  trio-ws-app connect wss://example.com/feed -H 'Authorization: Bearer TOKEN' --reconnect
"""


@click.command("connect", epilog=_EXAMPLES)
@click.argument("url", type=text)
@click.option("-H", "--header", "headers", multiple=True, metavar="'NAME: VALUE'", help="Of the request.")
@click.option("--subprotocol", "subprotocols", multiple=True, metavar="NAME", help="Offered, the best first.")
@click.option("--reconnect", "keep_on", is_flag=True, help="Come back when the connection breaks off.")
@click.option("--unix", metavar="PATH", help="Go through this Unix socket.")
@click.option("--ca", metavar="FILE", help="Trust the authorities in this file (PEM), not the system's.")
@click.option("--insecure", is_flag=True, help="Trust every certificate.")
@click.option(
    "--wait",
    type=FloatRange(0),
    metavar="SECONDS",
    help="After the end of the input, wait for answers until the server is silent for so long.  "
    f"[default: {_SILENCE:g}; inf if the output is a terminal]",
)
@click.option(
    "--open-timeout",
    type=FloatRange(),
    default=Settings().open_timeout,
    show_default=True,
    metavar="SECONDS",
    help="Time for the connection to open.",
)
def connect_command(
    url: str,
    headers: tuple[str, ...],
    subprotocols: tuple[str, ...],
    keep_on: bool,
    unix: str | None,
    ca: str | None,
    insecure: bool,
    wait: float | None,
    open_timeout: float,
) -> int:
    """Connect to a WebSocket server; send the lines of standard input, print what comes.

    In a terminal type a message a line, with the keys of readline; Ctrl-D closes the connection. In a pipe
    each line is a message, and each answer is printed on a line of its own (a binary one as "binary" and its
    bytes in hexadecimal). The close code goes to standard error.

    The end of a pipe says that there is nothing more to send, not that nothing is awaited: what the server
    sends is still printed. If the output is a terminal, that goes on until the server or Ctrl-C ends it; if
    another program reads it, until the server has been silent for --wait seconds.

    Exit status: 0 after a normal close, 1 when there is no connection, or it ends otherwise or before all
    of a pipe was sent, 2 for a mistake in the command.
    """
    from ..client.reconnect import ConnectOptions
    from .conversation import Conversation, Session
    from .lines import InputLines, OutputLines
    from .terminal import Terminal

    options: ConnectOptions = {
        "headers": [_header(text) for text in headers],
        "subprotocols": subprotocols,
        "ssl_context": _tls(url, ca, insecure),
        "open_stream": None if unix is None else partial(trio.open_unix_socket, unix),
        "settings": settings_from({"open_timeout": open_timeout, "max_message_size": None}),
    }
    if sys.stdin.isatty() and sys.stdout.isatty():
        terminal = Terminal()
        conversation = Conversation(terminal.lines, terminal, 0.0)
    else:
        if wait is None:
            wait = inf if sys.stdout.isatty() else _SILENCE
        conversation = Conversation(InputLines(sys.stdin.fileno()), OutputLines(sys.stdout), wait)
    return trio.run(Session(url, options, conversation, keep_on).run)


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
    if ca == "":  # which would stand for the system's authorities
        raise UsageError("--ca: it is empty: give a file of authorities (PEM)")
    try:
        context = ssl.create_default_context(cafile=ca)
    except OSError as problem:
        raise UsageError(f"--ca: cannot use {ca}: {problem.strerror or problem}") from None
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
