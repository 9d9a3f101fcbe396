"""``trio-ws-app connect``: what it connects, the server to a terminal or to a pipe."""

from __future__ import annotations

import ssl
import sys
from functools import partial
from math import inf

import trio

from ..client.reconnect import ConnectOptions
from ..errors import UsageError
from ..settings import Settings
from .conversation import Conversation
from .lines import InputLines, OutputLines
from .session import Session
from .terminal import Terminal


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
        conversation = Conversation(terminal, terminal, 0.0)
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
